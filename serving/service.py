"""TensorFlow Serving's PredictionService over loaded versions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ctr_tf.export.item_encoder import UNKNOWN_ITEMS
from serving.config import ServeConfig
from serving.logs import CALLS
from serving.metrics import CallMetrics, Facts
from serving.model import SavedModel
from serving.refusals import Refused, refusals
from serving.request_log import RequestLog
from serving.spec import asked, check_name, model_spec
from serving.validation import InvalidInput, read_inputs
from serving.versions import Versions
from serving.workers import Job, Workers

DEFAULT_SIGNATURE = "serving_default"
_SIGNATURE_DEF = "signature_def"


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata.

    Args:
        name: the model's name.
        versions: its loaded versions.
        config: limits.
        workers: compute the answers.
        metrics: count the calls.
        request_log: keeps a share of them, where there is one.
    """

    def __init__(
        self,
        name: str,
        versions: Versions,
        config: ServeConfig,
        workers: Workers,
        metrics: CallMetrics,
        request_log: RequestLog | None,
    ):
        self.name = name
        self.versions = versions
        self.config = config
        self.workers = workers
        self.metrics = metrics
        self.request_log = request_log
        self._places = threading.BoundedSemaphore(config.workers + config.max_waiting)

    def Predict(self, request, context):
        """Runs a signature on a request's inputs.

        A call that is not begun when its time is over, or that the caller gave up, is not
        computed; one that is begun keeps its worker until it ends.
        """
        with self._observed(context) as facts, refusals(context), self._place():
            check_name(self.name, request.model_spec)
            with asked(self.versions, request.model_spec) as (version, model):
                response = self._answer(request, context, facts, version, model)
            if self.request_log is not None:
                self.request_log.offer(request, response)
            return response

    def _answer(
        self,
        request: predict_pb2.PredictRequest,
        context: grpc.ServicerContext,
        facts: Facts,
        version: int,
        model: SavedModel,
    ) -> predict_pb2.PredictResponse:
        signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if signature not in model.rules:
            raise InvalidInput(
                f"unknown signature {signature!r}; signatures: {', '.join(sorted(model.rules))}"
            )
        facts.signature, facts.version = signature, version
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
        facts.requests, facts.candidates = inputs.requests, inputs.candidates
        found = self._computed(Job(model, signature, inputs), context)
        if UNKNOWN_ITEMS in found:
            facts.unknown_items = int(found[UNKNOWN_ITEMS].sum())
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(model_spec(self.name, version, signature))
        for name in wanted:
            # NumPy does not know bfloat16 for a number.
            floating = tf.as_dtype(found[name].dtype).is_floating
            if floating and not np.isfinite(found[name].astype("float32", copy=False)).all():
                raise InvalidInput(f"output {name!r} is not finite: an input is too large")
            response.outputs[name].CopyFrom(tf.make_tensor_proto(found[name]))
        return response

    def _computed(self, job: Job, context: grpc.ServicerContext) -> dict[str, np.ndarray]:
        """A job's answer, in the time that the caller and the server give it."""
        seconds = self.config.max_seconds
        remaining = context.time_remaining()
        if remaining is not None:
            seconds = min(seconds, remaining)
        over = Refused(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"no answer within {seconds:.3g} s; the server allows {self.config.max_seconds:g} s",
        )
        if seconds <= 0:
            raise over
        self.workers.submit(job)
        if not context.add_callback(lambda: self.workers.give_up(job)):
            self.workers.give_up(job)
        try:
            return job.answer.result(seconds)
        except TimeoutError:
            raise over from None
        except CancelledError:
            remaining = context.time_remaining()
            if remaining is not None and remaining <= 0:
                raise over from None
            raise Refused(grpc.StatusCode.CANCELLED, "the caller gave up") from None
        finally:
            self.workers.give_up(job)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self.config.workers} calls are computed and {self.config.max_waiting} wait",
            )
        try:
            yield
        finally:
            self._places.release()

    @contextmanager
    def _observed(self, context: grpc.ServicerContext) -> Iterator[Facts]:
        facts, began = Facts(), time.perf_counter()
        try:
            yield facts
        finally:
            seconds = time.perf_counter() - began
            status = (context.code() or grpc.StatusCode.OK).name
            self.metrics.ended(facts, status, seconds)
            told = {**vars(facts), "status": status, "milliseconds": round(seconds * 1e3, 3)}
            CALLS.debug("call", extra={"facts": told})

    def GetModelMetadata(self, request, context):
        """The signatures: names, types and shapes of inputs and outputs."""
        with refusals(context):
            check_name(self.name, request.model_spec)
            if list(request.metadata_field) != [_SIGNATURE_DEF]:
                raise InvalidInput(
                    f"metadata_field must be [{_SIGNATURE_DEF!r}], "
                    f"got {list(request.metadata_field)}"
                )
            with asked(self.versions, request.model_spec) as (version, model):
                found = get_model_metadata_pb2.SignatureDefMap(signature_def=model.signature_defs)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.CopyFrom(model_spec(self.name, version))
            response.metadata[_SIGNATURE_DEF].Pack(found)
            return response
