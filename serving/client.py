"""Clients of TensorFlow Serving's gRPC, for the local server and `tensorflow/serving` alike.

They need neither TensorFlow nor the model's code: grpcio, protobuf, NumPy, pydantic and the
`schema.json` of an export.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message

from ctr_tf.data.raw_inputs import Arrays
from ctr_tf.schema import Schema
from serving.asking import Asking, Call, Flow, Retrieved, Running, StaleState, UserState

__all__ = ["AsyncClient", "Client", "Retrieved", "StaleState", "UserState"]

_RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.02s",
    "maxBackoff": "1s",
    "backoffMultiplier": 3,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


class _Client:
    """What both clients have; see `Client`."""

    def __init__(
        self,
        target: str,
        model: str,
        schema: Schema | None = None,
        label: str | None = None,
        channels: int = 1,
        most_candidates: int = 2000,
        credentials: grpc.ChannelCredentials | None = None,
    ):
        for name, value in (("channels", channels), ("most_candidates", most_candidates)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self._asking = Asking(model, schema, label, most_candidates)
        self._channels = [self._channel(target, credentials) for _ in range(channels)]
        self._next = itertools.cycle(self._channels)

    def _channel(self, target: str, credentials: grpc.ChannelCredentials | None):
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # A call of more bytes than are kept for it is not made again.
            ("grpc.per_rpc_retry_buffer_size", 2**26),
            # Otherwise channels of one address share a connection.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.service_config", json.dumps({"methodConfig": [
                {"name": [{}], "retryPolicy": _RETRIES}
            ]})),
        ]  # fmt: skip
        if credentials is not None:
            return self._grpc.secure_channel(target, credentials, options=options)
        return self._grpc.insecure_channel(target, options=options)

    def _start(self, call: Call, timeout: float | None):
        method = next(self._next).unary_unary(
            call.method.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.method.response.FromString,
        )
        return self._begin(method, call.request, timeout)

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
            timeout: seconds, retries included; None waits for ever.
            version: the version asked for; the served one where None.

        Returns:
            Arrays by output name.
        """

        def outputs() -> Flow[Arrays]:
            answer = yield from self._asking.predict(signature, inputs, version)
            return answer.outputs

        return self._run(outputs(), timeout)

    def score(
        self,
        values: Mapping[str, Any],
        candidates: Any = None,
        timeout: float | None = 10.0,
        version: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Scores the candidates of one request, folded: the user side is computed once.

        One call; beyond `most_candidates` the user's state is asked for, and then the candidates
        are scored in shards, at the same time.

        Args:
            values: plain values by input name; see `ctr_tf.data.raw_inputs.request_inputs`.
            candidates: candidate features as a data frame or lists, where they are not values.
            timeout: seconds for all of it.
            version: the version asked for.

        Returns:
            Probabilities (N,) by task.
        """
        return self._run(self._asking.score(values, candidates, version), timeout)

    def user_state(
        self, values: Mapping[str, Any], timeout: float | None = 10.0, version: int | None = None
    ) -> UserState:
        """The state of a user, to be kept for `score_items` while what it depends on stays.

        Args:
            values: user features, behaviours, and context that the user tower reads, by name;
                others may be there.
            timeout: seconds.
            version: the version asked for.
        """
        return self._run(self._asking.user_state(values, version), timeout)

    def score_items(
        self,
        state: UserState,
        values: Mapping[str, Any] = {},
        candidates: Any = None,
        timeout: float | None = 10.0,
    ) -> dict[str, np.ndarray]:
        """Scores candidates from a user's state, by the version that made it.

        Args:
            state: of `user_state`.
            values: context and candidate features by name; others may be there.
            candidates: as for `score`.
            timeout: seconds for all of it.

        Returns:
            Probabilities (N,) by task.

        Raises:
            StaleState: that version is not served any more.
        """
        return self._run(self._asking.score_items(state, values, candidates), timeout)

    def retrieve(
        self, values: Mapping[str, Any], timeout: float | None = 10.0, version: int | None = None
    ) -> Retrieved:
        """The best items of a candidate index for one request.

        Args:
            values: user features, behaviours and context by name; others may be there.
            timeout: seconds.
            version: the version asked for.

        Raises:
            grpc.RpcError: the model is no candidate index, and lacks candidates.
        """
        return self._run(self._asking.retrieve(values, version), timeout)

    def status(self, version: int | None = None, timeout: float | None = 10.0) -> dict[int, str]:
        """The state of each version (`AVAILABLE`, `LOADING`, ...), or of the one asked for."""
        return self._run(self._asking.status(version), timeout)

    def metadata(
        self, version: int | None = None, timeout: float | None = 10.0
    ) -> dict[str, dict[str, dict[str, tuple[str, list[int]]]]]:
        """What each signature takes and gives: signature to `inputs` and `outputs` to name to
        dtype and shape, -1 for an axis of any size."""
        return self._run(self._asking.metadata(version), timeout)


class Client(_Client):
    """Asks one model on one server. A context manager; threads may share it.

    A call that finds no server, or one that is stopping, is made again with growing pauses, up to
    five times within its timeout.

    Args:
        target: `host:port` of the server's gRPC.
        model: the model's name.
        schema: of its export, where plain values are scored.
        label: the version label that is asked for, such as `canary`.
        channels: connections, which calls take in turn: for messages of megabytes.
        most_candidates: of a call.
        credentials: of TLS; without them the connection is open.

    Raises:
        ValueError: `channels` or `most_candidates` below 1.

    Every method raises `grpc.RpcError` on the server's refusal (`code()`, `details()`), and
    ValueError for values that are not the schema's, before anything is sent.
    """

    _grpc = grpc

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        for channel in self._channels:
            channel.close()

    def wait(self, timeout: float = 60.0) -> None:
        """Returns once the server accepts connections.

        Raises:
            grpc.FutureTimeoutError: it did not within `timeout` seconds.
        """
        for channel in self._channels:
            grpc.channel_ready_future(channel).result(timeout)

    def _begin(self, method, request: Message, timeout: float | None):
        return method.future(request, timeout=timeout)

    def _run(self, flow: Flow, timeout: float | None):
        running = Running(flow, timeout)
        while running.calls:
            futures = [self._start(call, running.remaining) for call in running.calls]
            try:
                running.answered([future.result() for future in futures])
            except grpc.RpcError as error:
                running.failed(error)
            finally:
                for future in futures:
                    future.cancel()  # Of one that has ended, nothing.
        return running.result


class AsyncClient(_Client):
    """As `Client`, for asyncio: every method is awaited, and made within a running loop.

    Args:
        as of `Client`.
    """

    _grpc = grpc.aio

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections."""
        for channel in self._channels:
            await channel.close()

    async def wait(self, timeout: float = 60.0) -> None:
        """Returns once the server accepts connections.

        Raises:
            TimeoutError: it did not within `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            for channel in self._channels:
                await channel.channel_ready()

    def _begin(self, method, request: Message, timeout: float | None):
        return method(request, timeout=timeout)

    async def _run(self, flow: Flow, timeout: float | None):
        running = Running(flow, timeout)
        while running.calls:
            calls = [self._start(call, running.remaining) for call in running.calls]
            try:
                running.answered([await call for call in calls])
            except grpc.RpcError as error:
                running.failed(error)
            finally:
                for call in calls:
                    call.cancel()
        return running.result
