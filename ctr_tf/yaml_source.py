"""YAML files as plain data, with the file and line of every key."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KeyPath = tuple[Any, ...]
MOST_NESTED = 50


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names key, file and line."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but for `1e-3`: without a point it is text there, and people mean a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@dataclass(frozen=True)
class _Mark:
    file: str
    line: int | None


class Source:
    """Plain data of YAML files, and where each key stands."""

    def __init__(self):
        self.marks: dict[KeyPath, _Mark] = {}
        self.top = "config"

    def read(
        self, path: Path, including: tuple[Path, ...] = (), named_by: str = ""
    ) -> dict[str, Any]:
        """The data of a file, over that of the files it includes.

        Args:
            path: the file.
            including: the files that include it.
            named_by: where it is named, for messages.

        Raises:
            ConfigError: no such file, or YAML that does not parse.
        """
        if not including:
            self.top = str(path)
        if path.resolve() in including:
            raise ConfigError(f"{named_by}{path}: includes itself")
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
        except FileNotFoundError:
            near = difflib.get_close_matches(
                path.name, [p.name for p in path.parent.glob("*.y*ml") if p.is_file()], n=1
            )
            hint = f"; did you mean {path.parent / near[0]}?" if near else ""
            raise ConfigError(f"{named_by}{path}: no such file{hint}") from None
        except OSError as error:
            raise ConfigError(f"{named_by}{path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: {error}") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or error
            raise ConfigError(f"{path}{line}: not YAML: {problem}") from None
        own_marks: dict[KeyPath, _Mark] = {}
        data = self._plain(node, (), path, own_marks) if node is not None else {}
        if not isinstance(data, dict):
            raise ConfigError(f"{path}:1: must be a mapping of keys, not {type(data).__name__}")
        included = data.pop("include", [])
        names = included if isinstance(included, list) else [included]
        where = f"{path}:{own_marks['include',].line}: include: " if names else ""
        if not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{where}must be file names, got {included!r}")
        merged: dict[str, Any] = {}
        for name in names:
            other = self.read(path.parent / name, (*including, path.resolve()), where)
            merged = _merge(merged, other)
        self.marks.update(own_marks)
        return _merge(merged, data)

    def _plain(self, node: yaml.Node, at: KeyPath, path: Path, marks: dict) -> Any:
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
                    raise ConfigError(f"{path}:{line}: {dotted((*at, key))}: key given twice")
                found[key] = self._plain(value_node, (*at, key), path, marks)
                marks[(*at, key)] = _Mark(str(path), line)
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(n, (*at, i), path, marks) for i, n in enumerate(node.value)]
        return self._scalar(node, path)

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        try:
            return _Loader("").construct_object(node)
        except (yaml.YAMLError, ValueError) as error:  # a tag of its own, a 13th month
            problem = getattr(error, "problem", None) or error
            line = node.start_mark.line + 1
            raise ConfigError(f"{path}:{line}: {node.value!r}: {problem}") from None

    def override(self, data: dict[str, Any], text: str) -> None:
        """Sets one key of the data, `key.subkey=value`; a null takes away a key that is there.

        Raises:
            ConfigError: the text has another form, or a key of it holds a value and no keys.
        """
        key, separator, value = text.partition("=")
        at = tuple(key.split("."))
        if not separator or not all(at):
            raise ConfigError(f"--set {text}: must read KEY=VALUE, as train.learning_rate=1e-3")
        mark = _Mark(f"--set {text}", None)
        *parents, last = at
        node = data
        for depth, parent in enumerate(parents, start=1):
            if node.get(parent) is None:
                node[parent] = {}
                self.marks[at[:depth]] = mark
            node = node[parent]
            if not isinstance(node, dict):
                raise ConfigError(
                    f"--set {text}: {dotted(at[:depth])} holds no keys, it is {node!r}"
                )
        try:
            found = yaml.load(value, Loader=_Loader)
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"--set {text}: the value is not YAML") from None
        if found is None and last in node:
            del node[last]
        else:
            node[last] = found
        # What stood below the key is gone, and its lines with it.
        self.marks = {key: m for key, m in self.marks.items() if key[: len(at)] != at}
        self.marks[at] = mark

    def place(self, at: KeyPath) -> str:
        """File and line of a key, or of the nearest one around it."""
        while at and at not in self.marks:
            at = at[:-1]
        mark = self.marks.get(at, _Mark(self.top, None))
        return f"{mark.file}:{mark.line}" if mark.line else mark.file


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Keys of both, those above winning; a null above takes the key away (RFC 7386)."""
    merged = dict(below)
    for key, value in above.items():
        if value is None and key in merged:
            del merged[key]
            continue
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def dotted(at: KeyPath) -> str:
    """A path of keys as people write it.

    Example:
        >>> dotted(("model", "units", 0))
        'model.units.0'
    """
    return ".".join(str(part) for part in at)
