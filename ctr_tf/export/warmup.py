"""Warm-up requests in the format that TF Serving replays when it loads a version."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ctr_tf.schema import CANDIDATES_MASK, Schema

if TYPE_CHECKING:
    from ctr_tf.export.signatures import Signatures

WARMUP_FILE = "tf_serving_warmup_requests"
MOST_RECORDS = 1000
"""TF Serving refuses a version that has more."""

Request = dict[str, np.ndarray]


def size_classes(schema: Schema, most_candidates: int) -> list[tuple[int, int]]:
    """The sizes (N, L) that a warm-up holds: N and L are powers of two up to their bounds, and the
    bounds themselves; L is 0 as well.

    Args:
        schema: of the model; its longest sequence bounds L.
        most_candidates: bounds N.

    Example:
        >>> schema = Schema(features={"item_id": {"kind": "categorical"}},
        ...                 tasks={"click": {"column": "click"}})
        >>> size_classes(schema, 6)
        [(1, 0), (2, 0), (4, 0), (6, 0)]
    """
    longest = max((sequence.max_length for sequence in schema.sequences.values()), default=0)
    return list(product(_powers(most_candidates), sorted({0, *_powers(longest)})))


def requests_of_every_size(
    schema: Schema, requests: list[Request], most_candidates: int
) -> list[Request]:
    """One request of each size class, made of real ones by repeating or cutting their candidates
    and behaviours.

    Of behaviours the newest are kept. Requests that lack a sequence stand in where no other is
    given, and then go without it.

    Args:
        schema: of the model.
        requests: real raw requests, by input name; the first row of each is used.
        most_candidates: see `size_classes`.
    """
    masks = [f"{name}_mask" for name in schema.sequences]
    whole = [each for each in requests if all(each[mask][0].any() for mask in masks)]
    return [
        _resized(schema, request, candidates, behaviours)
        for (candidates, behaviours), request in zip(
            size_classes(schema, most_candidates), cycle(whole or requests)
        )
    ]


def write_warmup(path: Path, signatures: Signatures, requests: list[Request], model: str) -> int:
    """Writes each request once a signature, as TFRecords of `PredictionLog`.

    Args:
        path: the file, `assets.extra/tf_serving_warmup_requests`.
        signatures: the model's functions; what one makes, such as a state, the next ones take.
        requests: raw inputs by name.
        model: the name that the model is served by.

    Returns:
        The records written.

    Raises:
        ValueError: there would be more than `MOST_RECORDS`.
    """
    records = [record for request in requests for record in _calls(signatures, request)]
    if len(records) > MOST_RECORDS:
        raise ValueError(
            f"requests must make at most {MOST_RECORDS} warm-up records, one a signature, "
            f"got {len(records)} of {len(requests)} requests; lower export.warmup_candidates"
        )
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in records:
            call = predict_pb2.PredictRequest()
            call.model_spec.name = model
            call.model_spec.signature_name = signature
            for name, value in inputs.items():
                call.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=call)
            )
            writer.write(log.SerializeToString())
    return len(records)


def read_warmup(path: Path) -> Iterator[tuple[str, Request]]:
    """Signature and inputs of each record that `write_warmup` wrote."""
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        call = log.predict_log.request
        inputs = {name: tf.make_ndarray(proto) for name, proto in call.inputs.items()}
        yield call.model_spec.signature_name, inputs


def _powers(most: int) -> list[int]:
    return sorted({*(2**power for power in range(most.bit_length())), most})


def _resized(schema: Schema, request: Request, candidates: int, behaviours: int) -> Request:
    """The request with so many candidates, and so many behaviours in each sequence."""
    rows = {None: _cycled(request[CANDIDATES_MASK][0], candidates)}
    for name, sequence in schema.sequences.items():
        length = min(behaviours, sequence.max_length)
        rows[name] = _cycled(request[f"{name}_mask"][0], length)
    found = {}
    for spec in schema.inputs:
        value = request[spec.name][:1]
        several = spec.side == "candidate" or spec.sequence is not None
        found[spec.name] = value[:, rows[spec.sequence]] if several else value
    return found


def _cycled(mask: np.ndarray, size: int) -> np.ndarray:
    """So many of the valid positions, in order: the last ones, or all of them again and again."""
    valid = np.flatnonzero(mask)[::-1]
    return np.sort(np.resize(valid, size)) if valid.size else valid


def _calls(signatures: Signatures, request: Request) -> list[tuple[str, dict]]:
    values = {"request_mask": np.ones(len(next(iter(request.values()))), "bool")}
    values |= request
    inputs_of = {
        signature: function.structured_input_signature[1]
        for signature, function in signatures.functions.items()
    }
    taken = set().union(*inputs_of.values())
    calls = []
    for signature, function in signatures.functions.items():
        specs = inputs_of[signature]
        inputs = {name: tf.constant(values[name], spec.dtype) for name, spec in specs.items()}
        calls.append((signature, inputs))
        # A state, for one, is what another signature takes.
        if function.structured_outputs.keys() & (taken - values.keys()):
            values |= function(**inputs)
    return calls
