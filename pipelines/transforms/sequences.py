"""Behaviour sequences: what a user did strictly before a request."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from collections.abc import Sequence as Values
from operator import itemgetter
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
        rows: the user's impressions, or behaviours where they are a log of their own, sorted by
            time, request id and place in the log.
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
        return self._window(bisect.bisect_left(self._clock, time))

    def windows(self, time: float) -> list[Behaviours]:
        """All behaviours strictly before `time`, each once, in windows from the newest backwards.

        Every window but the last, which has the oldest behaviours, holds `max_length` of them.
        """
        end = bisect.bisect_left(self._clock, time)
        return [self._window(stop) for stop in range(end, 0, -self._length)]

    def _window(self, end: int) -> Behaviours:
        start = max(0, end - self._length)
        attributes = tuple([column[start:end] for column in self._columns])
        return Behaviours(end - start, attributes, self._seconds[start:end])


def newest(rows: list, times: Iterable[int], length: int) -> list:
    """The rows that are among the `length` newest strictly before any of the times.

    Args:
        rows: `LogRow`s, or plain tuples of their values, in the order of their time.
        times: Unix microseconds, ascending.
        length: the most rows that one time asks for.

    Example:
        >>> newest([(1,), (2,), (3,), (4,), (5,)], [3, 5], 1)
        [(2,), (4,)]
    """
    kept: list = []
    done = 0
    for time in times:
        end = bisect.bisect_left(rows, time, key=itemgetter(0))
        kept += rows[max(done, end - length) : end]
        done = max(done, end)
    return kept


class Newest:
    """The behaviours that any request of one user asks for, out of all that come, in any order.

    What no request can ask for any more is forgotten as rows come in: about twice what they ask
    for is held, and `SPARE` rows.

    Args:
        times: of the requests, Unix microseconds, ascending.
        length: the most behaviours that one of them asks for.
    """

    SPARE = 1000

    def __init__(self, times: list[int], length: int):
        self._times = times
        self._length = length
        self._rows: list[tuple] = []
        self._limit = self.SPARE
        self.seen = 0
        self.held = 0

    def add(self, rows: list[tuple]) -> None:
        """Takes further rows."""
        self._rows += rows
        self.seen += len(rows)
        self.held = max(self.held, len(self._rows))
        if len(self._rows) > self._limit:
            self._limit = 2 * len(self.rows()) + self.SPARE

    def rows(self) -> list[tuple]:
        """What the requests ask for of all rows so far, by time and place in the log."""
        self._rows.sort(key=itemgetter(0, 2, 3))
        self._rows = newest(self._rows, self._times, self._length)
        return self._rows


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
