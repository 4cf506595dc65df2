"""TensorFlow Serving's PredictionService and ModelService over loaded versions."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import Iterator

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.config import ServeConfig
from serving.model import SavedModel
from serving.validation import InvalidInput, read_inputs
from serving.versions import VersionNotFound, Versions

logger = logging.getLogger(__name__)

DEFAULT_SIGNATURE = "serving_default"
_SIGNATURE_DEF = "signature_def"


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata.

    Args:
        name: the model's name.
        versions: its loaded versions.
        config: limits.
    """

    def __init__(self, name: str, versions: Versions, config: ServeConfig):
        self.name = name
        self.versions = versions
        self.config = config

    def Predict(self, request, context):
        """Runs a signature on a request's inputs."""
        # A call that waited for a worker past its deadline is not computed for nobody.
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed while queued")
        with use(self.name, self.versions, request.model_spec, context) as (version, model):
            signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
            if signature not in model.rules:
                raise InvalidInput(
                    f"unknown signature {signature!r}; signatures: {', '.join(sorted(model.rules))}"
                )
            inputs = read_inputs(
                request.inputs,
                model.rules[signature],
                self.config.max_request_mb * 2**20,
                self.config.max_candidates,
            )
            wanted = list(request.output_filter) or model.outputs(signature)
            unknown = sorted(set(wanted) - set(model.outputs(signature)))
            if unknown:
                raise InvalidInput(
                    f"output_filter: no output {unknown[0]!r}; "
                    f"outputs: {', '.join(model.outputs(signature))}"
                )
            found = model.run(signature, inputs)
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(_model_spec(self.name, version, signature))
        for name in wanted:
            response.outputs[name].CopyFrom(tf.make_tensor_proto(found[name]))
        return response

    def GetModelMetadata(self, request, context):
        """The signatures: names, types and shapes of inputs and outputs."""
        with use(self.name, self.versions, request.model_spec, context) as (version, model):
            if list(request.metadata_field) != [_SIGNATURE_DEF]:
                raise InvalidInput(
                    f"metadata_field must be [{_SIGNATURE_DEF!r}], "
                    f"got {list(request.metadata_field)}"
                )
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=model.signature_defs)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.CopyFrom(_model_spec(self.name, version))
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus.

    Args:
        name: the model's name.
        versions: its loaded versions.
    """

    def __init__(self, name: str, versions: Versions):
        self.name = name
        self.versions = versions

    def GetModelStatus(self, request, context):
        """The state of each version, or of the one that is named."""
        _check_name(self.name, request.model_spec, context)
        found = self.versions.statuses()
        if request.model_spec.HasField("version"):
            number = request.model_spec.version.value
            if number not in found:
                context.abort(grpc.StatusCode.NOT_FOUND, f"no version {number} of {self.name!r}")
            found = {number: found[number]}
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, (state, error) in found.items():
            status = response.model_version_status.add(version=number, state=state)
            if error:
                status.status.error_code = grpc.StatusCode.INTERNAL.value[0]
                status.status.error_message = error
        return response


@contextmanager
def use(
    name: str, versions: Versions, spec: model_pb2.ModelSpec, context: grpc.ServicerContext
) -> Iterator[tuple[int, SavedModel]]:
    """The version that a call asks for; errors inside become the call's status."""
    _check_name(name, spec, context)
    if spec.version_label:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "version labels are not served here")
    try:
        with versions.use(spec.version.value if spec.HasField("version") else None) as found:
            yield found
    except VersionNotFound as error:
        context.abort(grpc.StatusCode.NOT_FOUND, f"model {name!r}: {error}")
    except (InvalidInput, tf.errors.InvalidArgumentError) as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except Exception as error:
        logger.exception("a call failed")
        context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")


def _check_name(name: str, spec: model_pb2.ModelSpec, context: grpc.ServicerContext) -> None:
    if spec.name != name:
        context.abort(grpc.StatusCode.NOT_FOUND, f"no model {spec.name!r}; served: {name!r}")


def _model_spec(name: str, version: int, signature: str = "") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name, signature_name=signature)
    spec.version.value = version
    return spec
