"""Too many calls, callers that vanish, calls that never come."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2

from serving.client import Client
from serving.config import ServeConfig
from serving.server import LOOPBACK, Server
from tests.export.samples import SCHEMAS, request
from tests.serving.test_metrics import page
from tests.serving.test_server import refusal

SCHEMA = SCHEMAS["both"]
RAW = request(SCHEMA)
PREDICT = "/tensorflow.serving.PredictionService/Predict"


@pytest.fixture(scope="module")
def served(films):
    config = ServeConfig(
        port=0, metrics_port=0, max_request_mb=1, workers=1, max_waiting=2, batch_candidates=100
    )
    server = Server("films", films, config)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def busy(served, monkeypatch):
    """Whether the only worker is held, what lets it go, and the (B, N) of what it ran."""
    with served.versions.use() as (_, model):
        run = model.run
    begun, go, ran = threading.Event(), threading.Event(), []

    def slow(signature, arrays):
        begun.set()
        assert go.wait(20)
        ran.append(arrays["candidates_mask"].shape)
        return run(signature, arrays)

    monkeypatch.setattr(model, "run", slow)
    yield begun, go, ran
    go.set()
    # What a failed test has left would hold the worker in the next.
    until(lambda: page(served)["ctr_tf_computing_calls",] == 0)


@pytest.fixture
def client(served):
    with Client(f"{LOOPBACK}:{served.port}", "films") as found:
        yield found


def message():
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name = "films"
    for name, value in RAW.items():
        asked.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return asked.SerializeToString()


def until(condition):
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def statuses(server):
    return {key[1]: count for key, count in page(server).items() if key[0] == "ctr_tf_calls_total"}


def test_more_than_can_wait_are_refused_and_counted(served, client, busy):
    begun, go, _ = busy
    before = statuses(served).get("RESOURCE_EXHAUSTED", 0)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(client.predict, None, RAW, 20)]
        # Sent at once, two that find the worker idle may be taken as one.
        assert begun.wait(20)
        calls += [pool.submit(client.predict, None, RAW, 20) for _ in range(2)]
        until(lambda: page(served)["ctr_tf_waiting_calls",] == 2)
        assert page(served)["ctr_tf_computing_calls",] == 1
        for _ in range(5):
            message = "1 calls are computed and 2 wait"
            refusal("RESOURCE_EXHAUSTED", message, lambda: client.predict(None, RAW))
        assert statuses(served)["RESOURCE_EXHAUSTED"] == before + 5
        # Whoever asks whether the server is well is answered all the same.
        assert client.status() == {3: "AVAILABLE"}
        with grpc.insecure_channel(f"{LOOPBACK}:{served.port}") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            found = check(health_pb2.HealthCheckRequest(service="films"), timeout=10)
        assert found.status == health_pb2.HealthCheckResponse.SERVING
        go.set()
        for call in calls:
            assert call.result()["click"].shape == (1, 4)


def test_calls_that_wait_are_computed_as_one(served, client, busy):
    begun, go, ran = busy
    raws = [request(SCHEMA, seed, candidates=size, length=seed) for seed, size in ((1, 3), (2, 7))]
    with ThreadPoolExecutor(3) as pool:
        pool.submit(client.predict, None, RAW, 20)
        assert begun.wait(20)
        calls = [pool.submit(client.predict, None, raw, 20) for raw in raws]
        until(lambda: page(served)["ctr_tf_waiting_calls",] == 2)
        go.set()
        found = [call.result() for call in calls]
    assert ran == [(1, 4), (2, 7)]
    for raw, together in zip(raws, found):
        for task, alone in client.predict(None, raw).items():
            np.testing.assert_allclose(together[task], alone, atol=1e-6)


def test_callers_that_vanish_leave_their_place(served, client, busy):
    begun, go, _ = busy
    with (
        ThreadPoolExecutor(1) as pool,
        grpc.insecure_channel(f"{LOOPBACK}:{served.port}") as channel,
    ):
        computed = pool.submit(client.predict, None, RAW, 20)
        assert begun.wait(20)
        predict = channel.unary_unary(PREDICT)
        data = message()
        before = statuses(served).get("CANCELLED", 0)
        for number in range(1, 6):
            # Two would fill the queue.
            waiting = [predict.future(data) for _ in range(2)]
            until(lambda: page(served)["ctr_tf_waiting_calls",] == 2)
            for each in waiting:
                each.cancel()
            until(lambda n=number: statuses(served).get("CANCELLED", 0) == before + 2 * n)
            assert page(served)["ctr_tf_waiting_calls",] == 0
        go.set()
        assert computed.result()["click"].shape == (1, 4)


def test_messages_that_never_come_hold_no_place(films, served, client):
    done = threading.Event()

    def never():
        done.wait(20)
        yield b""

    def begin(channel):
        # More than there are workers and places.
        return [channel.stream_unary(PREDICT).future(never()) for _ in range(10)]

    with grpc.insecure_channel(f"{LOOPBACK}:{served.port}") as channel:
        begin(channel)
        for _ in range(5):
            assert client.predict(None, RAW)["click"].shape == (1, 4)
    # They end with their connection.
    config = ServeConfig(port=0, max_connection_seconds=0.3, max_seconds=0.3)
    server = Server("films", films, config)
    server.start()
    with grpc.insecure_channel(f"{LOOPBACK}:{server.port}") as channel:
        for call in begin(channel):
            refusal("UNAVAILABLE", "max connection age", lambda call=call: call.result(20))
    server.stop()
    done.set()


def test_a_message_that_is_too_large_is_not_taken_in(served, client):
    raw = RAW | {"title": RAW["title"].copy()}
    raw["title"][0, 0] = "x" * 2**20
    before = sum(statuses(served).values())
    refusal("RESOURCE_EXHAUSTED", "larger than max", lambda: client.predict(None, raw))
    assert sum(statuses(served).values()) == before
