"""Versions and labels set over gRPC, as TensorFlow Serving takes them."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from ctr_tf.export.self_check import score_in_process
from serving.client import Client
from serving.config import ServeConfig
from serving.server import Server
from tests.export.samples import SCHEMAS, build, request
from tests.serving.test_server import refusal, write_version

SCHEMA = SCHEMAS["both"]
RAW = request(SCHEMA)


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """A folder with versions 1 and 2, and what each says of `RAW`."""
    folder = tmp_path_factory.mktemp("films")
    model, preprocessor = build(tmp_path_factory.mktemp("data"), "din", SCHEMA)
    bias = next(v for v in model.variables if v.path.endswith("heads/click/bias"))
    found = {}
    for version in (1, 2):
        bias.assign(bias + 1.0)
        write_version(folder, version, model, preprocessor)
        found[version] = score_in_process(model, preprocessor, RAW)["click"]
    assert np.abs(found[1] - found[2]).max() > 0.01
    return folder, found


@pytest.fixture(scope="module")
def served(scores):
    server = Server("films", scores[0], ServeConfig(port=0, poll_seconds=0.05))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def reload(served):
    with grpc.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)

        def call(entry, name="films"):
            config = model_server_config_pb2.ModelServerConfig()
            text_format.Parse(f'name: "{name}" {entry}', config.model_config_list.config.add())
            return stub.HandleReloadConfigRequest(
                model_management_pb2.ReloadConfigRequest(config=config), timeout=60
            )

        yield call
        call("")


def test_back_and_forth_under_load(served, reload, scores):
    _, expected = scores
    stop, found = [], []

    def ask():
        while not stop:
            found.append(client.predict(None, RAW)["click"])
            time.sleep(0.02)

    with Client(f"127.0.0.1:{served.port}", "films") as client, ThreadPoolExecutor(2) as pool:
        client.wait()
        asking = [pool.submit(ask) for _ in range(2)]
        for policy, version in (("specific { versions: 1 }", 1), ("latest { num_versions: 1 }", 2)):
            answer = reload(f"model_version_policy {{ {policy} }}")
            assert answer.status.error_code == 0
            np.testing.assert_allclose(
                client.predict(None, RAW)["click"], expected[version], atol=1e-6
            )
            assert client.status()[version] == "AVAILABLE"
        stop.append(True)
        for call in asking:
            call.result()  # Raises where a call was refused.
    for one in found:
        assert any(np.allclose(one, scores, atol=1e-6) for scores in expected.values())
    assert any(np.allclose(one, expected[1], atol=1e-6) for one in found)


def test_a_canary_beside_what_is_stable(served, reload, scores):
    _, expected = scores
    labels = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
    reload(f"model_version_policy {{ all {{}} }} {labels}")
    target = f"127.0.0.1:{served.port}"
    for label, version in (("stable", 1), ("canary", 2), (None, 2)):
        with Client(target, "films", label=label) as client:
            found = client.predict(None, RAW)["click"]
            np.testing.assert_allclose(found, expected[version], atol=1e-6)
            assert client.status(version) == {version: "AVAILABLE"}
    # The canary is taken back: its calls are answered by what is stable.
    labels = labels.replace("value: 2", "value: 1")
    reload(f"model_version_policy {{ specific {{ versions: 1 }} }} {labels}")
    with Client(target, "films", label="canary") as client:
        np.testing.assert_allclose(client.predict(None, RAW)["click"], expected[1], atol=1e-6)
        refusal("NOT_FOUND", "version 2 is not served", lambda: client.predict(None, RAW, None, 2))
    with Client(target, "films", label="old") as client:
        message = "unknown version label 'old'; labels: canary, stable"
        refusal("INVALID_ARGUMENT", message, lambda: client.predict(None, RAW))


def test_what_is_refused_changes_nothing(served, reload, scores):
    folder, _ = scores
    for code, message, entry in (
        ("FAILED_PRECONDITION", "version 9 is not loaded", "specific { versions: [1, 9] }"),
        ("INVALID_ARGUMENT", "specific must name a version", "specific {}"),
    ):
        call = lambda entry=entry: reload(f"model_version_policy {{ {entry} }}")
        refusal(code, message, call)
    call = lambda: reload('version_labels { key: "stable" value: 1 }')
    refusal("FAILED_PRECONDITION", "version 1 is not loaded under the policy; loaded: 2", call)
    call = lambda: reload('base_path: "/models/films"')
    refusal("INVALID_ARGUMENT", f"base_path must be '{folder}', got '/models/films'", call)
    call = lambda: reload("", name="books")
    message = r"model_config_list must be of model 'films' alone, got \['books'\]"
    refusal("INVALID_ARGUMENT", message, call)
    assert served.versions.current == 2
    reload(f'base_path: "{folder}"')
