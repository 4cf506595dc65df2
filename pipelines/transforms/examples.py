"""Puts together what `ctr_tf.data.requests` encodes as one request."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ctr_tf.data.requests import Codec, Encoded
from ctr_tf.schema import Schema
from pipelines.transforms.catalogue import Items
from pipelines.transforms.layout import Layout
from pipelines.transforms.rows import MICROSECONDS, Request
from pipelines.transforms.sequences import Behaviours, stated


@lru_cache(maxsize=1)
def load_codec(schema: str, folder: Path, work: Path) -> Codec:
    """The codec of a job, held once a process.

    Args:
        schema: the schema's JSON.
        folder: with the vocabularies.
        work: the job's work folder, which no other job has.
    """
    return Codec(Schema.from_json(schema), folder)


class Plan(NamedTuple):
    """Where the values of one input live.

    Args:
        name: of the input.
        group: of the layout.
        index: their place there.
    """

    name: str
    group: str
    index: int


class Encoder:
    """Encodes requests.

    Args:
        layout: where everything is read from.
        items: the catalogue; empty without items.
        codec: how requests are written.
    """

    def __init__(self, layout: Layout, items: Items, codec: Codec):
        self._items = items
        self._codec = codec
        self._tasks = list(layout.schema.tasks)
        self._single: list[Plan] = []
        self._candidates: list[Plan] = []
        self._sequences: dict[str, list[Plan]] = {name: [] for name in layout.schema.sequences}
        self._stated = {
            name: sequence
            for name, sequence in layout.schema.sequences.items()
            if sequence.separator is not None
        }
        for spec in layout.schema.inputs:
            if spec.feature is None:
                continue
            plans = self._candidates if "N" in spec.axes else self._single
            if spec.sequence is not None:
                plans = self._sequences[spec.sequence]
            plans.append(Plan(spec.name, *layout.place(spec.name)))

    def encode(
        self,
        user: bytes,
        values: tuple,
        request: Request,
        behaviours: dict[str, Behaviours],
        negatives: list[bytes],
    ) -> Encoded:
        """Encodes a request.

        Args:
            user: the user's id.
            values: of the layout's `user` group.
            request: the request.
            behaviours: of every sequence that is built from the log; one that the log states is
                as in the request's first row where it is not given.
            negatives: ids of sampled negatives, candidates after those of the log.
        """
        rows, shared = request.rows, request.rows[0].shared
        ids = [row.item for row in rows] + negatives
        features = {
            name: (values if group == "user" else shared)[index]
            for name, group, index in self._single
        }
        for name, group, index in self._candidates:
            if group == "item":
                features[name] = [self._items[item][index] for item in ids]
            else:
                features[name] = [row.candidate[index] for row in rows]
        for name, plans in self._sequences.items():
            found = behaviours.get(name)
            if found is None:
                columns = tuple(shared[plan.index] for plan in plans)
                found = stated(self._stated[name], columns)
            features |= {plan.name: own for plan, own in zip(plans, found.attributes)}
            features[f"{name}_time"] = found.times
        sampled = len(negatives)
        found = {
            "id": request.id,
            "user": user,
            "time": request.time // MICROSECONDS,
            "items": ids,
            "features": features,
            "labels": {
                task: [row.labels[index] for row in rows] + [0.0] * sampled
                for index, task in enumerate(self._tasks)
            },
            "weights": {
                task: [row.weights[index] for row in rows] + [1.0] * sampled
                for index, task in enumerate(self._tasks)
            },
        }
        return self._codec.encode(found)
