"""What pydantic found wrong with a configuration, as a person would say it."""

from __future__ import annotations

import difflib
import types
import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from ctr_tf.config_base import SettingError
from ctr_tf.yaml_source import KeyPath, Source, dotted


def explain(error: ValidationError, root: type, source: Source, prefix: KeyPath = ()) -> list[str]:
    """One line for each thing that pydantic found wrong, with file, line, key and the nearest key.

    Args:
        error: what pydantic raised.
        root: the class that was validated.
        source: where its data came from.
        prefix: the path of that data.
    """
    lines = []
    for found in error.errors():
        at, owner = _locate(found["loc"], root)
        key = dotted((*prefix, *at))
        message = found["msg"].removeprefix("Value error, ")
        cause = found.get("ctx", {}).get("error")
        if isinstance(cause, SettingError):
            at, message = (*at, *cause.at), cause.rule
            key = dotted((*prefix, *at))
        if found["type"] == "extra_forbidden":
            message = f"unknown key{_nearest(str(at[-1]), owner)}"
        elif found["type"] == "missing":
            message = "required key is missing"
        elif not isinstance(found["input"], (dict, list, BaseModel)):
            message += f", got {found['input']!r}"
        where = source.place((*prefix, *at))
        lines.append(f"{where}: {key}: {message}" if key else f"{where}: {message}")
    return lines


def _locate(loc: KeyPath, root: Any) -> tuple[KeyPath, Any]:
    """The path of a pydantic location in the file, less union tags, and the last key's class."""
    at: list[Any] = []
    owner, current = root, root
    for part in loc:
        options = _options(current)
        tagged = {tag: option for option in options for tag in _tags(option)}
        if len(options) > 1 and part in tagged:
            current = tagged[part]
            continue
        owner = current
        at.append(part)
        current = _child(options, part)
    return tuple(at), owner


def _tags(option: Any) -> list[Any]:
    """What tells a class of a union from the others: the literal of its `kind` or `name`."""
    fields = getattr(option, "model_fields", {})
    return [
        tag
        for key in ("kind", "name")
        if key in fields and typing.get_origin(fields[key].annotation) is typing.Literal
        for tag in typing.get_args(fields[key].annotation)
    ]


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
