"""A client of TensorFlow Serving's gRPC: for the local server and `tensorflow/serving` alike."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ctr_tf.schema import Schema
from serving.requests import request_inputs

Arrays = dict[str, np.ndarray]


class Client:
    """Asks one model on one server. A context manager; threads may share it.

    Args:
        target: `host:port` of the server's gRPC.
        model: the model's name.

    Every method raises `grpc.RpcError` on the server's refusal (`code()`, `details()`).
    """

    def __init__(self, target: str, model: str):
        self.model = model
        self._channel = grpc.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def wait(self, timeout: float = 60.0) -> None:
        """Returns once the server accepts connections.

        Raises:
            grpc.FutureTimeoutError: it did not within `timeout` seconds.
        """
        grpc.channel_ready_future(self._channel).result(timeout)

    def predict(
        self,
        signature: str | None,
        inputs: Arrays,
        timeout: float | None = 10.0,
        version: int | None = None,
    ) -> Arrays:
        """Calls a signature.

        Args:
            signature: `serving_default` where None.
            inputs: arrays by input name, of the signature's types and axes.
            timeout: seconds; None waits for ever.
            version: the version asked for; the served one where None.

        Returns:
            Arrays by output name.
        """
        request = predict_pb2.PredictRequest(model_spec=self._spec(version))
        request.model_spec.signature_name = signature or ""
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(_proto(value))
        response = self._predictions.Predict(request, timeout=timeout)
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def score_request(
        self,
        schema: Schema,
        values: dict[str, Any],
        timeout: float | None = 10.0,
        version: int | None = None,
    ) -> Arrays:
        """Scores one request's candidates in one folded call.

        Args:
            schema: the model's, `assets.extra/schema.json` of its version.
            values: plain values by input name; see `serving.requests.request_inputs`.
            timeout: seconds.
            version: the version asked for.

        Returns:
            Probabilities (N,) by task.
        """
        found = self.predict(None, request_inputs(schema, values), timeout, version)
        return {task: score[0] for task, score in found.items()}

    def status(self, version: int | None = None, timeout: float | None = 10.0) -> dict[int, str]:
        """The state of each version (`AVAILABLE`, `LOADING`, ...), or of the one asked for."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec(version))
        response = self._models.GetModelStatus(request, timeout=timeout)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {found.version: name(found.state) for found in response.model_version_status}

    def metadata(
        self, version: int | None = None, timeout: float | None = 10.0
    ) -> dict[str, dict[str, dict[str, tuple[str, list[int]]]]]:
        """What each signature takes and gives: signature to `inputs` and `outputs` to name to
        dtype and shape, -1 for an axis of any size."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(version), metadata_field=["signature_def"]
        )
        response = self._predictions.GetModelMetadata(request, timeout=timeout)
        packed = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(packed)
        return {
            name: {"inputs": _described(found.inputs), "outputs": _described(found.outputs)}
            for name, found in packed.signature_def.items()
            if not name.startswith("__")
        }

    def _spec(self, version: int | None) -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=self.model)
        if version is not None:
            spec.version.value = version
        return spec


def _proto(value: np.ndarray):
    value = np.asarray(value)
    # An empty object array does not say that it holds strings.
    dtype = tf.string if value.dtype.kind in "OSU" else None
    return tf.make_tensor_proto(value, dtype)


def _described(tensors) -> dict[str, tuple[str, list[int]]]:
    return {
        name: (tf.as_dtype(info.dtype).name, [dim.size for dim in info.tensor_shape.dim])
        for name, info in sorted(tensors.items())
    }
