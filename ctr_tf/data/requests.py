"""Requests to records and back: the one place that states what a record holds.

A record of a TFRecord file is a `tf.train.Example` of up to `BLOCK` requests, so that what a reader
does once a record is shared by many:

| key | type | values |
|---|---|---|
| `requests` | bytes | each request, a serialised `tf.train.Example` |
| `candidates` | int64 | N of each request |
| `lengths/<sequence>` | int64 | L of each request |

A request has few features, however many inputs there are. N is its number of candidates, L the
number of behaviours of a sequence, M the number of values of a multi-valued input:

| key | type | values |
|---|---|---|
| `request` | int64 | 1 row: the Unix time in seconds, with `keys.time`; then the columns of the user's and the context's categorical inputs |
| `candidates` | int64 | N rows: for each task 0 where its label does not count, 1 for label 0, 2 for label 1; then the columns of the candidates' categorical inputs |
| `sequences/<sequence>` | int64 | L rows: with `timestamps` the seconds from the behaviour to the request; then the columns of its attributes |
| `values/<input>` | int64 | of each multi-valued input all codes, flat |
| `numbers/request`, `numbers/candidates` | float | 1 and N rows: the numeric inputs |
| `raw/<input>` | bytes or int64 | of each text or vector input the 1 or N values |
| `weights` | float | N rows: the sample weight by task; left out where each is 0 or 1 |
| `unknown` | bytes | values that have no code of their own, each once; integers in decimal |
| `id` | bytes | 1 |
| `user` | bytes | 1, with `keys.user`; empty for a row without a user |
| `items` | bytes | N, with `keys.item` |

The columns of categorical inputs are first the numbers of values of the multi-valued ones, then the
codes of the others, each in the order of `Schema.inputs`. A code is 0 for a missing value, 1 + k for
line k of its encoder's vocabulary or for the identity k, and 1 + V + k for entry k of `unknown`,
where V counts the vocabulary or the identities; a hashed encoder has V = 0. So a frequent id is a
byte or two, its row in the embedding table is its code, and every raw value can be told from record
and vocabulary, whose SHA-256 is in the manifest. A missing text or vector id is `""` or
`MISSING_INT`, a missing number its default.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ctr_tf.data.example_proto import Example, serialise
from ctr_tf.data.manifest import vocabulary_path
from ctr_tf.data.records import RecordWriter, read_records
from ctr_tf.schema import MISSING_INT, Categorical, InputSpec, Numeric, Schema

BLOCK = 1024
"""Requests a record."""

Request = dict[str, Any]
"""`id`, `labels` and `weights` by task (N each), `features` by input name, nested as their axes
without B; with the schema's keys `user`, `time` and `items`. Text is bytes."""


class Group(NamedTuple):
    """Inputs that lie side by side, a row a request, candidate or behaviour.

    Args:
        key: of the feature.
        ahead: columns before those of the inputs.
        multi: inputs of several values.
        single: inputs of one value.
    """

    key: str
    ahead: int
    multi: tuple[InputSpec, ...]
    single: tuple[InputSpec, ...]

    @property
    def width(self) -> int:
        """Columns."""
        return self.ahead + len(self.multi) + len(self.single)


@dataclass(frozen=True)
class Layout:
    """Which input of a schema lies where in a request.

    Args:
        request, candidates: groups of categorical inputs.
        sequences: such groups by sequence.
        numbers: numeric inputs by the group that they belong to.
        raw: inputs whose values are kept as they are.

    Example:
        >>> schema = Schema(features={"item": {"kind": "categorical"}, "price": {
        ...     "kind": "numeric"}}, tasks={"click": {"column": "click"}})
        >>> Layout.of(schema).candidates.width
        2
    """

    request: Group
    candidates: Group
    sequences: dict[str, Group]
    numbers: dict[str, tuple[InputSpec, ...]]
    raw: tuple[InputSpec, ...]

    @classmethod
    def of(cls, schema: Schema) -> "Layout":
        """The layout of a schema."""
        coded: dict[str, list[InputSpec]] = {}
        numbers: dict[str, list[InputSpec]] = {"request": [], "candidates": []}
        raw = []
        for spec in schema.inputs:
            if spec.feature is None:
                continue
            feature = feature_of(schema, spec)
            where = "candidates" if spec.side == "candidate" else "request"
            if isinstance(feature, Categorical):
                key = where if spec.sequence is None else f"sequences/{spec.sequence}"
                coded.setdefault(key, []).append(spec)
            elif isinstance(feature, Numeric):
                numbers[where].append(spec)
            else:
                raw.append(spec)

        def group(key: str, ahead: int) -> Group:
            specs = coded.get(key, [])
            multi = tuple(spec for spec in specs if "M" in spec.axes)
            return Group(key, ahead, multi, tuple(spec for spec in specs if "M" not in spec.axes))

        return cls(
            group("request", int(schema.keys.time is not None)),
            group("candidates", len(schema.tasks)),
            {
                name: group(f"sequences/{name}", int(sequence.timestamps))
                for name, sequence in schema.sequences.items()
            },
            {where: tuple(specs) for where, specs in numbers.items()},
            tuple(raw),
        )


def feature_of(schema: Schema, spec: InputSpec) -> Any:
    """The feature of an input, or the encoder of a sequence attribute."""
    if spec.sequence is not None:
        return schema.attribute(spec.sequence, spec.feature)
    return schema.features[spec.feature]


class Encoded(NamedTuple):
    """One request as it is written.

    Args:
        data: the serialised Example.
        sizes: N, then L of each sequence.
    """

    data: bytes
    sizes: tuple[int, ...]


class Codec:
    """Encodes and decodes the requests of a prepared folder.

    Vocabularies are held in memory.

    Args:
        schema: of the folder.
        folder: with the vocabularies.

    Raises:
        FileNotFoundError: a vocabulary is missing.

    Example:
        >>> schema = Schema(features={"hour": {"kind": "categorical", "dtype": "int",
        ...     "encoding": "identity", "size": 24}}, tasks={"click": {"column": "click"}})
        >>> codec = Codec(schema, Path())
        >>> request = {"id": b"1", "features": {"hour": [7, 30]}, "labels": {"click": [1.0, 0.0]},
        ...     "weights": {"click": [1.0, 1.0]}}
        >>> codec.decode(codec.encode(request).data) == request
        True
    """

    def __init__(self, schema: Schema, folder: Path):
        self.schema = schema
        self.layout = Layout.of(schema)
        self._encoders = {
            spec.name: schema.encoder(spec.feature, spec.sequence)
            for spec in schema.inputs
            if spec.feature is not None
        }
        self._known = {
            name: _known(encoder, folder, name)
            for name, encoder in schema.encoders.items()
            if isinstance(encoder, Categorical)
        }

    def encode(self, request: Request) -> Encoded:
        """A request as it is written."""
        example, layout = Example(), self.layout
        put = example.features.feature
        unknown: dict[bytes, int] = {}
        features = request["features"]
        one = {
            spec.name: (features[spec.name],)
            for spec in (*layout.request.multi, *layout.request.single)
        }
        ahead = [(request["time"],)] if layout.request.ahead else []
        self._put_group(put, layout.request, ahead, one, unknown)
        labels, weights = request["labels"], request["weights"]
        ahead = [
            [1 + int(label) if weight else 0 for label, weight in zip(labels[task], weights[task])]
            for task in self.schema.tasks
        ]
        self._put_group(put, layout.candidates, ahead, features, unknown)
        sizes = [len(ahead[0])]
        for name, group in layout.sequences.items():
            ahead = []
            if group.ahead:
                ahead = [[request["time"] - time for time in features[f"{name}_time"]]]
            self._put_group(put, group, ahead, features, unknown)
            sizes.append(len(features[(*group.multi, *group.single)[0].name]))
        for where, specs in layout.numbers.items():
            columns = [features[spec.name] for spec in specs]
            rows = chain.from_iterable(zip(*columns)) if where == "candidates" else columns
            if columns:
                put[f"numbers/{where}"].float_list.value.extend(rows)
        for spec in layout.raw:
            value = features[spec.name]
            kind = "int64_list" if spec.dtype == "int64" else "bytes_list"
            found = getattr(put[f"raw/{spec.name}"], kind).value
            found.extend(value if "N" in spec.axes else (value,))
        rows = [weights[task] for task in self.schema.tasks]
        if any(weight not in (0.0, 1.0) for weight in chain.from_iterable(rows)):
            put["weights"].float_list.value.extend(chain.from_iterable(zip(*rows)))
        if unknown:
            put["unknown"].bytes_list.value.extend(unknown)
        put["id"].bytes_list.value.append(request["id"])
        if self.schema.keys.user:
            put["user"].bytes_list.value.append(request["user"])
        if self.schema.keys.item:
            put["items"].bytes_list.value.extend(request["items"])
        return Encoded(serialise(example), tuple(sizes))

    def _put_group(
        self, put: Any, group: Group, ahead: list, features: dict, unknown: dict[bytes, int]
    ) -> None:
        columns = list(ahead)
        for spec in group.multi:
            value = features[spec.name]
            codes = self._codes(spec, chain.from_iterable(value), unknown)
            put[f"values/{spec.name}"].int64_list.value.extend(codes)
            columns.append([len(own) for own in value])
        columns += [self._codes(spec, features[spec.name], unknown) for spec in group.single]
        if columns:
            put[group.key].int64_list.value.extend(chain.from_iterable(zip(*columns)))

    def _codes(self, spec: InputSpec, values: Iterable, unknown: dict[bytes, int]) -> list[int]:
        known = self._known[self._encoders[spec.name]]
        found = []
        for value in values:
            code = known.code(value)
            if code is None:
                raw = value if isinstance(value, bytes) else b"%d" % value
                code = 1 + known.size + unknown.setdefault(raw, len(unknown))
            found.append(code)
        return found

    def decode(self, data: bytes) -> Request:
        """The raw values of a serialised request."""
        held = {
            key: getattr(feature, kind).value
            for key, feature in Example.FromString(data).features.feature.items()
            if (kind := feature.WhichOneof("kind"))
        }
        layout, tasks = self.layout, list(self.schema.tasks)
        features: dict[str, Any] = {}
        found: Request = {"id": held["id"][0], "features": features}
        if self.schema.keys.user:
            found["user"] = held["user"][0]
        if self.schema.keys.item:
            found["items"] = list(held["items"])
        for name, value in self._group(held, layout.request, features).items():
            features[name] = value[0]
        if layout.request.ahead:
            found["time"] = held["request"][0]
        features |= self._group(held, layout.candidates, features)
        columns = _columns(held, "candidates", layout.candidates.width)[: len(tasks)]
        found["labels"] = {
            task: [float(code == 2) for code in column] for task, column in zip(tasks, columns)
        }
        weights = [[float(code > 0) for code in column] for column in columns]
        if "weights" in held:
            weights = _columns(held, "weights", len(tasks))
        found["weights"] = dict(zip(tasks, weights))
        for name, group in layout.sequences.items():
            features |= self._group(held, group, features)
            if group.ahead:
                ages = _columns(held, group.key, group.width)[0]
                features[f"{name}_time"] = [found["time"] - age for age in ages]
        for where, specs in layout.numbers.items():
            columns = _columns(held, f"numbers/{where}", len(specs)) if specs else []
            for spec, column in zip(specs, columns):
                features[spec.name] = column if where == "candidates" else column[0]
        for spec in layout.raw:
            value = list(held[f"raw/{spec.name}"])
            features[spec.name] = value if "N" in spec.axes else value[0]
        return found

    def _group(self, held: dict, group: Group, features: dict) -> dict[str, list]:
        """The values of a group's inputs, one of each row."""
        columns = _columns(held, group.key, group.width)[group.ahead :]
        found = {}
        for spec, counts in zip(group.multi, columns):
            values = iter(self._values(held, spec, held.get(f"values/{spec.name}", ())))
            found[spec.name] = [[next(values) for _ in range(count)] for count in counts]
        for spec, codes in zip(group.single, columns[len(group.multi) :]):
            found[spec.name] = self._values(held, spec, codes)
        return found

    def _values(self, held: dict, spec: InputSpec, codes: Iterable[int]) -> list:
        known = self._known[self._encoders[spec.name]]
        found = []
        for code in codes:
            if code > known.size:
                raw = held["unknown"][code - 1 - known.size]
                found.append(raw if spec.dtype == "string" else int(raw))
            else:
                found.append(known.value(code))
        return found


def _columns(held: dict, key: str, width: int) -> list[list]:
    values = list(held.get(key, ()))
    return [values[place::width] for place in range(width)]


class _Identity:
    """Codes of integers from 0 to size - 1."""

    def __init__(self, size: int):
        self.size = size

    def code(self, value: int) -> int | None:
        if value == MISSING_INT:
            return 0
        return value + 1 if 0 <= value < self.size else None

    def value(self, code: int) -> int:
        return code - 1 if code else MISSING_INT


class _Listed:
    """Codes of the values of a list, the first of which stands for a missing one."""

    def __init__(self, values: list):
        self._values = values
        self.size = len(values) - 1
        self.code = {value: code for code, value in enumerate(values)}.get
        self.value = values.__getitem__


def _known(encoder: Categorical, folder: Path, name: str) -> _Identity | _Listed:
    if encoder.encoding == "identity":
        return _Identity(encoder.size)
    lines = []
    if encoder.encoding == "vocabulary":
        lines = vocabulary_path(folder, name).read_bytes().split(b"\n")[:-1]
    if encoder.dtype == "int":
        return _Listed([MISSING_INT, *map(int, lines)])
    return _Listed([b"", *lines])


class RequestWriter:
    """Writes a TFRecord file of requests.

    Args:
        path: the file; an existing one is replaced.
        schema: what a request holds.
        compression: `gzip` or `none`.
    """

    def __init__(self, path: Path, schema: Schema, compression: str = "gzip"):
        self._writer = RecordWriter(path, compression)
        self._keys = ["candidates", *(f"lengths/{name}" for name in schema.sequences)]
        self._held: list[Encoded] = []

    def write(self, request: Encoded) -> None:
        """Appends a request."""
        self._held.append(request)
        if len(self._held) == BLOCK:
            self._flush()

    def _flush(self) -> None:
        block = Example()
        put = block.features.feature
        put["requests"].bytes_list.value.extend([request.data for request in self._held])
        for key, sizes in zip(self._keys, zip(*(request.sizes for request in self._held))):
            put[key].int64_list.value.extend(sizes)
        self._writer.write(serialise(block))
        self._held.clear()

    def close(self) -> None:
        """Completes the file."""
        if self._held:
            self._flush()
        self._writer.close()

    def __enter__(self) -> "RequestWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def unpack(record: bytes) -> list[bytes]:
    """The serialised requests of a record."""
    return list(Example.FromString(record).features.feature["requests"].bytes_list.value)


def read_requests(path: Path, codec: Codec) -> Iterator[Request]:
    """The requests of a TFRecord file, gzipped or plain.

    Raises:
        CorruptRecordError: the file is truncated or corrupt; names the file and the record.
    """
    for record in read_records(path):
        for data in unpack(record):
            yield codec.decode(data)
