"""Malformed calls: each gets a clean status or a correct score, and the server lives."""

import itertools
import math
import struct
from collections import Counter
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2

from ctr_tf.export.signatures import ITEM_TOWER, SERVING, USER_TOWER, Signatures
from serving.config import ServeConfig
from serving.server import Server
from tests.export.samples import SCHEMAS, build, request
from tests.serving.test_server import write_version

SCHEMA = SCHEMAS["both"]
PREDICTIONS = "tensorflow.serving.PredictionService"
MODELS = "tensorflow.serving.ModelService"
CLEAN = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}


def fuzz(count):
    """So many examples, the same ones each time."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Target:
    """A server, the same signatures in process, and what the server answered so far."""

    def __init__(self, port, functions):
        self.functions = functions
        self.statuses = Counter()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.calls = {s: [self._call(s, seed) for seed in range(3)] for s in functions}

    def ask(self, method, data):
        """The answer's bytes, or None where the call was refused as it should be."""
        try:
            answer = self._channel.unary_unary(method)(data, timeout=30)
        except grpc.RpcError as error:
            self.statuses[error.code().name] += 1
            assert error.code().name in CLEAN, f"{error.code()}: {error.details()}"
            assert error.details()
            return None
        self.statuses["OK"] += 1
        return answer

    def predict(self, data):
        """Asks for a prediction and compares it with the one in process."""
        answer = self.ask(f"/{PREDICTIONS}/Predict", data)
        if answer is None:
            return
        call = predict_pb2.PredictRequest.FromString(data)
        found = predict_pb2.PredictResponse.FromString(answer).outputs
        function = self.functions[call.model_spec.signature_name or SERVING]
        inputs = {name: tf.make_ndarray(proto) for name, proto in call.inputs.items()}
        specs = function.structured_input_signature[1]
        assert set(inputs) == set(specs)
        expected = function(**{n: tf.constant(v, specs[n].dtype) for n, v in inputs.items()})
        assert set(found) == set(call.output_filter or expected)
        for name, proto in found.items():
            np.testing.assert_allclose(tf.make_ndarray(proto), expected[name], atol=1e-5)

    @contextmanager
    def survives(self, refused):
        """Checks that at least so many calls are refused inside, and good ones answered after."""
        before = self.statuses.copy()
        yield
        asked = self.statuses - before
        assert asked.total() - asked["OK"] >= refused
        for call in itertools.chain.from_iterable(self.calls.values()):
            answered = self.statuses["OK"]
            self.predict(call.SerializeToString())
            assert self.statuses["OK"] == answered + 1

    def _call(self, signature, seed):
        raw = request(SCHEMA, seed, batch=1 + seed % 2, candidates=2 + seed, length=seed)
        if signature == ITEM_TOWER:
            specs = self.functions[USER_TOWER].structured_input_signature[1]
            user = {name: tf.constant(raw[name], spec.dtype) for name, spec in specs.items()}
            raw = {**raw, **self.functions[USER_TOWER](**user)}
        call = predict_pb2.PredictRequest()
        call.model_spec.name, call.model_spec.signature_name = "films", signature
        for name in self.functions[signature].structured_input_signature[1]:
            call.inputs[name].CopyFrom(tf.make_tensor_proto(raw[name]))
        return call


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    model, preprocessor = build(tmp_path_factory.mktemp("data"), "din", SCHEMA)
    folder = tmp_path_factory.mktemp("films")
    write_version(folder, 3, model, preprocessor)
    server = Server("films", folder, ServeConfig(port=0, max_request_mb=1, max_candidates=50))
    server.start()
    yield Target(server.port, Signatures(model, preprocessor).functions)
    server.stop()


def on_tensor(values, change):
    """Changes that a drawn value makes to one tensor of a call."""

    def edit(drawn):
        index, value = drawn

        def apply(call):
            names = sorted(call.inputs)
            if names:
                change(call.inputs[names[index % len(names)]], value)

        return apply

    return st.tuples(st.integers(0, 30), values).map(edit)


def on_call(values, change):
    """Changes that a drawn value makes to a call."""
    return values.map(lambda value: lambda call: change(call, value))


def set_shape(proto, sizes):
    del proto.tensor_shape.dim[:]
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)


def stand_for_many(proto, sizes):
    """One value, which fills a tensor of any shape."""
    proto.tensor_content = b""
    for field in ("int64_val", "float_val", "string_val", "bool_val"):
        proto.ClearField(field)
    field = {
        tf.int64.as_datatype_enum: ("int64_val", 7),
        tf.string.as_datatype_enum: ("string_val", b"v1"),
        tf.bool.as_datatype_enum: ("bool_val", True),
    }.get(proto.dtype, ("float_val", 0.5))
    getattr(proto, field[0]).append(field[1])
    set_shape(proto, sizes)


def set_content(proto, content):
    proto.tensor_content = content


def resize_content(proto, change):
    proto.tensor_content = proto.tensor_content[:change] + b"\0" * max(change, 0)


def set_values(proto, values):
    for field in ("int64_val", "float_val", "string_val", "bool_val"):
        proto.ClearField(field)
    proto.tensor_content = b""
    for value in values:
        field = {bool: "bool_val", int: "int64_val", float: "float_val", bytes: "string_val"}
        getattr(proto, field[type(value)]).append(value)


# More than the server lets into a tensor of this schema, less than what hurts a process.
MOST_FILLED = 10_000


def fill(proto, values):
    """One value in every place, of the right type; of a shape that no message holds in some."""
    integer, number, text, byte = values
    count = min(math.prod(dim.size for dim in proto.tensor_shape.dim), MOST_FILLED)
    if proto.dtype == tf.string.as_datatype_enum:
        set_values(proto, [text] * count)
    else:
        value = {
            tf.int64.as_datatype_enum: struct.pack("<q", integer),
            tf.bool.as_datatype_enum: bytes([byte]),
        }.get(proto.dtype, struct.pack("<f", number))
        proto.tensor_content = value * count


def drop(call, index):
    names = sorted(call.inputs)
    del call.inputs[names[index % len(names)]]


def add(call, name):
    call.inputs[name].CopyFrom(tf.make_tensor_proto([[1.0]]))


def set_spec(field):
    return lambda call, value: setattr(call.model_spec, field, value)


def set_version(call, number):
    call.model_spec.version.value = number


SIZES = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 4, 50, 51, 10**6, 2**31, 10**12, 2**63 - 1])
SHAPES = st.lists(SIZES, max_size=4)
FLOATS = st.floats(width=32) | st.sampled_from([float("nan"), float("inf"), 3e38, -3e38, 1e-45])
INTEGERS = st.integers(-(2**63), 2**63 - 1)
CHANGES = st.one_of(
    on_tensor(st.integers(0, 130), lambda proto, dtype: setattr(proto, "dtype", dtype)),
    on_tensor(st.booleans(), lambda proto, on: setattr(proto.tensor_shape, "unknown_rank", on)),
    on_tensor(SHAPES, set_shape),
    on_tensor(SHAPES, stand_for_many),
    on_tensor(st.binary(max_size=64), set_content),
    on_tensor(st.integers(-9, 9), resize_content),
    on_tensor(st.lists(FLOATS, max_size=6), set_values),
    on_tensor(st.lists(INTEGERS, max_size=6), set_values),
    on_tensor(st.lists(st.binary(max_size=8), max_size=6), set_values),
    on_tensor(st.lists(st.booleans(), max_size=6), set_values),
    on_tensor(st.tuples(INTEGERS, FLOATS, st.binary(max_size=8), st.integers(0, 255)), fill),
    on_call(st.integers(0, 30), drop),
    on_call(st.text(max_size=20) | st.sampled_from(["prize", "x" * 20_000]), add),
    on_call(st.text(max_size=20) | st.sampled_from([USER_TOWER, ""]), set_spec("signature_name")),
    on_call(st.text(max_size=20) | st.just("Films"), set_spec("name")),
    on_call(st.text(max_size=20), set_spec("version_label")),
    on_call(INTEGERS | st.just(3), set_version),
    on_call(
        st.lists(st.sampled_from(["click", "like", "clik"]) | st.text(max_size=5), max_size=3),
        lambda call, names: call.output_filter.extend(names),
    ),
)


def test_changed_calls(target):
    @fuzz(2500)
    @given(
        st.sampled_from([SERVING, USER_TOWER, ITEM_TOWER]),
        st.integers(0, 2),
        st.lists(CHANGES, min_size=1, max_size=3),
    )
    def ask(signature, seed, changes):
        call = predict_pb2.PredictRequest()
        call.CopyFrom(target.calls[signature][seed])
        for change in changes:
            change(call)
        target.predict(call.SerializeToString())

    with target.survives(refused=1800):
        ask()


def test_changed_bytes(target):
    @fuzz(500)
    @given(
        st.sampled_from([SERVING, ITEM_TOWER]),
        st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
        st.none() | st.integers(0, 10**6),
    )
    def ask(signature, changes, length):
        data = bytearray(target.calls[signature][0].SerializeToString())
        for index, value in changes:
            data[index % len(data)] = value
        if length is not None:
            del data[length % len(data) :]
        target.predict(bytes(data))

    with target.survives(refused=400):
        ask()


@pytest.mark.parametrize(
    "method",
    [
        f"{PREDICTIONS}/Predict",
        f"{PREDICTIONS}/GetModelMetadata",
        f"{MODELS}/GetModelStatus",
        f"{MODELS}/HandleReloadConfigRequest",
    ],
)
def test_random_bytes(target, method):
    @fuzz(100)
    @given(st.binary(max_size=100))
    def ask(data):
        assert target.ask(f"/{method}", data) is None

    with target.survives(refused=100):
        ask()
