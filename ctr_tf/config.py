"""Experiments: one short YAML file each, typed, with errors that name key, file and line."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, SerializeAsAny, ValidationError

from ctr_tf import datasets, registry
from ctr_tf.config_base import Config
from ctr_tf.data.config import InputConfig, PrepareConfig
from ctr_tf.evaluation.config import EvaluationConfig
from ctr_tf.export.config import ExportConfig
from ctr_tf.models.config import ModelConfig
from ctr_tf.schema import Schema
from ctr_tf.training.config import TrainConfig

Path_ = tuple[Any, ...]
MOST_NESTED = 50


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names key, file and line."""


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
        train, evaluate, export: the later stages.
    """

    name: str = Field(pattern=r"^[^/.][^/]*$")
    dataset: str | None = None
    log: Schema = Field(alias="schema")
    prepare: PrepareConfig = PrepareConfig()
    prepared: str | None = None
    input: InputConfig = InputConfig()
    model: SerializeAsAny[ModelConfig]
    train: TrainConfig = TrainConfig()
    evaluate: EvaluationConfig = EvaluationConfig()
    export: ExportConfig = ExportConfig()

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


def load(path: Path | str, overrides: typing.Sequence[str] = ()) -> Experiment:
    """Reads an experiment.

    A file may `include` others (relative to itself), whose keys it overrides one by one.

    Args:
        path: the YAML file.
        overrides: `key.subkey=value` strings that win over the file; values are YAML.

    Raises:
        ConfigError: no such file, YAML that does not parse, an unknown key, a wrong type or an
            impossible value.
    """
    path = Path(path)
    source = _Source()
    data = source.read(path)
    for override in overrides:
        _override(data, override, source)
    data.setdefault("name", path.stem)
    problems: list[str] = []
    section = data.get("model")
    model_class = ModelConfig
    if isinstance(section, dict) and isinstance(section.get("name"), str):
        try:
            model_class = registry.get(section["name"]).config
            data = {**data, "model": model_class.model_validate(section)}
        except ValidationError as error:
            problems += source.explain(error, model_class, ("model",), data)
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
        problems += source.explain(error, Experiment, (), data)
    if problems:
        raise ConfigError("\n".join(problems))
    return experiment


@dataclass(frozen=True)
class _Mark:
    file: str
    line: int | None


class _Source:
    """Plain data of YAML files, and where each key stands."""

    def __init__(self):
        self.marks: dict[Path_, _Mark] = {}
        self.top = "config"

    def read(self, path: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
        if not including:
            self.top = str(path)
        if path.resolve() in including:
            raise ConfigError(f"{path}: includes itself")
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except FileNotFoundError:
            near = difflib.get_close_matches(
                path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1
            )
            hint = f"; did you mean {path.parent / near[0]}?" if near else ""
            raise ConfigError(f"{path}: no such file{hint}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or error
            raise ConfigError(f"{path}{line}: not YAML: {problem}") from None
        own_marks: dict[Path_, _Mark] = {}
        data = self._plain(node, (), path, own_marks) if node is not None else {}
        if not isinstance(data, dict):
            raise ConfigError(f"{path}:1: must be a mapping of keys, not {type(data).__name__}")
        included = data.pop("include", [])
        names = included if isinstance(included, list) else [included]
        if not all(isinstance(name, str) for name in names):
            line = own_marks["include",].line
            raise ConfigError(f"{path}:{line}: include: must be file names, got {included!r}")
        merged: dict[str, Any] = {}
        for name in names:
            other = self.read(path.parent / name, (*including, path.resolve()))
            merged = _merge(merged, other)
        self.marks.update(own_marks)
        return _merge(merged, data)

    def _plain(self, node: yaml.Node, at: Path_, path: Path, marks: dict) -> Any:
        line = node.start_mark.line + 1
        marks[at] = _Mark(str(path), line)
        if len(at) > MOST_NESTED:
            raise ConfigError(f"{path}:{line}: nested over {MOST_NESTED} deep; an alias of itself?")
        if isinstance(node, yaml.MappingNode):
            found: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = self._scalar(key_node, path)
                line = key_node.start_mark.line + 1
                if not isinstance(key, str):
                    raise ConfigError(f"{path}:{line}: a key must be text, not {key!r}")
                if key in found:
                    raise ConfigError(f"{path}:{line}: {_dotted((*at, key))}: key given twice")
                found[key] = self._plain(value_node, (*at, key), path, marks)
                marks[(*at, key)] = _Mark(str(path), line)
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(n, (*at, i), path, marks) for i, n in enumerate(node.value)]
        return _number(self._scalar(node, path))

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError) as error:  # a tag of its own, a 13th month
            problem = getattr(error, "problem", None) or error
            line = node.start_mark.line + 1
            raise ConfigError(f"{path}:{line}: {node.value!r}: {problem}") from None

    def place(self, at: Path_) -> str:
        """File and line of a key, or of the nearest one around it."""
        while at and at not in self.marks:
            at = at[:-1]
        mark = self.marks.get(at, _Mark(self.top, None))
        return f"{mark.file}:{mark.line}" if mark.line else mark.file

    def explain(self, error: ValidationError, root: type, prefix: Path_, data: Any) -> list[str]:
        """One line for each thing pydantic found wrong."""
        lines = []
        for found in error.errors():
            at, owner = _locate(found["loc"], root)
            key = _dotted((*prefix, *at))
            message = found["msg"].removeprefix("Value error, ")
            if found["type"] == "extra_forbidden":
                message = f"unknown key{_nearest(str(at[-1]), owner)}"
            elif found["type"] == "missing":
                message = "required key is missing"
            elif not isinstance(found["input"], (dict, list, BaseModel)):
                message += f", got {found['input']!r}"
            where = self.place((*prefix, *at))
            lines.append(f"{where}: {key}: {message}" if key else f"{where}: {message}")
        return lines


def _number(value: Any) -> Any:
    """YAML 1.1 reads `1e-3`, without a point, as text; people mean a number."""
    if isinstance(value, str) and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            pass
    return value


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _override(data: dict[str, Any], override: str, source: _Source) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: must read KEY=VALUE, as train.learning_rate=1e-3")
    *parents, last = key.split(".")
    node = data
    for parent in parents:
        if not isinstance(node.get(parent), dict):
            node[parent] = {}
        node = node[parent]
    try:
        node[last] = _number(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"--set {override}: the value is not YAML") from None
    source.marks[tuple(key.split("."))] = _Mark(f"--set {override}", None)


def _dotted(at: Path_) -> str:
    return ".".join(str(part) for part in at)


def _locate(loc: Path_, root: Any) -> tuple[Path_, Any]:
    """The path of a pydantic location in the file, less union tags, and the last key's class."""
    at: list[Any] = []
    owner, current = root, root
    for part in loc:
        options = _options(current)
        tagged = {
            typing.get_args(option.model_fields["kind"].annotation)[0]: option
            for option in options
            if isinstance(option, type) and "kind" in getattr(option, "model_fields", {})
        }
        if len(options) > 1 and part in tagged:
            current = tagged[part]
            continue
        owner = current
        at.append(part)
        current = _child(options, part)
    return tuple(at), owner


def _options(annotation: Any) -> list[Any]:
    """The alternatives of a union, of an optional or of an annotated type."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _options(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [o for each in typing.get_args(annotation) for o in _options(each)]
    return [annotation]


def _child(options: list[Any], part: Any) -> Any:
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            for name, field in option.model_fields.items():
                if part in (name, field.alias):
                    return field.annotation
        arguments = typing.get_args(option)
        if typing.get_origin(option) in (dict, list, tuple) and arguments:
            return arguments[-1] if typing.get_origin(option) is dict else arguments[0]
    return None


def _nearest(key: str, owner: Any) -> str:
    known = [
        field.alias or name
        for option in _options(owner)
        if isinstance(option, type) and issubclass(option, BaseModel)
        for name, field in option.model_fields.items()
    ]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known keys: {', '.join(known)}" if known else ""
