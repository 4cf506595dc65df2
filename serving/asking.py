"""What a client asks of a server, call by call; how calls are made is the client's business."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message

from ctr_tf.data.raw_inputs import Arrays, request_inputs, split
from ctr_tf.schema import CANDIDATE_KEYS, CANDIDATES_MASK, Schema
from serving.wire import messages_pb2 as wire
from serving.wire.tensors import dtype_name, to_array, to_proto

SCORES = "scores"
"""Output of a candidate index."""
SERVING, USER_TOWER, ITEM_TOWER = "serving_default", "user_tower", "item_tower"
_SIGNATURES = "signature_def"
SHARDS_AT_ONCE = 4
"""So that one request does not fill a server's queue."""

T = TypeVar("T")


@dataclass(frozen=True)
class Method:
    """A method of a gRPC service.

    Args:
        path: of its service, and its name.
        response: the class of its answers.
    """

    path: str
    response: type[Message]


_PREDICTIONS, _MODELS = "/tensorflow.serving.PredictionService", "/tensorflow.serving.ModelService"
PREDICT = Method(f"{_PREDICTIONS}/Predict", wire.PredictResponse)
METADATA = Method(f"{_PREDICTIONS}/GetModelMetadata", wire.GetModelMetadataResponse)
STATUS = Method(f"{_MODELS}/GetModelStatus", wire.GetModelStatusResponse)


@dataclass(frozen=True)
class Call:
    """One call.

    Args:
        method: what is called.
        request: its message.
    """

    method: Method
    request: Message


Flow = Generator[list[Call], list[Message], T]
"""Yields calls that may be made at the same time, receives their answers, returns a result."""

MakeInputs = Callable[[tuple[str, ...]], Arrays]
"""Those of one request that a signature takes, of the names it takes."""


class Running(Generic[T]):
    """A flow under way: `calls` are to be made, until there are none and `result` is there.

    Args:
        flow: of a client's method.
        timeout: seconds for all of its calls; None for ever.
    """

    def __init__(self, flow: Flow[T], timeout: float | None):
        self._flow = flow
        self._end = None if timeout is None else time.monotonic() + timeout
        self.result: T | None = None
        self._go_on(lambda: next(flow))

    @property
    def remaining(self) -> float | None:
        """Seconds left, 0 at least; None for ever."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def answered(self, answers: list[Message]) -> None:
        """Goes on with the answers of `calls`."""
        self._go_on(lambda: self._flow.send(answers))

    def failed(self, error: grpc.RpcError) -> None:
        """Goes on where one of `calls` failed; raises what the flow does not handle."""
        self._go_on(lambda: self._flow.throw(error))

    def _go_on(self, step: Callable[[], list[Call]]) -> None:
        try:
            self.calls = step()
        except StopIteration as done:
            self.calls, self.result = [], done.value


class StaleState(LookupError):
    """A user's state is of a version that is not served any more: ask for it anew."""


@dataclass(frozen=True)
class UserState:
    """What `user_tower` made of a user: valid for one version, while its inputs stay the same.

    Args:
        version: of the model.
        parts: by input name of `item_tower`, as the server sent them, first axis 1.
    """

    version: int
    parts: dict[str, wire.TensorProto]


@dataclass(frozen=True)
class Answer:
    """What a signature answered.

    Args:
        version: of the model that did.
        outputs: by name.
    """

    version: int
    outputs: Arrays


@dataclass(frozen=True)
class Retrieved:
    """What a candidate index answered, best first.

    Args:
        keys: of the items.
        scores: products of the query and the items, (k,).
    """

    keys: list[str]
    scores: np.ndarray


class Asking:
    """The flows behind the methods of both clients.

    Args:
        model: the model's name.
        schema: of its export, where plain values are to be scored.
        label: the version label that is asked for where a call names no version.
        most_candidates: of a call; more are cut into several.
    """

    def __init__(self, model: str, schema: Schema | None, label: str | None, most_candidates: int):
        self.model = model
        self.schema = schema
        self.label = label
        self.most_candidates = most_candidates
        self._inputs: dict[int | None, dict[str, tuple[str, ...]]] = {}

    def predict(self, signature: str | None, inputs: Arrays, version: int | None) -> Flow[Answer]:
        """Calls a signature."""
        (response,) = yield [self._call(signature, inputs, version)]
        return _answer(response)

    def score(self, values: Mapping[str, Any], candidates: Any, version: int | None) -> Flow:
        """One folded call; for many candidates the user tower, then shards of them at once."""
        inputs = request_inputs(self._known_schema, values, candidates)
        if inputs[CANDIDATES_MASK].shape[1] <= self.most_candidates:
            answer = yield from self.predict(None, inputs, version)
            return {task: scores[0] for task, scores in answer.outputs.items()}

        def those(names: tuple[str, ...]) -> Arrays:
            return {name: value for name, value in inputs.items() if name in names}

        try:
            state = yield from self._state(those, version)
            return (yield from self._items(state, those))
        except StaleState:
            # The version was swapped between the calls.
            state = yield from self._state(those, version)
            return (yield from self._items(state, those))

    def retrieve(self, values: Mapping[str, Any], version: int | None) -> Flow[Retrieved]:
        """The best items of a candidate index, in one call."""
        schema = self._known_schema
        asked = [spec.name for spec in schema.inputs if spec.side != "candidate"]
        answer = yield from self.predict(None, request_inputs(schema, values, only=asked), version)
        keys = answer.outputs[CANDIDATE_KEYS.name][0]
        return Retrieved([key.decode() for key in keys], answer.outputs[SCORES][0])

    def user_state(self, values: Mapping[str, Any], version: int | None) -> Flow[UserState]:
        """The state of a user."""
        schema = self._known_schema
        make = lambda names: request_inputs(schema, values, only=names)
        return (yield from self._state(make, version))

    def score_items(self, state: UserState, values: Mapping[str, Any], candidates: Any) -> Flow:
        """Scores of candidates from a user's state, in shards."""
        schema = self._known_schema
        make = lambda names: request_inputs(schema, values, candidates, only=names)
        return (yield from self._items(state, make))

    def status(self, version: int | None) -> Flow[dict[int, str]]:
        """The state of each version."""
        request = wire.GetModelStatusRequest(model_spec=self._spec(version))
        (response,) = yield [Call(STATUS, request)]
        name = wire.ModelVersionStatus.State.Name
        return {found.version: name(found.state) for found in response.model_version_status}

    def metadata(self, version: int | None) -> Flow[dict]:
        """What each signature takes and gives."""
        request = wire.GetModelMetadataRequest(
            model_spec=self._spec(version), metadata_field=[_SIGNATURES]
        )
        (response,) = yield [Call(METADATA, request)]
        found = wire.SignatureDefMap.FromString(response.metadata[_SIGNATURES].value)
        return {
            name: {"inputs": _described(own.inputs), "outputs": _described(own.outputs)}
            for name, own in found.signature_def.items()
            if not name.startswith("__")
        }

    def _state(self, make: MakeInputs, version: int | None) -> Flow[UserState]:
        known = version in self._inputs
        names = yield from self._inputs_of(USER_TOWER, version)
        # What a model without a user side takes, to know how many requests there are.
        inputs = _those({"request_mask": np.ones(1, bool), **make(names)}, names, USER_TOWER)
        try:
            (response,) = yield [self._call(USER_TOWER, inputs, version)]
        except grpc.RpcError as error:
            if not known or error.code() != grpc.StatusCode.INVALID_ARGUMENT:
                raise
            # Another version may be served by now, which reads other inputs.
            del self._inputs[version]
            return (yield from self._state(make, version))
        return UserState(response.model_spec.version.value, dict(response.outputs))

    def _items(self, state: UserState, make: MakeInputs) -> Flow:
        answers = []
        try:
            names = yield from self._inputs_of(ITEM_TOWER, state.version)
            shards = split(self.schema, make(names), self.most_candidates)
            for first in range(0, len(shards), SHARDS_AT_ONCE):
                calls = [
                    self._call(
                        ITEM_TOWER,
                        _those({**shard, **state.parts}, names, ITEM_TOWER),
                        state.version,
                    )
                    for shard in shards[first : first + SHARDS_AT_ONCE]
                ]
                answers += [_answer(response).outputs for response in (yield calls)]
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                raise StaleState(f"version {state.version}: {error.details()}") from error
            raise
        return {task: np.concatenate([each[task][0] for each in answers]) for task in answers[0]}

    def _inputs_of(self, signature: str, version: int | None) -> Flow[tuple[str, ...]]:
        """The inputs of a signature of a version, or of the one that is served, told once."""
        if version not in self._inputs:
            found = yield from self.metadata(version)
            self._inputs[version] = {name: tuple(own["inputs"]) for name, own in found.items()}
        known = self._inputs[version]
        if signature not in known:
            raise ValueError(f"no signature {signature!r}; signatures: {', '.join(known)}")
        return known[signature]

    @property
    def _known_schema(self) -> Schema:
        if self.schema is None:
            raise ValueError("schema: plain values need the schema of the export, got None")
        return self.schema

    def _call(
        self,
        signature: str | None,
        inputs: Mapping[str, np.ndarray | wire.TensorProto],
        version: int | None,
    ) -> Call:
        request = wire.PredictRequest(model_spec=self._spec(version))
        request.model_spec.signature_name = signature or ""
        for name, value in inputs.items():
            made = isinstance(value, wire.TensorProto)
            try:
                request.inputs[name].CopyFrom(value if made else to_proto(value))
            except ValueError as error:
                raise ValueError(f"input {name!r}: {error}") from error
        return Call(PREDICT, request)

    def _spec(self, version: int | None) -> wire.ModelSpec:
        spec = wire.ModelSpec(name=self.model)
        if version is not None:
            spec.version.value = version
        elif self.label is not None:
            spec.version_label = self.label
        return spec


def newest_available(states: Mapping[int, str]) -> int:
    """The newest version that answers, of what `status` tells.

    Raises:
        ValueError: there is none.

    Example:
        >>> newest_available({3: "AVAILABLE", 4: "LOADING"})
        3
    """
    available = [version for version, state in states.items() if state == "AVAILABLE"]
    if not available:
        raise ValueError(f"no version of the model is available; versions: {dict(states)}")
    return max(available)


def _those(inputs: Mapping[str, T], names: tuple[str, ...], signature: str) -> dict[str, T]:
    """The inputs of a signature.

    Raises:
        ValueError: one is not there.
    """
    missing = [name for name in names if name not in inputs]
    if missing:
        raise ValueError(f"missing input {missing[0]!r} of {signature}")
    return {name: inputs[name] for name in names}


def _answer(response: wire.PredictResponse) -> Answer:
    outputs = {name: to_array(proto) for name, proto in response.outputs.items()}
    return Answer(response.model_spec.version.value, outputs)


def _described(tensors: Mapping[str, wire.TensorInfo]) -> dict[str, tuple[str, list[int]]]:
    return {
        name: (dtype_name(info.dtype), [dim.size for dim in info.tensor_shape.dim])
        for name, info in sorted(tensors.items())
    }
