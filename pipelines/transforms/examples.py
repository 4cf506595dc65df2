"""Encodes a request as the Example that `ctr_tf.data.records` describes."""

from __future__ import annotations

from collections.abc import Sequence as Values
from itertools import chain
from typing import NamedTuple

from ctr_tf.data.example_proto import Example, serialise
from ctr_tf.schema import InputSpec
from pipelines.transforms.catalogue import Items
from pipelines.transforms.layout import Layout
from pipelines.transforms.rows import MICROSECONDS, Request
from pipelines.transforms.sequences import Behaviours, stated

LISTS = {"string": "bytes_list", "int64": "int64_list", "float32": "float_list"}


class Plan(NamedTuple):
    """How one input is put into an Example.

    Args:
        key: of the feature.
        kind: which list holds its values.
        multi: whether a candidate or behaviour has several.
        group: where the values live.
        index: their place there.
    """

    key: str
    kind: str
    multi: bool
    group: str
    index: int


class Encoder:
    """Encodes requests.

    Args:
        layout: where everything is read from.
        items: the catalogue; empty without items.
    """

    def __init__(self, layout: Layout, items: Items):
        self._items = items
        self._keys = layout.schema.keys
        self._tasks = list(layout.schema.tasks)
        self._single: list[Plan] = []
        self._candidates: list[Plan] = []
        self._sequences: dict[str, list[Plan]] = {name: [] for name in layout.schema.sequences}
        self._timed = {name for name, s in layout.schema.sequences.items() if s.timestamps}
        self._stated = {
            name: sequence
            for name, sequence in layout.schema.sequences.items()
            if sequence.separator is not None
        }
        for spec in layout.schema.inputs:
            if spec.feature is not None:
                self._plans(spec).append(_plan(layout, spec))

    def _plans(self, spec: InputSpec) -> list[Plan]:
        if spec.sequence is not None:
            return self._sequences[spec.sequence]
        return self._candidates if "N" in spec.axes else self._single

    def encode(
        self,
        user: bytes,
        values: tuple,
        request: Request,
        behaviours: dict[str, Behaviours],
        negatives: list[bytes],
    ) -> bytes:
        """The serialised Example of a request.

        Args:
            user: the user's id.
            values: of the layout's `user` group.
            request: the request.
            behaviours: of every sequence that is built from the log.
            negatives: ids of sampled negatives, candidates after those of the log.
        """
        example = Example()
        put = example.features.feature
        shared = request.rows[0].shared
        for plan in self._single:
            source = values if plan.group == "user" else shared
            value = source[plan.index]
            _put(put, plan, value if plan.multi else (value,))
        for name, plans in self._sequences.items():
            found = behaviours.get(name)
            if found is None:
                columns = tuple(shared[plan.index] for plan in plans)
                found = stated(self._stated[name], columns)
            put[f"features/{name}/length"].int64_list.value.append(found.length)
            for plan, column in zip(plans, found.attributes):
                _put_each(put, plan, column)
            if name in self._timed:
                _put(put, Plan(f"features/{name}_time", "int64_list", False, "", 0), found.times)
        self._put_candidates(put, request, negatives)
        self._put_keys(put, user, request)
        return serialise(example)

    def _put_candidates(self, put: object, request: Request, negatives: list[bytes]) -> None:
        ids = [row.item for row in request.rows] + negatives
        for plan in self._candidates:
            if plan.group == "item":
                column = [self._items[item][plan.index] for item in ids]
            else:
                column = [row.candidate[plan.index] for row in request.rows]
            _put_each(put, plan, column)
        for index, task in enumerate(self._tasks):
            labels = [row.labels[index] for row in request.rows] + [0.0] * len(negatives)
            weights = [row.weights[index] for row in request.rows] + [1.0] * len(negatives)
            put[f"labels/{task}"].float_list.value.extend(labels)
            put[f"weights/{task}"].float_list.value.extend(weights)
        put["request/candidates"].int64_list.value.append(len(ids))
        if self._keys.item:
            put["request/items"].bytes_list.value.extend(ids)

    def _put_keys(self, put: object, user: bytes, request: Request) -> None:
        put["request/id"].bytes_list.value.append(request.id)
        if self._keys.user:
            put["request/user"].bytes_list.value.append(user)
        if self._keys.time:
            put["request/time"].int64_list.value.append(request.time // MICROSECONDS)


def _plan(layout: Layout, spec: InputSpec) -> Plan:
    group, index = layout.place(spec.name)
    return Plan(f"features/{spec.name}", LISTS[spec.dtype], "M" in spec.axes, group, index)


def _put(put: object, plan: Plan, values: Values) -> None:
    found = getattr(put[plan.key], plan.kind)
    found.SetInParent()
    found.value.extend(values)


def _put_each(put: object, plan: Plan, column: Values) -> None:
    if not plan.multi:
        _put(put, plan, column)
        return
    _put(put, plan, list(chain.from_iterable(column)))
    lengths = put[f"{plan.key}/lengths"].int64_list
    lengths.SetInParent()
    lengths.value.extend(map(len, column))
