"""Configuration of TensorFlow Serving for an export: its files, and manifests for Kubernetes.

Run it with `python -m serving.deploy --model NAME --folder EXPORT_FOLDER --output DIR`.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import sys
from importlib.metadata import version
from pathlib import Path

import jinja2
from google.protobuf import text_format
from pydantic import Field, PositiveInt, model_validator
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from ctr_tf.config_base import Config, SettingError
from serving.files import write_text
from serving.options import read_options
from serving.versions import servable

MODELS = "models.config"
BATCHING = "batching_parameters.txt"
MONITORING = "monitoring_config.txt"
KUBERNETES = "kubernetes.yaml"
METRICS_PATH = "/monitoring/prometheus/metrics"

_TEXT = r"[^\s\"'\\{}]+$"


class DeployConfig(Config):
    """How TensorFlow Serving serves a model.

    Args:
        model: the model's name in requests; in Kubernetes, in lower case and with `-` for other
            characters.
        stable: the version labelled `stable`.
        canary: the version labelled `canary`, for a share of the traffic.
        previous: a version kept loaded without a label, so that a rollback is a change of labels.
        image: the container image; by default that of the installed tensorflow-serving-api.
        base_path: where the server finds the model's versions; by default `/models/<model>`.
        claim: the PersistentVolumeClaim that is mounted there; by default `<model>-models`, and
            none for a `base_path` of an object store, such as `gs://bucket/films`.
        replicas: pods; the fewest with `max_replicas`.
        max_replicas: pods at most, by a HorizontalPodAutoscaler on CPU.
        cpus: of a pod, and the server's threads.
        memory_gib: of a pod; by default twice the files of the versions served, which loading may
            take, and 1 GiB.
        startup_seconds: how long loading and warming up may take.
        poll_seconds: how often the server reads `models.config` again.
        batching: whether calls are batched; see `batching_parameters.txt` before.

    Raises:
        ValueError: a version named twice, `max_replicas` below `replicas`, or a claim to be mounted
            at an object store.

    Example:
        >>> config = DeployConfig(model="dcn_v2", stable=3, canary=4)
        >>> config.name, config.versions, config.labels
        ('dcn-v2', [3, 4], {'stable': 3, 'canary': 4})
    """

    model: str = Field(pattern=r"^[A-Za-z]([A-Za-z0-9_.-]{0,48}[A-Za-z0-9])?$")
    stable: PositiveInt
    canary: PositiveInt | None = None
    previous: PositiveInt | None = None
    image: str = Field(
        default_factory=lambda: f"tensorflow/serving:{version('tensorflow-serving-api')}",
        pattern="^" + _TEXT,
    )
    base_path: str = Field(
        default_factory=lambda given: f"/models/{given['model']}",
        pattern=r"^(/|[a-z0-9]+://)" + _TEXT,
    )
    claim: str | None = Field(
        default_factory=lambda given: (
            None if "://" in given["base_path"] else f"{_name(given['model'])}-models"
        ),
        pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
    )
    replicas: PositiveInt = 2
    max_replicas: PositiveInt | None = None
    cpus: PositiveInt = 4
    memory_gib: PositiveInt | None = None
    startup_seconds: PositiveInt = 600
    poll_seconds: PositiveInt = 30
    batching: bool = False

    @model_validator(mode="after")
    def _check(self) -> "DeployConfig":
        given = [number for number in (self.stable, self.canary, self.previous) if number]
        if len(self.versions) < len(given):
            raise SettingError(("stable",), f"canary and previous must be others, got {given}")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            rule = f"must be at least replicas, {self.replicas}, got {self.max_replicas}"
            raise SettingError(("max_replicas",), rule)
        if self.claim and not self.base_path.startswith("/"):
            rule = f"is mounted at base_path, which must be a folder, got {self.base_path}"
            raise SettingError(("claim",), rule)
        return self

    @property
    def name(self) -> str:
        """Of the objects in Kubernetes."""
        return _name(self.model)

    @property
    def labels(self) -> dict[str, int]:
        """The version of each label."""
        return {"stable": self.stable} | ({"canary": self.canary} if self.canary else {})

    @property
    def versions(self) -> list[int]:
        """The versions that are loaded, ascending."""
        return sorted({*self.labels.values()} | ({self.previous} if self.previous else set()))


def render(config: DeployConfig, model_bytes: int) -> dict[str, str]:
    """The text of each file by its name.

    Args:
        config: see `DeployConfig`.
        model_bytes: of the files of all versions served.

    Example:
        >>> files = render(DeployConfig(model="films", stable=3), model_bytes=0)
        >>> text_format.Parse(files[MODELS], ModelServerConfig()).model_config_list.config[0].name
        'films'
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(config=config, metrics_path=METRICS_PATH)

    def text(name: str, **values: object) -> str:
        return environment.get_template(f"{name}.jinja").render(**values)

    files = {name: text(name) for name in (MODELS, BATCHING, MONITORING)}
    at_start = files[BATCHING] + files[MONITORING]
    memory_gib = config.memory_gib or math.ceil(2 * model_bytes / 2**30) + 1
    files[KUBERNETES] = text(
        KUBERNETES,
        files=files,
        start_digest=hashlib.sha256(at_start.encode()).hexdigest()[:12],
        memory_gib=memory_gib,
    )
    return files


def check_change(path: Path, config: DeployConfig) -> None:
    """Checks that a server which runs by a `models.config` would take the new one.

    Args:
        path: the file that is to be replaced; there may be none.
        config: of the new one.

    Raises:
        ValueError: a label would move to a version that the server has not loaded, or the file is
            no `models.config`.
    """
    if not path.exists():
        return
    try:
        before = text_format.Parse(path.read_text(encoding="utf-8"), ModelServerConfig())
    except text_format.ParseError as error:
        raise ValueError(f"{path}: no {MODELS} of TensorFlow Serving: {error}") from error
    for model in before.model_config_list.config:
        loaded = list(model.model_version_policy.specific.versions)
        for label, number in config.labels.items():
            held = model.version_labels.get(label, number)
            if model.name == config.model and held != number and number not in loaded:
                raise ValueError(
                    f"{path}: label {label!r} may move from version {held} to one of {loaded} "
                    f"alone, got {number}: TensorFlow Serving refuses a label of a version that it "
                    "has not loaded, and with it the whole file; load it first, as --previous or "
                    "under a label that is free"
                )


def deploy(config: DeployConfig, folder: Path, output: Path) -> list[Path]:
    """Writes the files of a deployment.

    Args:
        config: see `DeployConfig`.
        folder: the export's folder of versions.
        output: where they are written; an earlier `models.config` there is what the server runs by.

    Returns:
        `models.config`, `batching_parameters.txt`, `monitoring_config.txt` and `kubernetes.yaml`.

    Raises:
        ValueError: a version that the folder does not hold, or see `check_change`.
    """
    present = servable(folder)
    for number in config.versions:
        if number not in present:
            raise ValueError(f"{folder}: no version {number}; versions: {present}")
    check_change(output / MODELS, config)
    model_bytes = sum(
        path.stat().st_size
        for number in config.versions
        for path in (folder / str(number)).rglob("*")
        if path.is_file()
    )
    output.mkdir(parents=True, exist_ok=True)
    files = render(config, model_bytes).items()
    return [write_text(output / name, text) for name, text in files]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.deploy",
        description=DeployConfig.__doc__.partition("    Raises:")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", required=True, type=Path, help="the export's versions")
    parser.add_argument("--output", required=True, type=Path, help="where the files are written")
    for name, field in DeployConfig.model_fields.items():
        option = "--" + name.replace("_", "-")
        if field.annotation is bool:
            parser.add_argument(option, action="store_true")
        else:
            parser.add_argument(option, required=name == "model", default=argparse.SUPPRESS)
    given = vars(parser.parse_args(arguments))
    folder, output = given.pop("folder"), given.pop("output")
    present = servable(folder)
    if not present:
        parser.error(f"--folder: {folder} holds no version")
    config = read_options(parser, DeployConfig, {"stable": present[-1]} | given)
    try:
        written = deploy(config, folder, output)
    except ValueError as error:
        parser.error(str(error))
    print(*written, sep="\n")
    return 0


def _name(model: str) -> str:
    return re.sub("[^a-z0-9]", "-", model.lower())


if __name__ == "__main__":
    sys.exit(main())
