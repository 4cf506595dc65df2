"""The files of a deployment: they parse, hold what was asked for, and name what is there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from pydantic import ValidationError
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.deploy import (
    BATCHING,
    KUBERNETES,
    METRICS_PATH,
    MODELS,
    MONITORING,
    DeployConfig,
    deploy,
    main,
    render,
)

ROOT = Path(__file__).parents[2]
FILES = [MODELS, BATCHING, MONITORING, KUBERNETES]
INT64 = ".google.protobuf.Int64Value"
# Of tensorflow_serving/servables/tensorflow/session_bundle_config.proto and of
# tensorflow_serving/config/monitoring_config.proto, which the wheel leaves out.
MESSAGES = {
    "BatchingParameters": {
        "max_batch_size": INT64,
        "batch_timeout_micros": INT64,
        "max_enqueued_batches": INT64,
        "num_batch_threads": INT64,
        "thread_pool_name": ".google.protobuf.StringValue",
        "pad_variable_length_inputs": "bool",
    },
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": ".serving.PrometheusConfig"},
}


def parsed(name, text):
    """A text proto as one of the messages."""
    field = descriptor_pb2.FieldDescriptorProto
    plain = {"bool": field.TYPE_BOOL, "string": field.TYPE_STRING}
    file = descriptor_pb2.FileDescriptorProto(
        name="serving.proto", package="serving", syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )  # fmt: skip
    for message, fields in MESSAGES.items():
        own = file.message_type.add(name=message)
        for number, (key, kind) in enumerate(fields.items(), start=1):
            own.field.add(
                name=key, number=number, label=field.LABEL_OPTIONAL,
                type=plain.get(kind, field.TYPE_MESSAGE), type_name=None if kind in plain else kind,
            )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"serving.{name}"))
    return text_format.Parse(text, message())


def objects(text):
    """The manifests by kind, each kind once."""
    found = list(yaml.safe_load_all(text))
    assert len({each["kind"] for each in found}) == len(found)
    return {each["kind"]: each for each in found}


def container_of(manifests):
    (container,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    return container


@pytest.fixture
def folder(tmp_path):
    for number in (3, 4, 5):
        (tmp_path / "films" / str(number)).mkdir(parents=True)
        (tmp_path / "films" / str(number) / "saved_model.pb").touch()
    return tmp_path / "films"


def test_versions_and_labels_of_the_server():
    text = render(DeployConfig(model="films", stable=4, canary=5, previous=3), 0)[MODELS]
    (model,) = text_format.Parse(text, ModelServerConfig()).model_config_list.config
    assert (model.name, model.base_path) == ("films", "/models/films")
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.WhichOneof("policy_choice") == "specific"
    assert list(model.model_version_policy.specific.versions) == [3, 4, 5]
    assert dict(model.version_labels) == {"stable": 4, "canary": 5}


def test_calls_of_different_sizes_are_never_padded():
    files = render(DeployConfig(model="films", stable=3, cpus=6), 0)
    batching = parsed("BatchingParameters", files[BATCHING])
    assert not batching.pad_variable_length_inputs
    assert batching.max_batch_size.value == 8
    assert batching.batch_timeout_micros.value == 0
    assert batching.num_batch_threads.value == 6
    assert batching.max_enqueued_batches.value == 24
    assert "pads with the first element of each tensor" in files[BATCHING]


def test_metrics_are_where_the_pods_say():
    files = render(DeployConfig(model="films", stable=3), 0)
    metrics = parsed("MonitoringConfig", files[MONITORING]).prometheus_config
    assert metrics.enable and metrics.path == METRICS_PATH
    manifests = objects(files[KUBERNETES])
    notes = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/path"] == METRICS_PATH
    ports = {port["name"]: port["containerPort"] for port in container_of(manifests)["ports"]}
    assert notes["prometheus.io/port"] == str(ports["rest"]) == "8501"


def test_manifests_agree_with_each_other_and_with_the_files(folder, tmp_path):
    config = DeployConfig(model="dcn_v2", stable=3, canary=4, startup_seconds=95, max_replicas=6)
    output = tmp_path / "deployment"
    written = deploy(config, folder, output)
    assert written == [output / name for name in FILES]
    assert sorted(output.iterdir()) == sorted(written)
    manifests = objects((output / KUBERNETES).read_text())
    assert list(manifests) == [
        "ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler",
    ]  # fmt: skip
    deployment, service = manifests["Deployment"], manifests["Service"]
    pod = deployment["spec"]["template"]
    label = pod["metadata"]["labels"]
    assert label == {"app": "dcn-v2"}
    budget, scaler = manifests["PodDisruptionBudget"], manifests["HorizontalPodAutoscaler"]
    for own in (deployment, budget):
        assert own["spec"]["selector"] == {"matchLabels": label}
    assert service["spec"]["selector"] == label
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 6)
    # The autoscaler's number would be set back by every apply.
    assert "replicas" not in deployment["spec"]
    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }  # fmt: skip

    container = container_of(manifests)
    options = dict(argument.removeprefix("--").split("=") for argument in container["args"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (int(options["port"]), int(options["rest_api_port"])) == (ports["grpc"], ports["rest"])
    for port in service["spec"]["ports"]:
        assert ports[port["targetPort"]] == port["port"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert set(mounts) == set(volumes) == {"config", "models"}
    config_map = manifests["ConfigMap"]
    assert volumes["config"]["configMap"]["name"] == config_map["metadata"]["name"]
    assert config_map["data"] == {name: (output / name).read_text() for name in FILES[:3]}
    read = {Path(value) for name, value in options.items() if name.endswith("_file")}
    place = Path(mounts["config"]["mountPath"])
    assert read == {place / MODELS, place / MONITORING}
    served = text_format.Parse(config_map["data"][MODELS], ModelServerConfig())
    (model,) = served.model_config_list.config
    assert mounts["models"]["mountPath"] == model.base_path == "/models/dcn_v2"
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == "dcn-v2-models"
    assert options["allow_version_labels_for_unavailable_models"] == "true"

    ready, start = container["readinessProbe"], container["startupProbe"]
    path = ready["httpGet"]["path"]
    found = re.fullmatch(r"/v1/models/(\w+)/labels/(\w+)/metadata", path)
    assert found[1] == model.name and found[2] in model.version_labels
    assert start["httpGet"] == container["livenessProbe"]["httpGet"]
    assert start["httpGet"] == {"path": "/v1/models/dcn_v2", "port": "rest"}
    assert start["failureThreshold"] * start["periodSeconds"] == 100
    (_, pause) = container["lifecycle"]["preStop"]["exec"]["command"]
    assert int(pause) < pod["spec"]["terminationGracePeriodSeconds"]
    # 2 * 0 bytes and 1 GiB.
    assert container["resources"]["requests"] == {"cpu": 4, "memory": "1Gi"}


def test_what_is_left_out():
    config = DeployConfig(model="on", stable=3, base_path="gs://bucket/on", replicas=1)
    manifests = objects(render(config, 0)[KUBERNETES])
    assert list(manifests) == ["ConfigMap", "Deployment", "Service"]
    # YAML would read a bare `on` as true.
    assert manifests["Service"]["metadata"]["name"] == "on"
    assert manifests["Deployment"]["spec"]["replicas"] == 1
    names = [mount["name"] for mount in container_of(manifests)["volumeMounts"]]
    assert names == ["config"]
    assert "--enable_batching=true" not in container_of(manifests)["args"]


def test_batching_needs_both_options():
    # TensorFlow Serving does not start with a file of parameters alone.
    config = DeployConfig(model="films", stable=3, batching=True)
    arguments = container_of(objects(render(config, 0)[KUBERNETES]))["args"]
    assert "--enable_batching=true" in arguments
    assert f"--batching_parameters_file=/config/{BATCHING}" in arguments


def test_memory_follows_the_versions_served(folder, tmp_path):
    for number in (3, 4):
        with (folder / str(number) / "variables").open("wb") as file:
            file.truncate(3 * 2**30 // 2)  # Sparse.
    for given, memory in (({}, "4Gi"), ({"canary": 4}, "7Gi"), ({"memory_gib": 9}, "9Gi")):
        output = tmp_path / memory
        deploy(DeployConfig(model="films", stable=3, **given), folder, output)
        resources = container_of(objects((output / KUBERNETES).read_text()))["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"] == memory


def test_only_files_that_are_read_at_start_replace_the_pods():
    def digest(**given):
        manifests = objects(render(DeployConfig(model="films", stable=3, **given), 0)[KUBERNETES])
        pod = manifests["Deployment"]["spec"]["template"]
        return pod["metadata"]["annotations"]["ctr-tf/start-files"]

    assert digest() == digest(canary=4) == digest(poll_seconds=5)
    assert digest() != digest(cpus=8)


def test_from_canary_to_rollback(folder, tmp_path):
    def go(stable, **others):
        deploy(DeployConfig(model="films", stable=stable, **others), folder, tmp_path / "out")

    go(3)
    with pytest.raises(
        ValueError, match=r"'stable' may move from version 3 to .*\[3\] alone, got 4"
    ):
        go(4)
    go(3, canary=4)
    with pytest.raises(ValueError, match=r"'canary' may move from version 4 to .* got 5"):
        go(3, canary=5)
    go(4, previous=3)
    go(3, previous=4)
    go(3, canary=5)
    found = text_format.Parse((tmp_path / "out" / MODELS).read_text(), ModelServerConfig())
    assert dict(found.model_config_list.config[0].version_labels) == {"stable": 3, "canary": 5}
    with pytest.raises(ValueError, match=r"no version 6; versions: \[3, 4, 5\]"):
        go(3, canary=6)
    (tmp_path / "out" / MODELS).write_text("model_config_list: 3")
    with pytest.raises(ValueError, match="no models.config of TensorFlow Serving"):
        go(3)
    assert not list((tmp_path / "out").glob(".*"))


def test_the_commands_of_the_readme(tmp_path, monkeypatch):
    for number in (1, 2):
        (tmp_path / "films" / str(number)).mkdir(parents=True)
        (tmp_path / "films" / str(number) / "saved_model.pb").touch()
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "serving" / "README.md").read_text(encoding="utf-8")
    found = []
    for options in re.findall(r"^    python -m serving\.deploy (.*)$", readme, re.MULTILINE):
        assert main(shlex.split(options.replace("$FILMS", "films"))) == 0
        text = Path("deployment", MODELS).read_text()
        (model,) = text_format.Parse(text, ModelServerConfig()).model_config_list.config
        versions = list(model.model_version_policy.specific.versions)
        found.append((versions, dict(model.version_labels)))
    assert found == [
        ([1], {"stable": 1}),
        ([1, 2], {"stable": 1, "canary": 2}),
        ([1, 2], {"stable": 2}),
        ([1, 2], {"stable": 1}),
    ]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"canary": 3}, r"stable: canary and previous must be others, got \[3, 3\]"),
        ({"replicas": 4, "max_replicas": 3}, "max_replicas: must be at least replicas, 4, got 3"),
        ({"model": "2 films"}, "model"),
        ({"base_path": '/a"b'}, "base_path"),
        ({"base_path": "models"}, "base_path"),
        ({"base_path": "gs://a", "claim": "b"}, "claim: .* must be a folder, got gs://a"),
        ({"cpus": 0}, "cpus"),
        ({"port": 1}, "port"),
    ],
)
def test_bad_settings(given, message):
    with pytest.raises(ValidationError, match=message):
        DeployConfig(**{"model": "films", "stable": 3} | given)


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["--model", "films"], 0, "deployment/models.config\n.*batching.*\n.*\n.*kubernetes.yaml"),
        (["--model", "films", "--stable", "4", "--previous", "4"], 2, "previous must be others"),
        (["--model", "films", "--cpus", "x"], 2, "--cpus: .*got 'x'"),
        (["--model", "films", "--stable", "7"], 2, r"no version 7; versions: \[3, 4, 5\]"),
        (["--model", "films", "--folder", "absent"], 2, "--folder: absent holds no version"),
        (["--help"], 0, "previous: a version kept loaded"),
    ],
)
def test_the_command_needs_no_tensorflow(folder, tmp_path, arguments, status, message):
    output = tmp_path / "deployment"
    command = "import sys; from serving.deploy import main\ntry: code = main(sys.argv[1:])\n"
    command += "except SystemExit as end: code = end.code\n"
    command += "assert 'tensorflow' not in sys.modules; sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", command, "--folder", str(folder), "--output", str(output)]
        + arguments,
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert re.search(message, done.stdout + done.stderr)
    if "deployment" in message:
        (model,) = text_format.Parse(
            (output / MODELS).read_text(), ModelServerConfig()
        ).model_config_list.config
        assert dict(model.version_labels) == {"stable": 5}
