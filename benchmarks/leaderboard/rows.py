"""Prepared TFRecords as flat arrays: one row an impression, as row-wise libraries want them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctr_tf.data.manifest import SCHEMA, Manifest
from ctr_tf.data.requests import Codec, Request, read_requests
from ctr_tf.data.vocabularies import Vocabularies
from ctr_tf.schema import Categorical, Schema
from ctr_tf.schema.features import MISSING_INT

SPLITS = ("train", "validation", "test")


class Indices(dict):
    """Raw values to rows of an encoder's table, as the preprocessing graph gives them.

    Row 0 stands for padding; a vocabulary's or an identity's rows follow, then one row for every
    other value.

    Args:
        size: values that have a row of their own.
        known: value to its row.
    """

    def __init__(self, size: int, known: dict[Any, int]):
        super().__init__(known)
        self.size = size

    def __missing__(self, value: Any) -> int:
        return self.size + 1


@dataclass(frozen=True)
class Layout:
    """Which of a schema's features are what; the one shape of log that the comparison knows.

    Args:
        user: names of the user's fields.
        item: names of the candidate's fields, which every behaviour has too.
        behaviour: names of a behaviour's own attributes, such as a rating.
        sequence: name of the sequence.
        task: name of the task.

    Raises:
        ValueError: the schema has another shape.
    """

    user: list[str]
    item: list[str]
    behaviour: list[str]
    sequence: str
    task: str

    @classmethod
    def of(cls, schema: Schema) -> "Layout":
        """The layout of a schema."""
        for name, encoder in schema.encoders.items():
            if not isinstance(encoder, Categorical) or encoder.encoding == "hashed":
                raise ValueError(f"{name}: must be a vocabulary or an identity")
            if encoder.oov != 1:
                raise ValueError(f"{name}: oov must be 1, not {encoder.oov}: rows are not hashed")
        if len(schema.sequences) != 1 or len(schema.tasks) != 1 or schema.side("context"):
            raise ValueError("the schema must have one sequence, one task and no context feature")
        (sequence, spec), (task,) = *schema.sequences.items(), tuple(schema.tasks)
        item = list(schema.side("candidate"))
        missing = [name for name in item if name not in spec.attributes]
        if missing:
            raise ValueError(f"sequences.{sequence}: lacks the candidate's {missing[0]!r}")
        if any(schema.features[name].multi for name in schema.side("user")):
            raise ValueError("user features must have one value")
        own = [name for name in spec.attributes if name not in item]
        return cls(list(schema.side("user")), item, own, sequence, task)


def convert(prepared: Path) -> dict[str, np.ndarray]:
    """Reads a prepared folder.

    Items are kept once: `item/<field>` (I, values) holds the rows of their fields, I from 1, and
    behaviours and candidates are numbers of items, 0 for padding. For each split s, over its R
    requests and M impressions: `s/user/<field>` (R,), `s/history` and `s/behaviour/<attribute>`
    (R, L), `s/who` (R,) a number of the user, `s/request` (M,), `s/item` (M,), `s/label` (M,).
    `tables` is JSON: the rows of each field's embedding table.

    Args:
        prepared: what the preparation job wrote.

    Raises:
        ValueError: a schema of another shape, or a label weight that is neither 0 nor 1.
    """
    schema = Schema.from_json((prepared / SCHEMA).read_text(encoding="utf-8"))
    manifest = Manifest.read(prepared, schema)
    layout = Layout.of(schema)
    length = schema.sequences[layout.sequence].max_length
    vocabularies = Vocabularies(schema, prepared)
    codec = Codec(schema, prepared)
    encoders = {name: schema.encoder(name) for name in layout.user + layout.item}
    encoders |= {name: schema.encoder(name, layout.sequence) for name in layout.behaviour}
    indices = {name: _indices(schema, vocabularies, found) for name, found in encoders.items()}
    items: dict[tuple, int] = {}
    users: dict[bytes, int] = {}
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        columns = _Columns(schema, layout, indices, items, users, length)
        for path in manifest.paths(prepared, split):
            for request in read_requests(path, codec):
                columns.add(request)
        arrays |= {f"{split}/{name}": value for name, value in columns.arrays().items()}
    for position, name in enumerate(layout.item):
        values = [fields[position] for fields in items]
        values = values if schema.features[name].multi else [(value,) for value in values]
        found = np.zeros((1 + len(values), max(map(len, values), default=1)), np.int32)
        for row, own in enumerate(values, start=1):
            found[row, : len(own)] = [indices[name][value] for value in own]
        arrays[f"item/{name}"] = found
    tables = {name: vocabularies.rows[found] for name, found in encoders.items()}
    return arrays | {"tables": np.array(json.dumps(tables))}


class _Columns:
    """The growing columns of one split."""

    def __init__(self, schema, layout, indices, items, users, length):
        self.schema, self.layout, self.indices = schema, layout, indices
        self.items, self.users, self.length = items, users, length
        self.per_request: dict[str, list] = {f"user/{name}": [] for name in layout.user}
        self.per_request |= {f"behaviour/{name}": [] for name in layout.behaviour}
        self.per_request |= {"history": [], "who": []}
        self.request: list[int] = []
        self.item: list[int] = []
        self.label: list[float] = []

    def add(self, request: Request) -> None:
        layout, rows, features = self.layout, self.per_request, request["features"]
        for name in layout.user:
            rows[f"user/{name}"].append(self.indices[name][features[name]])
        rows["who"].append(self.users.setdefault(request["user"], len(self.users)))
        rows["history"].append(self._items(features, f"{layout.sequence}_"))
        for name in layout.behaviour:
            values = features[f"{layout.sequence}_{name}"]
            rows[f"behaviour/{name}"].append([self.indices[name][value] for value in values])
        number = len(rows["who"]) - 1
        labels, weights = request["labels"][layout.task], request["weights"][layout.task]
        for item, label, weight in zip(self._items(features, ""), labels, weights):
            if weight not in (0.0, 1.0):
                raise ValueError(f"weights/{layout.task}: must be 0 or 1, got {weight}")
            if weight:
                self.request.append(number)
                self.item.append(item)
                self.label.append(label)

    def _items(self, features: dict[str, Any], prefix: str) -> list[int]:
        columns = []
        for name in self.layout.item:
            values = features[f"{prefix}{name}"]
            multi = self.schema.features[name].multi
            columns.append([tuple(value) for value in values] if multi else values)
        numbers = self.items
        return [numbers.setdefault(fields, len(numbers) + 1) for fields in zip(*columns)]

    def arrays(self) -> dict[str, np.ndarray]:
        found = {}
        for name, values in self.per_request.items():
            if name == "history" or name.startswith("behaviour/"):
                padded = np.zeros((len(values), self.length), np.int32)
                for row, own in enumerate(values):
                    padded[row, : len(own)] = own
                found[name] = padded
            else:
                found[name] = np.array(values, np.int32)
        columns = {"request": self.request, "item": self.item}
        found |= {name: np.array(value, np.int32) for name, value in columns.items()}
        return found | {"label": np.array(self.label, np.float32)}


def _indices(schema: Schema, vocabularies: Vocabularies, encoder: str) -> Indices:
    spec = schema.encoders[encoder]
    if spec.encoding == "identity":
        known = {value: value + 1 for value in range(spec.size)}
    else:
        lines = vocabularies.path(encoder).read_bytes().split(b"\n")[:-1]
        values = map(int, lines) if spec.dtype == "int" else lines
        known = {value: row for row, value in enumerate(values, start=1)}
    missing = MISSING_INT if spec.dtype == "int" else b""
    return Indices(len(known), known | {missing: 0})
