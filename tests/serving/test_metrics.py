"""What a server tells of its calls: the Prometheus page and the log."""

import json
import logging
import urllib.request

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ctr_tf.export.signatures import USER_TOWER
from serving.client import Client
from serving.config import ServeConfig
from serving.logs import CALLS, JsonLines
from serving.server import LOOPBACK, Server
from tests.export.samples import SCHEMAS, request

SCHEMA = SCHEMAS["both"]


@pytest.fixture
def served(films):
    server = Server("films", films, ServeConfig(port=0, metrics_port=0))
    server.start()
    yield server
    server.stop()


def page(server):
    """Samples by name and labels."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{server.metrics_port}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def lines(caplog):
    found = [record for record in caplog.records if record.name == CALLS.name]
    return [json.loads(JsonLines().format(record)) for record in found]


def test_calls_are_counted_and_logged(served, caplog):
    caplog.set_level(logging.DEBUG, CALLS.name)
    raw = request(SCHEMA)
    raw["title"][0, 0] = "a secret title"
    user = {spec.name: raw[spec.name] for spec in SCHEMA.inputs if spec.side == "user"}
    target = f"{LOOPBACK}:{served.port}"
    with Client(target, "films") as client, grpc.insecure_channel(target) as channel:
        client.predict(None, raw)
        client.predict(None, request(SCHEMA, batch=2, candidates=6))
        client.predict(USER_TOWER, user)
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        for call in (
            lambda: client.predict(None, user),
            lambda: client.predict("rank", raw),
            lambda: predict(b"no message", timeout=10),
        ):
            with pytest.raises(grpc.RpcError):
                call()
    found = page(served)
    assert {key[1:]: n for key, n in found.items() if key[0] == "ctr_tf_calls_total"} == {
        ("OK", "serving_default"): 2,
        ("OK", "user_tower"): 1,
        ("INVALID_ARGUMENT", "serving_default"): 1,
        ("INVALID_ARGUMENT", "unknown"): 2,
    }
    assert found["ctr_tf_received_calls_total",] == 6
    assert found["ctr_tf_call_seconds_count", "serving_default"] == 2
    assert found["ctr_tf_call_seconds_bucket", "+Inf", "user_tower"] == 1
    # One request of 4 candidates and two of 6.
    assert found["ctr_tf_call_candidates_sum", "serving_default"] == 16
    assert found["ctr_tf_call_candidates_bucket", "10.0", "serving_default"] == 1
    assert ("ctr_tf_call_candidates_sum", "user_tower") not in found
    assert found["ctr_tf_version_state", "3", "AVAILABLE"] == 1
    for name in ("waiting_calls", "computing_calls", "swaps_total", "load_failures_total"):
        assert found[f"ctr_tf_{name}",] == 0
    keys = ("signature", "version", "requests", "candidates", "status")
    assert [tuple(line[key] for key in keys) for line in lines(caplog)] == [
        ("serving_default", 3, 1, 4, "OK"),
        ("serving_default", 3, 2, 6, "OK"),
        ("user_tower", 3, 1, None, "OK"),
        ("serving_default", 3, None, None, "INVALID_ARGUMENT"),
        ("unknown", None, None, None, "INVALID_ARGUMENT"),
    ]
    assert all(line["milliseconds"] >= 0 for line in lines(caplog))
    assert "secret" not in caplog.text
    # No caller can make the page grow.
    with Client(target, "films") as client:
        for number in range(5):
            with pytest.raises(grpc.RpcError):
                client.predict(f"rank_{number}", {})
    assert set(page(served)) == set(found)


def test_an_exception_is_part_of_its_line(caplog):
    try:
        raise ValueError("no such row")
    except ValueError:
        logging.getLogger("serving").exception("a call %s", "failed")
    line = json.loads(JsonLines().format(caplog.records[-1]))
    assert (line["level"], line["message"]) == ("ERROR", "a call failed")
    assert line["exception"].endswith("ValueError: no such row")
