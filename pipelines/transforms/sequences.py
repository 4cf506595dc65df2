"""Behaviour sequences: what a user did strictly before a request."""

from __future__ import annotations

import bisect
from collections.abc import Sequence as Values
from typing import NamedTuple

from ctr_tf.schema import Sequence
from pipelines.transforms.catalogue import Items
from pipelines.transforms.layout import Layout
from pipelines.transforms.rows import MICROSECONDS, LogRow


class Behaviours(NamedTuple):
    """One sequence as of a request, oldest first.

    Args:
        length: L.
        attributes: L values of each attribute, in the order of the schema.
        times: L Unix seconds.
    """

    length: int
    attributes: tuple[Values, ...]
    times: Values[int]


class History:
    """What one user did, to be asked for what was before a time.

    Events of the very time of a request are not before it, whatever their order in the log.

    Args:
        name: the sequence's name.
        layout: where everything is read from.
        rows: the user's impressions, sorted by time, request id and place in the log.
        items: the catalogue; empty without items.

    Example: see `tests/pipelines/test_sequences.py`.
    """

    def __init__(self, name: str, layout: Layout, rows: list[LogRow], items: Items):
        sequence = layout.schema.sequences[name]
        places = [layout.place(f"{name}_{attribute}") for attribute in sequence.attributes]
        events = behaviours(layout, sequence, rows)
        self._length = sequence.max_length
        self._clock = [row.time for row in events]
        self._seconds = [row.time // MICROSECONDS for row in events]
        self._columns = [
            [items[row.item][index] for row in events]
            if group == "item"
            else [row.event[index] for row in events]
            for group, index in places
        ]

    def before(self, time: int) -> Behaviours:
        """The newest behaviours strictly before `time`, in Unix microseconds."""
        end = bisect.bisect_left(self._clock, time)
        start = max(0, end - self._length)
        attributes = tuple([column[start:end] for column in self._columns])
        return Behaviours(end - start, attributes, self._seconds[start:end])


def behaviours(layout: Layout, sequence: Sequence, rows: list[LogRow]) -> list[LogRow]:
    """The rows that count as behaviours: all, or those with a positive label of a task."""
    if sequence.positive is None:
        return rows
    task = list(layout.schema.tasks).index(sequence.positive)
    return [row for row in rows if row.labels[task] == 1.0]


def stated(sequence: Sequence, values: tuple[tuple, ...]) -> Behaviours:
    """A sequence that the log itself holds, cut to its newest `max_length`.

    Args:
        sequence: its configuration.
        values: of each attribute, all of one length.
    """
    attributes = tuple(column[-sequence.max_length :] for column in values)
    return Behaviours(len(attributes[0]), attributes, ())
