"""Configuration of the local server."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, FilePath, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from ctr_tf.config_base import Config


class ServeConfig(Config):
    """Where the server listens, what it accepts and what it tells.

    Args:
        host: address to listen on; loopback by default, where nothing authenticates a caller.
        port: port to listen on; 0 takes a free one.
        tls_certificate: PEM file of the server's certificate chain; without it nothing is
            encrypted.
        tls_key: PEM file of its private key.
        tls_client_ca: PEM file of the authorities whose clients are let in; without it all are.
        poll_seconds: how often the model's folder is looked at for new versions.
        max_request_mb: the largest request, in MiB, as it is sent and as its tensors are filled.
        max_candidates: the most candidates of one call, over all its requests.
        workers: calls computed at the same time.
        operation_threads: threads that one operation of a call may use; 0 for all cores. Where
            calls come at the same time they serve more of them with 1 each.
        max_waiting: calls that may wait for a worker; more are refused with RESOURCE_EXHAUSTED.
        max_seconds: how long a call may wait and compute, also where the caller sets no deadline or
            a later one; beyond it the answer is DEADLINE_EXCEEDED.
        max_connection_seconds: how long a connection may live; the client opens another, and calls
            under way have `max_seconds` to end. It bounds those whose message never comes.
        batch_candidates: calls of one signature that wait are computed as one where they have
            together at most so many candidates, padding included; 0 computes each alone.
        drain_seconds: how long calls under way may take once the server is told to stop.
        metrics_port: port of the Prometheus page, on loopback; 0 takes a free one.
        log_format: `text`, or `json` for one object a line, with a line for every call.
        request_log: folder of TFRecords of a share of the answered calls.
        request_log_share: that share.
        request_log_mb: size of a file of the request log, in MiB.
    """

    host: str = "127.0.0.1"
    port: int = Field(8500, ge=0, le=65535)
    tls_certificate: FilePath | None = None
    tls_key: FilePath | None = None
    tls_client_ca: FilePath | None = None
    poll_seconds: PositiveFloat = 1.0
    max_request_mb: PositiveInt = 16
    max_candidates: PositiveInt = 10_000
    workers: PositiveInt = 4
    operation_threads: NonNegativeInt = 0
    max_waiting: PositiveInt = 64
    max_seconds: PositiveFloat = 30.0
    max_connection_seconds: PositiveFloat = 300.0
    batch_candidates: NonNegativeInt = 0
    drain_seconds: PositiveFloat = 30.0
    metrics_port: int | None = Field(None, ge=0, le=65535)
    log_format: Literal["text", "json"] = "text"
    request_log: Path | None = None
    request_log_share: float = Field(0.01, gt=0, le=1)
    request_log_mb: PositiveInt = 64

    @model_validator(mode="after")
    def _whole_tls(self) -> "ServeConfig":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key must be given together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self
