"""What went wrong in a call, as the status that its caller gets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import tensorflow as tf

from serving.validation import InvalidInput
from serving.versions import LabelNotFound, VersionNotFound

logger = logging.getLogger(__name__)

_CODES = {
    VersionNotFound: grpc.StatusCode.NOT_FOUND,
    LabelNotFound: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    tf.errors.InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
}
_DETAIL_BYTES = 2000
"""gRPC drops the connection for longer ones, and a caller's own names may stand in them."""


class Refused(RuntimeError):
    """A call that is not answered.

    Args:
        code: its status.
        details: the rule that it breaks.
    """

    def __init__(self, code: grpc.StatusCode, details: str):
        super().__init__(details)
        self.code = code


@contextmanager
def refusals(context: grpc.ServicerContext) -> Iterator[None]:
    """Errors inside become the call's status."""
    try:
        yield
    except Refused as error:
        code, details = error.code, str(error)
    except tuple(_CODES) as error:
        code = next(code for kind, code in _CODES.items() if isinstance(error, kind))
        details = str(error)
    except Exception as error:
        logger.exception("a call failed")
        code, details = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
    else:
        return
    context.abort(code, details.encode()[:_DETAIL_BYTES].decode(errors="ignore"))
