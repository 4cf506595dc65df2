"""The requests of the load with their offline scores, and the messages made of them."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.files import write_text
from benchmarks.training import ROOT
from ctr_tf.config import load
from ctr_tf.data.raw_inputs import request_inputs
from ctr_tf.startup import start_tensorflow
from serving.asking import PREDICT
from serving.server import LOOPBACK
from serving.wire import messages_pb2 as wire
from serving.wire.tensors import to_proto

NAME = "films"
# Hashed, so that no vocabulary is needed; films have a table that is seen in the memory.
ROWS = {
    "user_id": 50_000, "gender": 10, "age": 20, "occupation": 50, "item_id": 200_000, "genres": 500,
}  # fmt: skip
EXPERIMENT = load(
    ROOT / "configs" / "movielens" / "din.yaml",
    [
        "model.embedding.scale=0.3",
        *(f"schema.features.{name}.encoding=hashed" for name in ROWS),
        *(f"schema.features.{name}.size={size}" for name, size in ROWS.items()),
    ],
)
(TASK,) = EXPERIMENT.log.tasks
MOST_BEHAVIOURS = EXPERIMENT.log.sequences["history"].max_length
MOST_CANDIDATES = 2000
# Candidates and behaviours of the prepared requests.
SIZES = list(itertools.product((1, 20, 100, 500), (0, 7, MOST_BEHAVIOURS)))
MOST_WARM = 16
"""Candidates of a warm-up request."""
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Prepared:
    """A request whose scores are known.

    Args:
        values: plain, as `Client` takes them.
        inputs: the bytes of a folded call, but for whom it asks.
        scores: offline, (1, N), by the version's number modulo 2.
    """

    values: dict
    inputs: bytes
    scores: Sequence[np.ndarray]


def random_values(rng: np.random.Generator, candidates: int, behaviours: int) -> dict:
    """A request of those sizes."""

    def films(count: int) -> dict[str, list]:
        pairs = rng.integers(0, 18, (count, 2))
        return {
            "item_id": [f"film {each}" for each in rng.integers(0, 10**6, count)],
            "genres": [[f"genre {each}" for each in pair] for pair in pairs],
        }

    user = {name: str(rng.integers(size)) for name, size in ROWS.items()}
    history = films(behaviours) | {"rating": rng.integers(1, 6, behaviours).tolist()}
    return user | films(candidates) | {f"history_{name}": x for name, x in history.items()}


def prepare(folder: Path) -> tuple[list[Path], list[Prepared]]:
    """Two exports of DIN with different random weights, and requests with the scores of both.

    The requests are of `SIZES`, and a last one of the most candidates. The exports go without the
    self-check: every answer of the server is one.
    """
    start_tensorflow()
    import keras

    from ctr_tf.data.preprocess import Preprocessor
    from ctr_tf.export.self_check import score_in_process
    from ctr_tf.export.signatures import Signatures
    from ctr_tf.export.warmup import WARMUP_FILE, requests_of_every_size, write_warmup
    from ctr_tf.models.model import CTRModel

    schema, rng = EXPERIMENT.log, np.random.default_rng(1)
    values = [random_values(rng, *s) for s in (*SIZES, (MOST_CANDIDATES, MOST_BEHAVIOURS))]
    arrays = [request_inputs(schema, each) for each in values]
    preprocessor = Preprocessor(schema, folder)
    warmup = requests_of_every_size(schema, arrays[-1:], MOST_WARM)
    exports, scores = [folder / "even", folder / "odd"], []
    for seed, export in enumerate(exports):
        keras.utils.set_random_seed(seed)
        model = CTRModel(schema, EXPERIMENT.model, preprocessor.rows, preprocessor.vectors)
        scores.append([score_in_process(model, preprocessor, each)[TASK] for each in arrays])
        signatures = Signatures(model, preprocessor)
        signatures.save(export)
        write_text(export / "assets.extra" / "schema.json", schema.to_json())
        write_warmup(export / "assets.extra" / WARMUP_FILE, signatures, warmup, NAME)
    both = list(zip(*scores))
    if min(np.abs(even - odd).max() for even, odd in both) < 100 * TOLERANCE:
        raise RuntimeError("a request has the same scores by both versions")
    return exports, [Prepared(*each) for each in zip(values, map(message, arrays), both)]


def message(arrays: dict[str, np.ndarray]) -> bytes:
    """Inputs as the bytes of a call, which go behind those of `whom`."""
    inputs = {name: to_proto(array) for name, array in arrays.items()}
    return wire.PredictRequest(inputs=inputs).SerializeToString()


def whom(model: str = NAME, version: int | None = None, **chosen: str) -> bytes:
    """The bytes of a call that say whom it asks."""
    spec = wire.ModelSpec(name=model, **chosen)
    if version is not None:
        spec.version.value = version
    return wire.PredictRequest(model_spec=spec).SerializeToString()


def malformed(prepared: Prepared) -> list[tuple[str, str, bytes]]:
    """Calls that break a rule: which, the status that it must get, and its bytes."""
    whole, twos = whom() + prepared.inputs, b"\2" * prepared.scores[0].size

    def changed(name: str, change: Callable[[wire.TensorProto], object]) -> bytes:
        call = wire.PredictRequest.FromString(whole)
        change(call.inputs[name])
        return call.SerializeToString()

    def of_size(name: str, size: int) -> bytes:
        return changed(name, lambda proto: setattr(proto.tensor_shape.dim[1], "size", size))

    many = {"item_id": np.full((1, MOST_CANDIDATES + 1), "film")}
    many |= {"genres": np.full((1, MOST_CANDIDATES + 1, 1), "genre")}
    many |= {"candidates_mask": np.ones((1, MOST_CANDIDATES + 1), bool)}
    breaking = {
        "no message": b"\xff" * 50,
        "cut short": whole[:-3],
        "no input": whom(),
        "unknown input": whole + message({"prize": np.ones((1, 1), "float32")}),
        "wrong type": whole + message({"user_id": np.ones(1, "int64")}),
        "not truth values": changed(
            "candidates_mask", lambda proto: setattr(proto, "tensor_content", twos)
        ),
        "sizes that disagree": of_size("genres", 7),
        "negative size": of_size("item_id", -1),
        "more than may be filled": of_size("item_id", 10**12),
        "too many behaviours": of_size("history_item_id", MOST_BEHAVIOURS + 1),
        "too many candidates": whole + message(many),
        "unknown signature": whom(signature_name="rank") + prepared.inputs,
        "unknown label": whom(version_label="beta") + prepared.inputs,
    }
    missing = {
        "unknown version": whom(version=10**6) + prepared.inputs,
        "another model": whom("songs") + prepared.inputs,
    }
    return [
        (name, code, data)
        for code, calls in (("INVALID_ARGUMENT", breaking), ("NOT_FOUND", missing))
        for name, data in calls.items()
    ]


def begin_and_vanish(port: int, data: bytes, share: float, seconds: float) -> None:
    """Begins a call over a connection of its own, which is reset before the answer is read.

    Args:
        port: of the server.
        data: the call.
        share: of it that is sent.
        seconds: from then to the reset.
    """

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        size = struct.pack(">I", len(payload))[1:]
        return size + struct.pack(">BBI", kind, flags, stream) + payload

    fields = {
        ":method": "POST", ":scheme": "http", ":path": PREDICT.path, ":authority": LOOPBACK,
        "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip
    pairs = ((name.encode(), value.encode()) for name, value in fields.items())
    headers = b"".join(b"\0%c%b%c%b" % (len(n), n, len(x), x) for n, x in pairs)
    sent = struct.pack(">BI", 0, len(data)) + data
    sent = sent[: round(share * len(sent))]
    with socket.create_connection((LOOPBACK, port)) as connection:
        # HTTP/2: its preface, no settings, the headers, and data as far as it goes.
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        connection.sendall(frame(1, 4, 1, headers))
        for first in range(0, len(sent), 2**14):
            connection.sendall(frame(0, 0, 1, sent[first : first + 2**14]))
        time.sleep(seconds)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
