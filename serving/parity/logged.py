"""Logged requests, to be asked again: of prepared data, or of a server's request log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctr_tf.data.manifest import SCHEMA, Manifest
from ctr_tf.data.raw_inputs import Arrays, request_inputs
from ctr_tf.data.records import read_records
from ctr_tf.data.requests import Codec, Request, read_requests
from ctr_tf.schema import CANDIDATES_MASK, REQUEST_TIME, Schema
from serving.asking import SERVING


@dataclass(frozen=True)
class Logged:
    """One request, and how to find it.

    Args:
        file: where it was logged.
        index: its place in the file, from 0.
        signature: what it asked.
        inputs: arrays by input name.
        request: its id; None in a request log, which holds none.
        user: whose, where that is known.
        items: ids of its candidates, where they are known.
    """

    file: str
    index: int
    signature: str
    inputs: Arrays
    request: str | None = None
    user: str | None = None
    items: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where to look for it, for messages."""
        return f"{self.file}: request {self.index}"


class PreparedRequests:
    """The requests of a split of prepared data, file by file.

    Args:
        folder: what the preparation job wrote.
        split: one that is not empty.

    Attributes:
        source: what they are, for the report.
        schema: of the data.
        count: how many there are.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is no prepared folder, or the split is empty.
        CorruptRecordError: while they are read, a file is truncated or corrupt.
    """

    def __init__(self, folder: Path, split: str):
        self.source = f"{folder}/{split}"
        self.schema = Schema.from_json((folder / SCHEMA).read_text(encoding="utf-8"))
        manifest = Manifest.read(folder, self.schema)
        self.count = manifest.split(split).requests
        self._folder = folder
        self._paths = manifest.paths(folder, split)

    def __iter__(self) -> Iterator[Logged]:
        codec = Codec(self.schema, self._folder)
        for path in self._paths:
            for index, request in enumerate(read_requests(path, codec)):
                yield _logged(self.schema, str(path.relative_to(self._folder)), index, request)


class LogRequests:
    """The calls in TFRecords of `tensorflow.serving.PredictionLog`, in order.

    What is no call of Predict has the kind of its log as signature, and no inputs.

    Args:
        paths: the files, gzipped or plain.

    Attributes:
        source: what they are, for the report.
        count: None, since no file says how many it holds.

    Raises:
        CorruptRecordError: while they are read, a file is truncated or corrupt.
        ValueError: a record is no `PredictionLog`.
    """

    count = None

    def __init__(self, paths: Sequence[Path]):
        self.source = ", ".join(map(str, paths))
        self._paths = paths

    def __iter__(self) -> Iterator[Logged]:
        import tensorflow as tf
        from google.protobuf.message import DecodeError
        from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

        for path in self._paths:
            for index, record in enumerate(read_records(path)):
                try:
                    log = PredictionLog.FromString(record)
                except DecodeError as error:
                    raise ValueError(f"{path}: record {index}: no PredictionLog") from error
                kind = log.WhichOneof("log_type")
                if kind != "predict_log":
                    yield Logged(str(path), index, str(kind), {})
                    continue
                call = log.predict_log.request
                inputs = {name: tf.make_ndarray(proto) for name, proto in call.inputs.items()}
                yield Logged(str(path), index, call.model_spec.signature_name or SERVING, inputs)


def _logged(schema: Schema, file: str, index: int, request: Request) -> Logged:
    values = dict(request["features"])
    values[CANDIDATES_MASK] = [True] * len(next(iter(request["labels"].values())))
    if any(spec.name == REQUEST_TIME for spec in schema.inputs):
        values[REQUEST_TIME] = request["time"]
    return Logged(
        file,
        index,
        SERVING,
        request_inputs(schema, values),
        request["id"].decode(),
        request.get("user", b"").decode() or None,
        tuple(item.decode() for item in request.get("items", ())),
    )
