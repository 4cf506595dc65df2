"""What happens to a call before a service sees it."""

from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError

from serving.metrics import CallMetrics, Facts

_PREDICT = "/tensorflow.serving.PredictionService/Predict"


class Intake(grpc.ServerInterceptor):
    """Counts calls of Predict, and refuses bytes that are no message.

    gRPC itself answers such bytes with INTERNAL and logs a traceback for each.

    Args:
        metrics: count them.
    """

    def __init__(self, metrics: CallMetrics):
        self.metrics = metrics

    def intercept_service(self, continuation, handler_call_details):
        """The method's handler, with messages read inside."""
        handler = continuation(handler_call_details)
        # A stream is the health service's watch alone.
        if handler is None or handler.unary_unary is None:
            return handler
        predict = handler_call_details.method == _PREDICT
        if predict:
            self.metrics.received.inc()

        def read_and_answer(data: bytes, context: grpc.ServicerContext):
            try:
                request = handler.request_deserializer(data)
            except DecodeError as error:
                if predict:
                    self.metrics.ended(Facts(), grpc.StatusCode.INVALID_ARGUMENT.name, 0.0)
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a message: {error}")
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            read_and_answer, response_serializer=handler.response_serializer
        )
