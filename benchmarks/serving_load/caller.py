"""A client that makes calls of every kind, and what it saw."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np

from benchmarks.serving_load.messages import (
    EXPERIMENT,
    NAME,
    TASK,
    TOLERANCE,
    Prepared,
    begin_and_vanish,
    malformed,
    whom,
)
from benchmarks.serving_load.versions import MOST_BYTES, Versions
from serving.asking import PREDICT
from serving.client import Client, StaleState, UserState
from serving.server import LOOPBACK
from serving.wire import messages_pb2 as wire
from serving.wire.tensors import to_array

# How often each kind of call is made, relative to the others.
MIX = {
    "folded": 40, "label": 10, "version": 10, "two calls": 15, "late": 3, "large": 2,
    "deadline": 6, "cancel": 4, "vanish": 4, "oversized": 2, "malformed": 6,
}  # fmt: skip
TIMEOUT = 20.0
PAUSES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 1.0, 1.0)
"""Seconds before each try of a good call."""
MAY_RETRY = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
GONE = "no status"
NO_WORD = (GONE, "CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE")
"""How a call ends whose caller does not see what the server made of it."""


@dataclass
class Tally:
    """What a client saw.

    Args:
        statuses: of the calls, by kind and status.
        answers: the right ones: kind, when it came, and seconds since its first try.
        wrong: the wrong ones, in words.
        lost: good requests without an answer.
        unclean: other calls that ended as they must not.
        worst: the largest difference of a score.
    """

    statuses: Counter = field(default_factory=Counter)
    answers: list[tuple[str, float, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unclean: list[str] = field(default_factory=list)
    worst: float = 0.0

    def add(self, other: Tally) -> None:
        """Takes in what another client saw."""
        self.statuses += other.statuses
        self.worst = max(self.worst, other.worst)
        for name in ("answers", "wrong", "lost", "unclean"):
            getattr(self, name).extend(getattr(other, name))


class Caller:
    """A client with connections of its own, that makes one call after the other.

    Args:
        port: of the server.
        versions: in its folder.
        prepared: requests; the last is the large one.
        seed: of its choices.
        stop: ends it.
    """

    def __init__(
        self,
        port: int,
        versions: Versions,
        prepared: Sequence[Prepared],
        seed: int,
        stop: threading.Event,
    ):
        self.tally = Tally()
        self._port, self._versions, self._stop = port, versions, stop
        *self._prepared, self._largest = prepared
        self._broken = malformed(self._prepared[-1])
        self._random = random.Random(seed)
        self._kept: tuple[Prepared, UserState] | None = None
        self._began = self._first_tried = time.monotonic()

    def run(self, began: float) -> None:
        """Calls until it is stopped; times are since `began`."""
        self._began = began
        target = f"{LOOPBACK}:{self._port}"
        # Otherwise the channels of a process share one connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        with (
            grpc.insecure_channel(target, options) as channel,
            Client(target, NAME, EXPERIMENT.log) as self._client,
        ):
            self._predict = channel.unary_unary(PREDICT.path)
            self._predict_stream = channel.stream_unary(PREDICT.path)
            kinds, weights = list(MIX), list(MIX.values())
            while not self._stop.is_set():
                (kind,) = self._random.choices(kinds, weights)
                self._first_tried = time.monotonic()
                getattr(self, f"_{kind.replace(' ', '_')}")()

    def _folded(self) -> None:
        self._ask("folded", self._any(), self._predict, whom())

    def _label(self) -> None:
        label = self._random.choice(["stable", "canary"])
        spec = whom(version_label=label)
        self._ask("label", self._any(), self._predict, spec, behind=label == "stable")

    def _version(self) -> None:
        version = self._versions.newest
        self._ask("version", self._any(), self._predict, whom(version=version), only=version)

    def _large(self) -> None:
        self._ask("large", self._largest, self._predict, whom())

    def _late(self) -> None:
        seconds = self._random.uniform(0.2, 2.0)

        def send(data: bytes, timeout: float) -> bytes:
            def later() -> Iterator[bytes]:
                self._stop.wait(seconds)
                yield data

            return self._predict_stream(later(), timeout=timeout)

        self._ask("late", self._any(), send, whom())

    def _two_calls(self) -> None:
        # A state is kept for some pages, or until its version is gone.
        if self._kept is None or self._random.random() < 0.1:
            prepared = self._any()
            ask = lambda: self._client.user_state(prepared.values, TIMEOUT)
            state = self.answered("user state", ask)
            if state is None:
                return
            self._kept = prepared, state
        prepared, state = self._kept
        ask = lambda: self._client.score_items(state, prepared.values, timeout=TIMEOUT)
        try:
            found = self.answered("its items", ask)
        except StaleState:
            self.tally.statuses["its items", "NOT_FOUND"] += 1
            self._kept = None
            self._two_calls()
        else:
            if found is not None:
                scores = found[TASK][None]
                self.judge("its items", prepared, state.version, scores, [state.version])

    def _deadline(self) -> None:
        prepared, lowest = self._any(), self._versions.newest
        seconds = self._random.uniform(0.001, 0.03)
        call = self._predict.future(whom() + prepared.inputs, timeout=seconds)
        self._given_up("deadline", prepared, call, lowest)

    def _cancel(self) -> None:
        prepared, lowest = self._any(), self._versions.newest
        call = self._predict.future(whom() + prepared.inputs, timeout=TIMEOUT)
        time.sleep(self._random.uniform(0.0, 0.02))
        call.cancel()
        self._given_up("cancel", prepared, call, lowest)

    def _vanish(self) -> None:
        data, share = whom() + self._any().inputs, self._random.choice([0.0, 0.5, 1.0])
        self.tally.statuses["vanish", GONE] += 1
        try:
            begin_and_vanish(self._port, data, share, self._random.uniform(0.0, 0.05))
        except OSError as error:
            self.tally.unclean.append(f"vanish: {error}")

    def _oversized(self) -> None:
        self._refused("oversized", "too many bytes", "RESOURCE_EXHAUSTED", bytes(MOST_BYTES + 1))

    def _malformed(self) -> None:
        self._refused("malformed", *self._random.choice(self._broken))

    def _any(self) -> Prepared:
        return self._random.choice(self._prepared)

    def _ask(
        self,
        kind: str,
        prepared: Prepared,
        send: Callable[..., bytes],
        spec: bytes,
        behind: int = 0,
        only: int | None = None,
    ) -> None:
        """A good call, to the newest version, one so far behind it, or that one only."""
        lowest = self._versions.newest - behind
        data = self.answered(kind, lambda: send(spec + prepared.inputs, timeout=TIMEOUT))
        if data is not None:
            highest = self._versions.coming - behind
            allowed = range(lowest, highest + 1) if only is None else [only]
            self._read(kind, prepared, data, allowed)

    def answered(self, kind: str, ask: Callable[[], object]) -> object:
        """The answer to a good request, which may be refused for a while; None where it is lost."""
        for pause in PAUSES:
            time.sleep(pause)
            try:
                answer = ask()
            except grpc.RpcError as error:
                code, last = error.code().name, error
                self.tally.statuses[kind, code] += 1
                if code not in MAY_RETRY:
                    break
            else:
                self.tally.statuses[kind, "OK"] += 1
                return answer
        self.tally.lost.append(f"{kind}: {code}: {last.details()}")
        return None

    def _given_up(self, kind: str, prepared: Prepared, call: grpc.Future, lowest: int) -> None:
        code = call.code().name
        self.tally.statuses[kind, code] += 1
        if code == "OK":
            allowed = range(lowest, self._versions.coming + 1)
            self._read(kind, prepared, call.result(), allowed)
        elif code not in (*NO_WORD, *MAY_RETRY):
            self.tally.unclean.append(f"{kind}: {code}: {call.details()}")

    def _refused(self, kind: str, name: str, expected: str, data: bytes) -> None:
        try:
            self._predict(data, timeout=TIMEOUT)
            code, details = "OK", "an answer"
        except grpc.RpcError as error:
            code, details = error.code().name, error.details()
        self.tally.statuses[kind, code] += 1
        # A server that is full, or ends an old connection, looks at nothing else.
        if code not in (expected, *MAY_RETRY) or not details:
            self.tally.unclean.append(f"{kind}, {name}: {code}: {details}")

    def _read(self, kind: str, prepared: Prepared, data: bytes, allowed: Sequence[int]) -> None:
        answer = wire.PredictResponse.FromString(data)
        scores = to_array(answer.outputs[TASK])
        self.judge(kind, prepared, answer.model_spec.version.value, scores, allowed)

    def judge(
        self,
        kind: str,
        prepared: Prepared,
        version: int,
        scores: np.ndarray,
        allowed: Sequence[int],
    ) -> None:
        """Notes an answer as right or wrong.

        Args:
            kind: of the call.
            prepared: what was asked.
            version: that answered.
            scores: its answer.
            allowed: the versions that may answer.
        """
        now, expected = time.monotonic(), prepared.scores[version % 2]
        difference = float("inf")
        if scores.shape == expected.shape:
            # NumPy's maximum, which a score that is no number does not get lost in.
            difference = float(np.abs(scores - expected).max())
        if version in allowed and difference <= TOLERANCE:
            self.tally.worst = max(self.tally.worst, difference)
            self.tally.answers.append((kind, now - self._began, now - self._first_tried))
        else:
            self.tally.wrong.append(
                f"{kind}: version {version}, of {list(allowed)}; scores differ by {difference:.1e}"
            )
