"""The local server over loopback: answers, every refusal, swaps under load, draining."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ctr_tf.export.self_check import score_in_process
from ctr_tf.export.signatures import ITEM_TOWER, USER_TOWER, Signatures
from ctr_tf.export.warmup import write_warmup
from serving.client import Client
from serving.config import ServeConfig
from serving.metrics import CallMetrics
from serving.server import Server
from serving.service import PredictionService
from serving.validation import InvalidInput, input_rules, read_inputs
from tests.data.test_raw_inputs import VALUES
from tests.export.samples import SCHEMAS, build, request

SCHEMA = SCHEMAS["both"]
ROOT = Path(__file__).parents[2]
COMMAND = """
import sys
from serving.server import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("tensorflow" in sys.modules)
    sys.exit(end.code)
"""


def write_version(folder, number, model, preprocessor):
    """A version such as `export` writes, without its self-check; it appears at once."""
    hidden = folder / f".{number}"
    signatures = Signatures(model, preprocessor)
    signatures.save(hidden)
    (hidden / "assets.extra").mkdir()
    (hidden / "assets.extra/schema.json").write_text(model.schema.to_json())
    path = hidden / "assets.extra/tf_serving_warmup_requests"
    write_warmup(path, signatures, [request(model.schema)], "films")
    hidden.rename(folder / str(number))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return build(tmp_path_factory.mktemp("data"), "din", SCHEMA)


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("films")
    write_version(path, 3, *trained)
    return path


@pytest.fixture(scope="module")
def served(folder):
    config = ServeConfig(port=0, poll_seconds=0.1, max_request_mb=1, max_candidates=50, workers=3)
    server = Server("films", folder, config)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(served):
    with Client(f"127.0.0.1:{served.port}", "films", SCHEMA) as found:
        found.wait()
        yield found


@pytest.fixture(scope="module")
def stub(served):
    """TensorFlow Serving's own."""
    with grpc.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def refusal(code, message, call):
    with pytest.raises(grpc.RpcError) as raised:
        call()
    assert raised.value.code() == getattr(grpc.StatusCode, code), raised.value.details()
    assert re.search(message, raised.value.details()), raised.value.details()


def test_scores_are_those_in_process(client, trained):
    raw = request(SCHEMA, 5, batch=2, candidates=6)
    expected = score_in_process(*trained, raw)
    found = client.predict(None, raw)
    item_inputs = [s.name for s in SCHEMA.inputs if s.side != "user"]
    user = {s.name: raw[s.name] for s in SCHEMA.inputs if s.side == "user"}
    state = client.predict(USER_TOWER, user)
    by_towers = client.predict(ITEM_TOWER, {**state, **{n: raw[n] for n in item_inputs}})
    for task in ("click", "like"):
        np.testing.assert_allclose(found[task], expected[task], atol=1e-6)
        np.testing.assert_allclose(by_towers[task], expected[task], atol=1e-6)


def test_a_request_of_plain_values(client, trained):
    scores = client.score(VALUES)
    empty = {"history_item_id": [], "history_genres": [], "history_time": []}
    first = client.score(VALUES | empty)
    assert scores["click"].shape == first["click"].shape == (3,)
    assert np.isfinite(first["click"]).all()
    assert np.abs(scores["click"] - first["click"]).max() > 1e-5


def test_status_and_metadata(client):
    assert client.status() == client.status(version=3) == {3: "AVAILABLE"}
    found = client.metadata()
    assert set(found) == {"serving_default", USER_TOWER, ITEM_TOWER}
    assert found["serving_default"]["inputs"]["genres"] == ("string", [-1, -1, -1])
    assert found["serving_default"]["outputs"] == {
        "click": ("float32", [-1, -1]),
        "like": ("float32", [-1, -1]),
    }


def changed(**values):
    return lambda raw: {**raw, **values}


BAD_INPUTS = {
    "missing": (lambda raw: {n: v for n, v in raw.items() if n != "age"}, "missing inputs: age$"),
    "extra": (changed(prize=np.ones((1, 4))), "unknown input 'prize'; did you mean 'price'"),
    "dtype": (changed(item_id=np.ones((1, 4))), "'item_id': must be int64, got double"),
    "rank": (changed(age=np.ones((1, 1), "f")), r"'age': must have 1 axes, got shape \[1, 1\]"),
    "candidates differ": (
        changed(price=np.ones((1, 3), "f")),
        "'price': axis N has size 3, but 4 in 'item_id'",
    ),
    "lengths differ": (
        changed(history_time=np.ones((1, 2), "int64")),
        "'history_time': axis L of history has size 2, but 3 in 'history_item_id'",
    ),
    "requests differ": (
        changed(hour=np.ones(2, "int64")),
        "'hour': axis B has size 2, but 1 in 'user_id'",
    ),
    "nan": (changed(age=np.array([np.nan], "f")), r"'age': nan at \[0\]; must be finite"),
    "infinite": (
        changed(price=np.array([[0, 1, np.inf, 0]], "f")),
        r"'price': inf at \[0, 2\]; must be finite",
    ),
    "too many behaviours": (
        lambda raw: request(SCHEMA, length=51),
        "'history_item_id': axis L of history has size 51; at most 50",
    ),
    "too many candidates": (
        lambda raw: request(SCHEMA, candidates=51),
        "'item_id': 51 candidates in one call; at most 50",
    ),
}


@pytest.mark.parametrize("change, message", BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_bad_inputs_are_named(client, change, message):
    raw = change(request(SCHEMA))
    refusal("INVALID_ARGUMENT", message, lambda: client.predict(None, raw))


def test_nan_is_missing_where_the_feature_has_a_default(client):
    raw = request(SCHEMA)
    scores = client.predict(None, {**raw, "price": raw["price"] * np.float32("nan")})
    zeros = client.predict(None, {**raw, "price": raw["price"] * 0})
    np.testing.assert_array_equal(scores["click"], zeros["click"])


def test_a_score_that_is_not_finite_is_no_answer(client, served, monkeypatch):
    with served.versions.use() as (_, model):
        scores = {"click": np.array([[0.5, np.nan]], "f"), "like": np.array([[0.5, 0.5]], "f")}
        monkeypatch.setattr(model, "run", lambda *_: scores)
    message = "output 'click' is not finite: an input is too large"
    refusal("INVALID_ARGUMENT", message, lambda: client.predict(None, request(SCHEMA)))


def test_malformed_tensors(stub):
    def call(change):
        message = predict_pb2.PredictRequest()
        message.model_spec.name = "films"
        for name, value in request(SCHEMA).items():
            message.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        change(message.inputs["item_id"])
        return stub.Predict(message, timeout=10)

    def huge(proto):
        bomb(proto, 10**12)

    def wide(proto):
        bomb(proto, 51)

    def bomb(proto, count):
        # One value that stands for many of them.
        del proto.tensor_shape.dim[:]
        proto.tensor_content = b""
        proto.int64_val.append(7)
        proto.tensor_shape.dim.add(size=1)
        proto.tensor_shape.dim.add(size=count)

    def short(proto):
        proto.tensor_content = proto.tensor_content[:-1]

    def unknown(proto):
        proto.tensor_shape.unknown_rank = True

    def negative(proto):
        proto.tensor_shape.dim[1].size = -1

    def another_type(proto):
        proto.dtype = 99

    for change, message in (
        (huge, r"'item_id': with shape \[1, 1000000000000\] the request takes over 1048576 bytes"),
        (wide, "axis N has size 4, but 51 in 'item_id'"),
        (short, "'item_id': its values do not fill its shape"),
        (unknown, "'item_id': its shape is unknown"),
        (negative, r"'item_id': must have shape \[None, None\], got \[1, -1\]"),
        (another_type, "'item_id': must be int64, got 99"),
    ):
        refusal("INVALID_ARGUMENT", message, lambda change=change: call(change))


def repeated(value, *shape):
    """A tensor of a few bytes, one value of which stands for all."""
    dtype = {int: "int64", float: "float32", bytes: "string"}[type(value)]
    proto = tf.make_tensor_proto(value, dtype, shape=(1,) * len(shape))
    proto.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return proto


def test_nothing_is_filled_before_all_sizes_are_checked(monkeypatch):
    names = ("user_id", "history_item_id", "history_genres", "genres", "price")
    specs = {s.name: s for s in SCHEMA.inputs if s.name in names}
    rules = input_rules(
        {n: tf.TensorSpec([None] * len(s.axes), s.dtype, n) for n, s in specs.items()}, SCHEMA
    )
    made = []
    monkeypatch.setattr(tf, "make_ndarray", lambda proto: made.append(proto) or np.zeros(1))
    small = {
        "user_id": repeated(7, 1),
        "history_item_id": repeated(100, 1, 50),
        "history_genres": repeated(b"", 1, 50, 2),
        "genres": repeated(b"", 1, 10, 2),
        "price": repeated(1.0, 1, 10),
    }
    # 8 bytes an id and a string, 4 a number: 1 and 50 ids, 100 and 20 strings, 10 numbers.
    size = 8 * (1 + 50 + 100 + 20) + 4 * 10
    read_inputs(small, rules, size, 10)
    assert len(made) == 5
    for change, most, message in (
        ({}, size - 1, "'price': with shape .1, 10. the request takes over 1407 bytes"),
        ({"history_item_id": repeated(7, 1, 2_000_000)}, 2**30, "L of history has size 2000000"),
        ({"genres": repeated(b"", 1, 10, 2_000_000)}, 2**24, "'genres': with shape .1, 10, 20000"),
        ({"price": repeated(1.0, 1, 9)}, size, "'price': axis N has size 9"),
        ({"genres": repeated(b"", 1, 11, 2), "price": repeated(1.0, 1, 11)}, 2**24, "11 candid"),
    ):
        with pytest.raises(InvalidInput, match=message):
            read_inputs(small | change, rules, most, 10)
    assert len(made) == 5


def test_a_state_is_no_longer_than_the_sequences_behind_it():
    spec = tf.TensorSpec([None, None, 8], tf.float32, "state_history_keys")
    rule = input_rules({spec.name: spec}, SCHEMA)[spec.name]
    assert rule.most == (None, 50, None)
    assert rule.axes == ("B", "L of history", "2 of state_history_keys")
    # Without a schema nothing is known but that the requests agree.
    rule = input_rules({spec.name: spec}, None)[spec.name]
    assert rule.most == (None, None, None) and len(set(rule.axes)) == 3


def test_a_state_of_another_length(client):
    raw = request(SCHEMA)
    user = {s.name: raw[s.name] for s in SCHEMA.inputs if s.side == "user"}
    values = client.predict(USER_TOWER, user)
    values |= {s.name: raw[s.name] for s in SCHEMA.inputs if s.side != "user"}
    values["state_history_mask"] = np.ones((1, 2), "bool")
    message = "axis L of history has size 3, but 2 in|axis L of history has size 2, but 3 in"
    refusal("INVALID_ARGUMENT", message, lambda: client.predict(ITEM_TOWER, values))


def test_unknown_model_version_and_signature(client, served):
    raw = request(SCHEMA)
    with Client(f"127.0.0.1:{served.port}", "books") as other:
        for call in (lambda: other.predict(None, raw), other.status, other.metadata):
            refusal("NOT_FOUND", "no model 'books'; served: 'films'", call)
    refusal("NOT_FOUND", "version 1 is not served", lambda: client.predict(None, raw, version=1))
    refusal("NOT_FOUND", "no version 1", lambda: client.status(version=1))
    refusal(
        "INVALID_ARGUMENT",
        "unknown signature 'rank'; signatures: item_tower, serving_default, user_tower",
        lambda: client.predict("rank", raw),
    )


def test_a_request_over_the_size_limit(client):
    raw = request(SCHEMA)
    raw["title"][0, 0] = "x" * 2**20
    refusal("RESOURCE_EXHAUSTED", "larger than max", lambda: client.predict(None, raw))


class Expired:
    """The context of a call whose deadline has passed."""

    def time_remaining(self):
        return 0.0

    def code(self):
        return grpc.StatusCode.DEADLINE_EXCEEDED

    def abort(self, code, details):
        raise RuntimeError(code.name, details)


def test_a_call_past_its_deadline_is_not_computed(client, served):
    metrics = CallMetrics(CollectorRegistry())
    service = PredictionService("films", served.versions, ServeConfig(), None, metrics, None)
    call = predict_pb2.PredictRequest()
    call.model_spec.name = "films"
    for name, value in request(SCHEMA).items():
        call.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    with pytest.raises(RuntimeError, match="DEADLINE_EXCEEDED"):
        service.Predict(call, Expired())
    refusal("DEADLINE_EXCEEDED", ".", lambda: client.predict(None, request(SCHEMA), timeout=1e-4))


def test_a_call_without_a_deadline_gets_the_servers(folder, monkeypatch):
    server = Server("films", folder, ServeConfig(port=0, workers=1, max_waiting=9, max_seconds=0.5))
    server.start()
    with server.versions.use() as (_, model):
        run = model.run
    release, ran = threading.Event(), []

    def slow(*arguments):
        ran.append(arguments)
        assert release.wait(20)
        return run(*arguments)

    monkeypatch.setattr(model, "run", slow)
    try:
        with Client(f"127.0.0.1:{server.port}", "films") as client, ThreadPoolExecutor(2) as pool:
            client.wait()
            # Neither the call that is computed, nor the one behind it, which is never begun.
            for timeout in (None, 60.0):
                ask = lambda _, timeout=timeout: client.predict(None, request(SCHEMA), timeout)
                for call in [pool.submit(ask, number) for number in range(2)]:
                    message = "no answer within 0.5 s; the server allows 0.5 s"
                    refusal("DEADLINE_EXCEEDED", message, call.result)
            release.set()
            assert client.predict(None, request(SCHEMA), None)["click"].shape == (1, 4)
        assert len(ran) == 2
    finally:
        release.set()
        server.stop()


def health(port, service=""):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        found = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(found.status)


def test_health(served):
    assert health(served.port) == health(served.port, "films") == "SERVING"
    refusal("NOT_FOUND", "", lambda: health(served.port, "books"))


def test_a_port_in_use_is_an_error(served, folder):
    with pytest.raises(RuntimeError, match="bind"):
        Server("films", folder, ServeConfig(port=served.port))


def test_a_swap_drops_no_call(client, folder, trained):
    model, preprocessor = trained
    raw = request(SCHEMA)
    old = score_in_process(model, preprocessor, raw)["click"]
    bias = next(v for v in model.variables if v.path.endswith("heads/click/bias"))
    bias.assign(bias + 1.0)
    new = score_in_process(model, preprocessor, raw)["click"]
    assert np.abs(old - new).max() > 0.01
    stop, found = threading.Event(), []

    def ask():
        while not stop.is_set():
            found.append(client.predict(None, raw)["click"])
            time.sleep(0.02)

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        write_version(folder, 4, model, preprocessor)
        ends = time.monotonic() + 120
        while client.status().get(4) != "AVAILABLE" and time.monotonic() < ends:
            time.sleep(0.05)
        last = client.predict(None, raw)["click"]
        stop.set()
        for call in asking:
            call.result()  # Raises where a call was refused.
    of_old = [np.allclose(scores, old, atol=1e-6) for scores in found]
    of_new = [np.allclose(scores, new, atol=1e-6) for scores in found]
    assert of_old[0] and all(a != b for a, b in zip(of_old, of_new, strict=True))
    np.testing.assert_allclose(last, new, atol=1e-6)
    assert client.status() == {4: "AVAILABLE", 3: "END"}
    refusal("NOT_FOUND", "version 3 is not served", lambda: client.predict(None, raw, version=3))


def test_stopping_lets_a_call_end(folder, monkeypatch):
    server = Server("films", folder, ServeConfig(port=0))
    server.start()
    started, release = threading.Event(), threading.Event()
    with server.versions.use() as (_, model):
        run = model.run

    def slow(*arguments):
        started.set()
        assert release.wait(20)
        return run(*arguments)

    monkeypatch.setattr(model, "run", slow)
    with (
        Client(f"127.0.0.1:{server.port}", "films") as client,
        ThreadPoolExecutor(2) as pool,
    ):
        call = pool.submit(client.predict, None, request(SCHEMA), 20)
        assert started.wait(20)
        stopping = pool.submit(server.stop)
        time.sleep(0.2)
        assert not stopping.done()
        release.set()
        assert call.result()["click"].shape == (1, 4)
        stopping.result(20)
        refusal("UNAVAILABLE", "", lambda: client.predict(None, request(SCHEMA)))


def blocked_signals(pid):
    """The signal mask of each thread of a process but its main one."""
    masks = []
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        # One that has ended meanwhile takes no signal.
        with suppress(FileNotFoundError, ProcessLookupError):
            if path.parent.name != str(pid):
                masks.append(int(re.search(r"SigBlk:\s*(\w+)", path.read_text())[1], 16))
    return masks


def test_the_command_serves_and_stops_on_sigterm(folder, tmp_path):
    port_file = tmp_path / "port"
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.server", "--model", "films", "--folder", str(folder),
         "--port", "0", "--port-file", str(port_file)],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        ends = time.monotonic() + 60
        while not port_file.exists() and process.poll() is None and time.monotonic() < ends:
            time.sleep(0.1)
        with Client(f"127.0.0.1:{port_file.read_text()}", "films") as client:
            assert client.predict(None, request(SCHEMA))["click"].shape == (1, 4)
            blocked = blocked_signals(process.pid)
        # The main thread waits for them; in another they would end the process, calls and all.
        stops = 1 << signal.SIGTERM - 1 | 1 << signal.SIGINT - 1
        assert len(blocked) > 4
        assert all(mask & stops == stops for mask in blocked)
        os.kill(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said
    finally:
        process.kill()
        process.communicate()
    assert "version 4 is served" in said or "version 3 is served" in said
    # Nothing of the notes of TensorFlow's C++ part.
    assert not re.search("absl::InitializeLog|oneDNN|cuda drivers", said)


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["--help"], 0, "--max-candidates"),
        (["--model", "m", "--folder", "absent"], 2, "--folder: absent holds no version"),
        (["--model", "m", "--folder", ".", "--port", "x"], 2, "--port: .*got 'x'"),
        (["--model", "m", "--folder", ".", "--log-format", "xml"], 2, "--log-format: .*got 'xml'"),
        (
            ["--model", "m", "--folder", ".", "--tls-key", __file__],
            2,
            "tls_certificate and tls_key must be given together",
        ),
    ],
)
def test_help_and_bad_arguments_do_not_import_tensorflow(arguments, status, message):
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == status
    assert re.search(message, done.stdout + done.stderr)
    assert done.stdout.rstrip().endswith("False")


def test_a_port_in_use_is_told_before_tensorflow_is_imported(served, folder):
    for host, message in (("127.0.0.1", "Address already in use"), ("no.such.host.invalid", "")):
        options = ["--model", "films", "--folder", str(folder), "--host", host]
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *options, "--port", str(served.port)],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "False\n"), done.stderr
        assert f"--port: {host}:{served.port}: {message}" in done.stderr


def test_a_folder_of_broken_versions(tmp_path):
    with pytest.raises(RuntimeError, match="nothing to serve; no version"):
        Server("films", tmp_path, ServeConfig(port=0))
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_text("not one")
    with pytest.raises(RuntimeError, match="nothing to serve; version 1: OSError"):
        Server("films", tmp_path, ServeConfig(port=0))
