"""Warm-up requests in the format that TF Serving replays when it loads a version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ctr_tf.export.signatures import ITEM_TOWER, SERVING, USER_TOWER, Signatures
from ctr_tf.schema import CANDIDATES_MASK

WARMUP_FILE = "tf_serving_warmup_requests"


def write_warmup(
    path: Path, signatures: Signatures, requests: list[dict[str, np.ndarray]], model: str
) -> int:
    """Writes each request once a signature, as TFRecords of `PredictionLog`.

    Args:
        path: the file, `assets.extra/tf_serving_warmup_requests`.
        signatures: the model's functions; `user_tower` makes the state that `item_tower` takes.
        requests: raw inputs by name.
        model: the name that the model is served by.

    Returns:
        The records written.
    """
    records = [record for request in requests for record in _calls(signatures, request)]
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


def _calls(signatures: Signatures, request: dict[str, np.ndarray]) -> list[tuple[str, dict]]:
    values = {"request_mask": np.ones(len(request[CANDIDATES_MASK]), "bool")}
    values |= request
    calls = []
    for signature in (SERVING, USER_TOWER, ITEM_TOWER):
        function = signatures.functions[signature]
        specs = function.structured_input_signature[1]
        inputs = {name: tf.constant(values[name], spec.dtype) for name, spec in specs.items()}
        calls.append((signature, inputs))
        if signature == USER_TOWER:
            values |= function(**inputs)
    return calls
