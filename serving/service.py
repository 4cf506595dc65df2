"""TensorFlow Serving's PredictionService and ModelService over loaded versions."""

from __future__ import annotations

import logging
from concurrent.futures import CancelledError, Executor
from contextlib import AbstractContextManager, contextmanager
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


class _TimeIsOver(RuntimeError):
    """A call's time is over; the message names the bound."""


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata.

    Args:
        name: the model's name.
        versions: its loaded versions.
        config: limits.
        pool: computes the answers.
    """

    def __init__(self, name: str, versions: Versions, config: ServeConfig, pool: Executor):
        self.name = name
        self.versions = versions
        self.config = config
        self.pool = pool

    def Predict(self, request, context):
        """Runs a signature on a request's inputs.

        A call that is not begun when its time is over, or that the caller gave up, is not
        computed; one that is begun keeps its worker until it ends.
        """
        seconds = self.config.max_seconds
        remaining = context.time_remaining()
        if remaining is not None:
            seconds = min(seconds, remaining)
        over = _TimeIsOver(
            f"no answer within {seconds:.3g} s; the server allows {self.config.max_seconds:g} s"
        )
        with refusals(self.name, request.model_spec, context):
            if seconds <= 0:
                raise over
            answer = self.pool.submit(self._answer, request)
            if not context.add_callback(answer.cancel):
                answer.cancel()
            try:
                return answer.result(seconds)
            except (TimeoutError, CancelledError):
                answer.cancel()
                raise over from None

    def _answer(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        with asked(self.versions, request.model_spec) as (version, model):
            signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
            if signature not in model.rules:
                raise InvalidInput(
                    f"unknown signature {signature!r}; signatures: {', '.join(sorted(model.rules))}"
                )
            wanted = list(request.output_filter) or model.outputs(signature)
            unknown = sorted(set(wanted) - set(model.outputs(signature)))
            if unknown:
                raise InvalidInput(
                    f"output_filter: no output {unknown[0]!r}; "
                    f"outputs: {', '.join(model.outputs(signature))}"
                )
            inputs = read_inputs(
                request.inputs,
                model.rules[signature],
                self.config.max_request_mb * 2**20,
                self.config.max_candidates,
            )
            found = model.run(signature, inputs)
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(_model_spec(self.name, version, signature))
        for name in wanted:
            response.outputs[name].CopyFrom(tf.make_tensor_proto(found[name]))
        return response

    def GetModelMetadata(self, request, context):
        """The signatures: names, types and shapes of inputs and outputs."""
        with (
            refusals(self.name, request.model_spec, context),
            asked(self.versions, request.model_spec) as (version, model),
        ):
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
def refusals(name: str, spec: model_pb2.ModelSpec, context: grpc.ServicerContext) -> Iterator[None]:
    """Checks which model a call asks for; errors inside become the call's status."""
    _check_name(name, spec, context)
    if spec.version_label:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "version labels are not served here")
    try:
        yield
    except VersionNotFound as error:
        code, details = grpc.StatusCode.NOT_FOUND, f"model {name!r}: {error}"
    except (InvalidInput, tf.errors.InvalidArgumentError) as error:
        code, details = grpc.StatusCode.INVALID_ARGUMENT, str(error)
    except _TimeIsOver as error:
        code, details = grpc.StatusCode.DEADLINE_EXCEEDED, str(error)
    except Exception as error:
        logger.exception("a call failed")
        code, details = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
    else:
        return
    context.abort(code, details)


def asked(
    versions: Versions, spec: model_pb2.ModelSpec
) -> AbstractContextManager[tuple[int, SavedModel]]:
    """The version that a call asks for, kept loaded."""
    return versions.use(spec.version.value if spec.HasField("version") else None)


def _check_name(name: str, spec: model_pb2.ModelSpec, context: grpc.ServicerContext) -> None:
    if spec.name != name:
        context.abort(grpc.StatusCode.NOT_FOUND, f"no model {spec.name!r}; served: {name!r}")


def _model_spec(name: str, version: int, signature: str = "") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name, signature_name=signature)
    spec.version.value = version
    return spec
