"""Finds, for everything the schema names, the file and the column it is read from.

User features are looked for in `users`, then in the log; context features in the log, then in
`users`; candidate features and the attributes of earlier events in `items`, then in the log. Where
`behaviours` are a log of their own, it takes the log's place for earlier events, and `items` have
their attributes only if it has the key of items.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePath
from typing import Literal

from ctr_tf.data.config import PrepareConfig, Source
from ctr_tf.data.manifest import PRETRAINING, SPLITS
from ctr_tf.schema import Categorical, Numeric, Schema
from ctr_tf.schema.features import AnyFeature
from pipelines.transforms.errors import PrepareError
from pipelines.transforms.sources import SourceFile, available, list_files
from pipelines.transforms.values import Converter, as_it_stands, cleaned, converter, joined

Group = Literal["request", "user", "candidate", "item", "event"]
GROUPS: tuple[Group, ...] = ("request", "user", "candidate", "item", "event")
ORDER = {
    "user": ("users", "impressions"),
    "context": ("impressions", "users"),
    "candidate": ("items", "impressions"),
    "event": ("items", "impressions"),
}
GROUP_OF: dict[tuple[str, str], Group] = {
    ("user", "users"): "user",
    ("user", "impressions"): "request",
    ("context", "users"): "user",
    ("context", "impressions"): "request",
    ("candidate", "items"): "item",
    ("candidate", "impressions"): "candidate",
    ("event", "items"): "item",
    ("event", "impressions"): "event",
    ("event", "behaviours"): "event",
}


@dataclass(frozen=True)
class Field:
    """One model input and the column it is read from.

    Args:
        input: name of the `InputSpec`.
        column: the column.
        feature: the feature, or the encoder of a sequence attribute.
        encoder: name of its encoder.
        identity: the bound of its ids, where the encoding is `identity`.
        separator: what joins the elements, where the column holds a whole sequence.
        sequence: the sequence it is an attribute of.
        clean: what the source does to each text value.
    """

    input: str
    column: str
    feature: AnyFeature
    encoder: str
    identity: int | None = None
    separator: str | None = None
    sequence: str | None = None
    clean: Converter = as_it_stands

    def converter(self) -> Converter:
        """What turns the column's values into a record's."""
        one = converter(self.feature, self.column, self.identity, self.clean)
        if self.separator is None:
            return one
        return joined(one, self.separator, self.column, self.clean)


@dataclass(frozen=True)
class Layout:
    """Where everything is read from.

    Args:
        schema: the schema.
        config: the job's configuration.
        files: by source: impressions, users, items, behaviours.
        groups: fields by where their values live: `request` and `user` once a request,
            `candidate` and `item` once a candidate, `event` and again `item` once a behaviour.
    """

    schema: Schema
    config: PrepareConfig
    files: dict[str, list[SourceFile]]
    groups: dict[Group, tuple[Field, ...]]

    @property
    def past(self) -> str:
        """The source that sequences are built from: impressions or behaviours."""
        return "behaviours" if self.config.behaviours else "impressions"

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are written."""
        return (*SPLITS, *PRETRAINING) if self.config.histories else SPLITS

    def place(self, name: str) -> tuple[Group, int]:
        """The group of an input's field and its place there."""
        for group in GROUPS:
            for index, found in enumerate(self.groups[group]):
                if found.input == name:
                    return group, index
        raise KeyError(name)

    def fields(self) -> list[tuple[Group, int, Field]]:
        """Every field with its group and place."""
        return [
            (group, index, found)
            for group in GROUPS
            for index, found in enumerate(self.groups[group])
        ]


def resolve(schema: Schema, config: PrepareConfig, root: Path) -> Layout:
    """Lists the files, reads their headers and places every field.

    Args:
        schema: the schema.
        config: the job's configuration.
        root: what relative paths are relative to.

    Raises:
        PrepareError: a column that no file has, or a combination that cannot be prepared.
    """
    if config.impressions is None:
        raise PrepareError("prepare.impressions: missing: the log to prepare")
    sources = {
        "impressions": config.impressions,
        "users": config.users,
        "items": config.items,
        "behaviours": config.behaviours,
    }
    files = {
        name: list_files(source, root, f"prepare.{name}")
        for name, source in sources.items()
        if source is not None
    }
    columns = {name: available(found) for name, found in files.items()}
    _check_config(schema, config)
    _check_split(config, [file.name for file in files["impressions"]])
    _check_keys(schema, config, columns)
    fields: dict[Group, list[Field]] = {group: [] for group in GROUPS}
    for name, feature in schema.features.items():
        column = feature.column or name
        source = _find(columns, ORDER[feature.side], column, f"features.{name}")
        group = GROUP_OF[feature.side, source]
        if config.negatives and group == "candidate":
            raise PrepareError(
                f"features.{name}: column {column!r} is in the log but not in items, so a "
                "sampled negative has no value for it"
            )
        if group == "user" and not config.users.required:
            if isinstance(feature, Numeric) and feature.default is None:
                raise PrepareError(
                    f"features.{name}.default: missing; with prepare.users.required false a user "
                    "may have no value"
                )
        fields[group].append(_field(schema, name, column, feature, schema.encoder(name)))
    for name in schema.sequences:
        _place_sequence(schema, name, config, columns, fields)
    source_of = {group: source for (_, source), group in GROUP_OF.items() if source in files}
    groups = {
        group: tuple(replace(field, clean=_cleaning(sources[source_of[group]])) for field in found)
        for group, found in fields.items()
    }
    return Layout(schema, config, files, groups)


def _cleaning(source: Source) -> Converter:
    if not (source.strip or source.missing):
        return as_it_stands
    return partial(cleaned, strip=source.strip, missing=tuple(source.missing))


def _place_sequence(
    schema: Schema,
    name: str,
    config: PrepareConfig,
    columns: dict[str, list[str]],
    fields: dict[Group, list[Field]],
) -> None:
    sequence = schema.sequences[name]
    if sequence.separator is not None and sequence.timestamps:
        raise PrepareError(
            f"sequences.{name}.timestamps: a sequence that the log holds as joined columns has "
            "no times"
        )
    for attribute, spec in sequence.attributes.items():
        like = None if spec.encoder else spec.like or attribute
        column = spec.column or (schema.features[like].column if like else None)
        column = column or like or attribute
        where = f"sequences.{name}.attributes.{attribute}"
        order = ORDER["event"]
        if sequence.separator is not None:
            order = ("impressions",)
        elif config.behaviours:
            joined = config.items and config.items.key in columns["behaviours"]
            order = ("items", "behaviours") if joined else ("behaviours",)
        source = _find(columns, order, column, where)
        group = "request" if sequence.separator is not None else GROUP_OF["event", source]
        feature = schema.attribute(name, attribute)
        encoder = schema.encoder(attribute, name)
        fields[group].append(
            _field(
                schema, f"{name}_{attribute}", column, feature, encoder, name, sequence.separator
            )
        )


def _field(
    schema: Schema,
    name: str,
    column: str,
    feature: AnyFeature,
    encoder: str,
    sequence: str | None = None,
    separator: str | None = None,
) -> Field:
    owner = schema.encoders[encoder]
    identity = (
        owner.size if isinstance(owner, Categorical) and owner.encoding == "identity" else None
    )
    return Field(name, column, feature, encoder, identity, separator, sequence)


def _find(columns: dict[str, list[str]], order: tuple[str, ...], column: str, where: str) -> str:
    for source in order:
        if column in columns.get(source, ()):
            return source
    searched = [source for source in order if source in columns]
    known = [name for source in searched for name in columns[source]]
    near = difflib.get_close_matches(column, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"columns: {', '.join(known)}"
    raise PrepareError(f"{where}: no column {column!r} in {' or '.join(searched)}; {hint}")


def _check_keys(schema: Schema, config: PrepareConfig, columns: dict[str, list[str]]) -> None:
    for key in ("user", "request", "time", "item"):
        column = getattr(schema.keys, key)
        if column is not None:
            _find(columns, ("impressions",), column, f"keys.{key}")
    for name, task in schema.tasks.items():
        for what in ("column", "mask", "weight"):
            column = getattr(task, what)
            if column is not None:
                _find(columns, ("impressions",), column, f"tasks.{name}.{what}")
    for key in ("user", "time") if config.behaviours else ():
        _find(columns, ("behaviours",), getattr(schema.keys, key), f"keys.{key}")
    for source in ("users", "items"):
        attributes = getattr(config, source)
        if attributes is not None:
            for place in (source, "impressions"):
                _find(columns, (place,), attributes.key, f"prepare.{source}.key")


def _check_split(config: PrepareConfig, names: list[str]) -> None:
    for key in ("validation", "test"):
        pattern = getattr(config.split, key)
        if pattern and not any(fnmatch(PurePath(name).name, pattern) for name in names):
            shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            raise PrepareError(
                f"prepare.split.{key}: no file of the log has a name that matches {pattern!r}; "
                f"files: {shown}"
            )


def _check_config(schema: Schema, config: PrepareConfig) -> None:
    keys = schema.keys
    if config.users and config.users.key != keys.user:
        raise PrepareError(
            f"prepare.users.key must be keys.user, {keys.user!r}, not {config.users.key!r}"
        )
    if config.items and keys.item and config.items.key != keys.item:
        raise PrepareError(
            f"prepare.items.key must be keys.item, {keys.item!r}, not {config.items.key!r}"
        )
    built = {name: own for name, own in schema.sequences.items() if own.separator is None}
    for key in ("behaviours", "histories"):
        if getattr(config, key) and not built:
            raise PrepareError(f"prepare.{key}: no sequence of the schema is built from a log")
    for name, sequence in built.items() if config.behaviours else ():
        if sequence.positive is not None:
            raise PrepareError(
                f"sequences.{name}.positive: the rows of prepare.behaviours have no label of "
                f"{sequence.positive}; leave it out"
            )
    if config.negatives and not keys.item:
        raise PrepareError("prepare.negatives needs keys.item")
    for name, task in schema.tasks.items():
        if task.column is None and not config.negatives:
            raise PrepareError(
                f"tasks.{name}.column: missing; only with prepare.negatives is every row of the "
                "log a positive"
            )
    if config.split.by == "time" and not keys.time:
        raise PrepareError("prepare.split.by: time needs keys.time; or state split.by: none")
    if config.split.by == "last" and not (keys.user and keys.time):
        raise PrepareError("prepare.split.by: last needs keys.user and keys.time")
