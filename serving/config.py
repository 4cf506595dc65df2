"""Configuration of the local server."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from ctr_tf.config_base import Config


class ServeConfig(Config):
    """Where the server listens and what it accepts.

    Args:
        host: address to listen on; loopback by default, since nothing authenticates a caller.
        port: port to listen on; 0 takes a free one.
        poll_seconds: how often the model's folder is looked at for new versions.
        max_request_mb: the largest request, in MiB, as it is sent and as its tensors are filled.
        max_candidates: the most candidates of one call, over all its requests.
        workers: calls computed at the same time.
        max_waiting: calls that may wait for a worker; more are refused with RESOURCE_EXHAUSTED.
        max_seconds: how long a call may wait and compute, also where the caller sets no deadline or
            a later one; beyond it the answer is DEADLINE_EXCEEDED.
        drain_seconds: how long calls under way may take once the server is told to stop.
    """

    host: str = "127.0.0.1"
    port: int = Field(8500, ge=0, le=65535)
    poll_seconds: PositiveFloat = 1.0
    max_request_mb: PositiveInt = 16
    max_candidates: PositiveInt = 10_000
    workers: PositiveInt = 4
    max_waiting: PositiveInt = 64
    max_seconds: PositiveFloat = 30.0
    drain_seconds: PositiveFloat = 30.0
