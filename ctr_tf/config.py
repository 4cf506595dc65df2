"""Experiments: one short YAML file each, typed, with errors that name key, file and line."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, SerializeAsAny, ValidationError

from ctr_tf import datasets, registry
from ctr_tf.config_base import Config, SettingError
from ctr_tf.config_errors import explain
from ctr_tf.data.config import InputConfig, PrepareConfig
from ctr_tf.evaluation.config import EvaluationConfig
from ctr_tf.export.config import ExportConfig
from ctr_tf.models.config import ModelConfig
from ctr_tf.models.in_batch_softmax import InBatchSoftmaxConfig
from ctr_tf.models.widths import check_model
from ctr_tf.schema import Schema
from ctr_tf.training.config import RANKING_METRICS, TrainConfig
from ctr_tf.training.pretrain_config import PretrainConfig
from ctr_tf.yaml_source import ConfigError, Source


class Experiment(Config):
    """Everything that one experiment is made of.

    Args:
        name: names its folders; the file's name by default.
        dataset: a dataset that `ctr-tf datasets` knows; relative paths of `prepare` are its files.
        log: the schema of the log (`schema` in the file).
        prepare: from raw logs to TFRecords.
        prepared: a folder of TFRecords to use as it is, where the raw logs are not at hand.
        input: from TFRecords to batches.
        model: the architecture, by `name`, and its configuration.
        pretrain: of the model's encoder, before training; none by default.
        train, evaluate, export: the later stages.
    """

    name: str = Field(pattern=r"^[^/.][^/]*$")
    dataset: str | None = None
    log: Schema = Field(alias="schema")
    prepare: PrepareConfig = PrepareConfig()
    prepared: str | None = None
    input: InputConfig = InputConfig()
    model: SerializeAsAny[ModelConfig]
    pretrain: PretrainConfig | None = Field(None, exclude_if=lambda config: config is None)
    train: TrainConfig = TrainConfig()
    evaluate: EvaluationConfig = EvaluationConfig()
    export: ExportConfig = ExportConfig()

    @property
    def ranking_metrics(self) -> dict[str, str] | None:
        """What validation measures where items are retrieved; None where candidates are scored."""
        retrieves = isinstance(self.model.heads, InBatchSoftmaxConfig)
        return RANKING_METRICS if retrieves else None

    def dump(self) -> dict[str, Any]:
        """The resolved configuration, every default filled in, as plain data."""
        return self.model_dump(mode="json", by_alias=True)

    def save(self, path: Path) -> None:
        """Writes the resolved configuration as YAML that `load` reads."""
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_text(yaml.safe_dump(self.dump(), sort_keys=False), encoding="utf-8")
        partial.replace(path)


def fingerprint(data: Any) -> str:
    """SHA-256 of plain data, for folder names and skipped stages.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def load(path: Path | str, overrides: Sequence[str] = ()) -> Experiment:
    """Reads an experiment.

    A file may `include` others (relative to itself), whose keys it overrides one by one; a null
    takes an included key away.

    Args:
        path: the YAML file.
        overrides: `key.subkey=value` strings that win over the file; values are YAML.

    Raises:
        ConfigError: no such file, YAML that does not parse, an unknown key, a wrong type, an
            impossible value, or sections that do not fit each other.
    """
    path = Path(path)
    source = Source()
    data = source.read(path)
    for override in overrides:
        source.override(data, override)
    data.setdefault("name", path.stem)
    problems: list[str] = []
    section = data.get("model")
    model_class = ModelConfig
    if isinstance(section, dict) and isinstance(section.get("name"), str):
        try:
            model_class = registry.get(section["name"]).config
            data = {**data, "model": model_class.model_validate(section)}
        except ValidationError as error:
            problems += explain(error, model_class, source, ("model",))
            data = {**data, "model": ModelConfig(name=section["name"])}
        except ValueError as error:
            problems.append(f"{source.place(('model', 'name'))}: model.name: {error}")
            data = {**data, "model": ModelConfig(name=section["name"])}
    name = data.get("dataset")
    if isinstance(name, str) and name not in datasets.names():
        try:
            datasets.get(name)
        except ValueError as error:
            problems.append(f"{source.place(('dataset',))}: {error}")
    try:
        experiment = Experiment.model_validate(data)
    except ValidationError as error:
        problems += explain(error, Experiment, source)
    if problems:
        raise ConfigError("\n".join(problems))
    for check in (
        lambda: experiment.train.check(list(experiment.log.tasks), experiment.ranking_metrics),
        lambda: _check_model(experiment),
        lambda: _check_retrieval(experiment),
    ):
        try:
            check()
        except SettingError as error:
            problems.append(f"{source.place(error.at)}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return experiment


def _check_model(experiment: Experiment) -> None:
    check_model(experiment.log, experiment.model)
    if experiment.pretrain is None:
        if getattr(experiment.model, "freeze", False):
            rule = "nothing is pre-trained, and what is frozen would stay random: set pretrain"
            raise SettingError(("model", "freeze"), rule)
        return
    experiment.pretrain.check(experiment.log, experiment.model)
    if not (experiment.prepare.histories or experiment.prepared):
        raise SettingError(("prepare", "histories"), "pre-training reads histories: set it to true")


def _check_retrieval(experiment: Experiment) -> None:
    if experiment.ranking_metrics and not (experiment.prepare.items or experiment.prepared):
        rule = "in_batch_softmax is validated on all items of a catalogue: name its file"
        raise SettingError(("prepare", "items"), rule)
