"""Both clients over loopback: the three ways to ask, shards, retries, and no TensorFlow."""

import asyncio
import importlib.metadata
import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from ctr_tf.data.raw_inputs import request_inputs
from ctr_tf.export.self_check import score_in_process
from serving.client import AsyncClient, Client, StaleState
from serving.config import ServeConfig
from serving.server import Server
from serving.wire import messages_pb2 as wire
from serving.wire.tensors import to_proto
from tests.data.test_raw_inputs import VALUES
from tests.export.samples import SCHEMAS, build
from tests.serving.test_server import write_version

ROOT = Path(__file__).parents[2]
SCHEMA = SCHEMAS["both"]
USER = {spec.name for spec in SCHEMA.inputs if spec.side == "user"}
# What the client is said to need, and what that needs.
NEEDED = (
    "grpcio", "protobuf", "numpy", "pydantic", "pydantic_core", "annotated_types",
    "typing_extensions", "typing_inspection",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return build(tmp_path_factory.mktemp("data"), "din", SCHEMA)


@pytest.fixture(scope="module")
def served(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    write_version(folder, 3, *trained)
    server = Server("films", folder, ServeConfig(port=0, poll_seconds=0.1))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def expected(trained):
    """Of `VALUES`, by task."""
    found = score_in_process(*trained, request_inputs(SCHEMA, VALUES))
    return {task: scores[0] for task, scores in found.items()}


def close(found, expected):
    assert set(found) == set(expected)
    for task, scores in expected.items():
        np.testing.assert_allclose(found[task], scores, atol=1e-6)


def parts():
    user = {name: value for name, value in VALUES.items() if name in USER}
    rest = {name: value for name, value in VALUES.items() if name not in USER}
    return user, rest


@pytest.mark.parametrize("most", [2000, 3, 2, 1])
def test_folded_in_one_call_or_by_shards(served, expected, most):
    target = f"127.0.0.1:{served.port}"
    with Client(target, "films", SCHEMA, most_candidates=most) as client:
        close(client.score(VALUES), expected)
        close(client.score(VALUES, version=3), expected)

    async def ask():
        async with AsyncClient(target, "films", SCHEMA, most_candidates=most) as client:
            await client.wait()
            return await asyncio.gather(*[client.score(VALUES) for _ in range(4)])

    for found in asyncio.run(ask()):
        close(found, expected)


def test_a_kept_state(served, expected):
    user, rest = parts()
    target = f"127.0.0.1:{served.port}"
    with Client(target, "films", SCHEMA) as client:
        state = client.user_state(user)
        assert state.version == 3 and all(name.startswith("state_") for name in state.parts)
        close(client.score_items(state, rest), expected)
        # Values of the other tower may be there.
        close(client.score_items(client.user_state(VALUES), VALUES), expected)
        candidates = {name: rest.pop(name) for name in ("item_id", "genres", "title", "price")}
        close(client.score_items(state, rest, candidates), expected)
        with pytest.raises(ValueError, match="missing input 'item_id'"):
            client.score_items(state, rest)

    async def ask():
        async with AsyncClient(target, "films", SCHEMA, most_candidates=2) as client:
            state = await client.user_state(user)
            return state, await client.score_items(state, VALUES)

    own, found = asyncio.run(ask())
    close(found, expected)
    assert own == state


def test_a_model_without_a_user_side(tmp_path):
    model = build(tmp_path / "data", "dcn_v2", SCHEMAS["candidates"])
    (tmp_path / "ads").mkdir()
    write_version(tmp_path / "ads", 1, *model)
    server = Server("ads", tmp_path / "ads", ServeConfig(port=0))
    server.start()
    values = {"i1": [0.5, None, 2.0], "c1": ["a", "b", ""], "c2": ["v1", "v9", "v2"]}
    inputs = request_inputs(SCHEMAS["candidates"], values | {"i1": [0.5, 1.0, 2.0]})
    expected = score_in_process(*model, inputs)["click"][0]
    try:
        with Client(f"127.0.0.1:{server.port}", "ads", SCHEMAS["candidates"]) as client:
            state = client.user_state({})
            values = values | {"i1": [0.5, 1.0, 2.0]}
            for found in (client.score(values), client.score_items(state, values)):
                np.testing.assert_allclose(found["click"], expected, atol=1e-6)
    finally:
        server.stop()


def test_status_and_metadata_without_blocking(served):
    async def ask():
        async with AsyncClient(f"127.0.0.1:{served.port}", "films") as client:
            return await client.status(), await client.metadata()

    status, metadata = asyncio.run(ask())
    with Client(f"127.0.0.1:{served.port}", "films") as client:
        assert client.status() == status == {3: "AVAILABLE"}
        assert client.metadata() == metadata
    assert metadata["item_tower"]["outputs"]["click"] == ("float32", [-1, -1])


def test_what_is_wrong_before_anything_is_sent():
    with Client("127.0.0.1:1", "films") as client:
        with pytest.raises(ValueError, match="schema: plain values need the schema"):
            client.score(VALUES)
        with pytest.raises(ValueError, match="input 'age': no tensor of complex64"):
            client.predict(None, {"age": np.zeros(1, "complex64")})
    for name in ("channels", "most_candidates"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            Client("127.0.0.1:1", "films", **{name: 0})


class Fake:
    """A server that notes who asks what, and refuses the first calls with these codes."""

    def __init__(self, refusals=()):
        self.refusals = list(refusals)
        self.requests = []
        self.peers = Counter()
        self.version = 5

    def predict(self, request, context):
        self.peers[context.peer()] += 1
        self.requests.append(request)
        if self.refusals:
            context.abort(self.refusals.pop(0), "not now")
        asked = request.model_spec
        if asked.HasField("version") and asked.version.value != self.version:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no version {asked.version.value}")
        response = wire.PredictResponse(model_spec=wire.ModelSpec(name="films"))
        response.model_spec.version.value = self.version
        if asked.signature_name == "user_tower":
            response.outputs["state_x"].CopyFrom(to_proto(np.zeros((1, 2), "float32")))
            self.after_state()
        else:
            count = request.inputs["candidates_mask"].tensor_shape.dim[1].size
            response.outputs["click"].CopyFrom(to_proto(np.full((1, count), 0.5, "float32")))
        return response

    def after_state(self):
        pass

    def status(self, request, context):
        response = wire.GetModelStatusResponse()
        for version, state in ((self.version + 1, "LOADING"), (self.version, "AVAILABLE")):
            response.model_version_status.add(
                version=version, state=wire.ModelVersionStatus.State.Value(state)
            )
        return response

    def metadata(self, request, context):
        found = wire.SignatureDefMap()
        user = [s.name for s in SCHEMA.inputs if s.side == "user"]
        item = ["state_x", *(s.name for s in SCHEMA.inputs if s.side != "user")]
        for signature, names in (("user_tower", user), ("item_tower", item)):
            for name in names:
                found.signature_def[signature].inputs[name].dtype = wire.DT_FLOAT
        response = wire.GetModelMetadataResponse()
        response.metadata["signature_def"].value = found.SerializeToString()
        return response


@contextmanager
def serving(fake):
    def handler(method, request):
        return grpc.unary_unary_rpc_method_handler(
            method, request.FromString, lambda message: message.SerializeToString()
        )

    server = grpc.server(ThreadPoolExecutor(8))
    for service, handlers in {
        "PredictionService": {
            "Predict": handler(fake.predict, wire.PredictRequest),
            "GetModelMetadata": handler(fake.metadata, wire.GetModelMetadataRequest),
        },
        "ModelService": {"GetModelStatus": handler(fake.status, wire.GetModelStatusRequest)},
    }.items():
        name = f"tensorflow.serving.{service}"
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


def ask_both(target, **options):
    """Scores by one client, then the other."""
    with Client(target, "films", SCHEMA, **options) as client:
        yield client.score(VALUES)

    async def ask():
        async with AsyncClient(target, "films", SCHEMA, **options) as client:
            return await client.score(VALUES)

    yield asyncio.run(ask())


def test_a_server_that_is_away_for_a_moment_is_asked_again():
    fake = Fake()
    with serving(fake) as target:
        fake.refusals = [grpc.StatusCode.UNAVAILABLE] * 2
        for tries, found in zip((3, 6), ask_both(target)):
            assert found["click"].tolist() == [0.5] * 3 and len(fake.requests) == tries
            fake.refusals = [grpc.StatusCode.UNAVAILABLE] * 2


@pytest.mark.parametrize("code, tries", [("UNAVAILABLE", 5), ("INVALID_ARGUMENT", 1)])
def test_what_is_not_asked_again_for_ever(code, tries):
    fake = Fake([getattr(grpc.StatusCode, code)] * 20)
    with serving(fake) as target, Client(target, "films", SCHEMA) as client:
        with pytest.raises(grpc.RpcError) as raised:
            client.score(VALUES)
        assert raised.value.code().name == code and len(fake.requests) == tries


def test_retries_end_with_the_timeout():
    fake = Fake([grpc.StatusCode.UNAVAILABLE] * 20)
    with serving(fake) as target, Client(target, "films", SCHEMA) as client:
        with pytest.raises(grpc.RpcError) as raised:
            client.score(VALUES, timeout=1e-3)
        assert raised.value.code() in (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.UNAVAILABLE,
        )
        assert len(fake.requests) < 5


def test_calls_take_the_channels_in_turn():
    fake = Fake()
    with serving(fake) as target, Client(target, "films", SCHEMA, channels=3) as client:
        for _ in range(6):
            client.score(VALUES)
        assert sorted(fake.peers.values()) == [2, 2, 2]


def test_labels_and_versions_are_asked_for():
    fake = Fake()
    with serving(fake) as target, Client(target, "films", SCHEMA, label="canary") as client:
        client.score(VALUES)
        client.score(VALUES, version=5)
    first, second = (request.model_spec for request in fake.requests)
    assert first.version_label == "canary" and not first.HasField("version")
    assert second.version.value == 5 and not second.version_label


def test_shards_are_of_the_version_of_their_state():
    fake = Fake()
    with serving(fake) as target, Client(target, "films", SCHEMA, most_candidates=2) as client:
        client.score(VALUES)
        tower, *items = fake.requests
        assert tower.model_spec.signature_name == "user_tower" and len(items) == 2
        assert {request.model_spec.version.value for request in items} == {5}
        assert sorted(r.inputs["item_id"].tensor_shape.dim[1].size for r in items) == [1, 2]


def test_a_version_that_is_swapped_between_the_calls():
    class Swapping(Fake):
        def after_state(self):
            # Once, after the version has been told.
            if self.version == 5:
                self.version = 6

    for index in range(2):
        fake = Swapping()
        with serving(fake) as target:
            found = list(ask_both(target, most_candidates=2))[index]
            assert found["click"].tolist() == [0.5] * 3
    fake = Swapping()
    with serving(fake) as target, Client(target, "films", SCHEMA) as client:
        state = client.user_state(VALUES)
        with pytest.raises(StaleState, match="version 5: no version 5"):
            client.score_items(state, VALUES)


SCRIPT = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import asyncio
from ctr_tf.schema import Schema
from serving.client import AsyncClient, Client
target, schema, values = sys.argv[3], Schema.from_json(sys.argv[4]), json.loads(sys.argv[5])
with Client(target, "films", schema, most_candidates=2) as client:
    scores = client.score(values)
async def ask():
    async with AsyncClient(target, "films", schema) as client:
        return await client.score_items(await client.user_state(values), values)
both = [scores, asyncio.run(ask())]
try:
    import tensorflow
except ImportError:
    found = [{task: own.tolist() for task, own in each.items()} for each in both]
    models = [name for name in sys.modules if name.startswith("ctr_tf.models")]
    print(json.dumps([found, models]))
"""


def test_where_there_is_no_tensorflow(served, expected, tmp_path):
    for name in NEEDED:
        files = importlib.metadata.distribution(name).files
        for top in {file.parts[0] for file in files if ".." not in file.parts}:
            link = tmp_path / top
            if not link.exists():
                link.symlink_to(importlib.metadata.distribution(name).locate_file(top))
    command = [sys.executable, "-I", "-S", "-c", SCRIPT, str(tmp_path), str(ROOT)]
    command += [f"127.0.0.1:{served.port}", SCHEMA.to_json(), json.dumps(VALUES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, models = json.loads(done.stdout)
    assert models == []
    for each in found:
        close({task: np.array(scores) for task, scores in each.items()}, expected)
