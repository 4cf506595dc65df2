"""The schema: what a log row is, and which named tensors a model is fed with."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ctr_tf.config_base import Config, SettingError, check_known
from ctr_tf.schema.features import AnyFeature, Categorical, Keys, Sequence, Side, Task


@dataclass(frozen=True)
class InputSpec:
    """One named tensor that a model is fed with.

    Args:
        name: the key in a batch, in the exported signature and in `schema.json`.
        side: user, context or candidate.
        dtype: `int64`, `string`, `float32` or `bool`.
        axes: the axes' names: B requests, N candidates, L behaviours, M values.
        feature: the feature or sequence attribute; None for masks and times.
        sequence: the sequence it belongs to.
    """

    name: str
    side: Side
    dtype: Literal["int64", "string", "float32", "bool"]
    axes: tuple[str, ...]
    feature: str | None = None
    sequence: str | None = None


CANDIDATES_MASK = "candidates_mask"
CANDIDATE_KEYS = InputSpec("candidate_keys", "candidate", "string", ("B", "N"))
"""Of an export with a table of items: it takes the place of the candidates' features."""
REQUEST_TIME = "request_time"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""What names files, tensors, layers and signature inputs alike."""


class Schema(Config):
    """Features, behaviour sequences, tasks and keys of a log.

    Raises:
        ValueError: a name used twice or with other characters than letters, digits and `_`, a
            `share` or `like` of an unknown feature, a sequence without user and time keys.

    Example:
        >>> schema = Schema(
        ...     features={"item_id": {"kind": "categorical"}, "age": {"kind": "numeric",
        ...               "side": "user"}},
        ...     tasks={"click": {"column": "click"}})
        >>> [spec.name for spec in schema.inputs]
        ['age', 'item_id', 'candidates_mask']
        >>> Schema.from_json(schema.to_json()).fingerprint == schema.fingerprint
        True
    """

    keys: Keys = Keys()
    features: dict[str, AnyFeature] = Field(min_length=1)
    sequences: dict[str, Sequence] = {}
    tasks: dict[str, Task] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> "Schema":
        for name, feature in self.features.items():
            at = ("features", name)
            _check_name(at)
            if name == REQUEST_TIME:
                raise SettingError(at, "the name is kept for the request's time")
            if name in (CANDIDATE_KEYS.name, "item_vectors"):
                raise SettingError(at, "the name is kept for what a table of items has")
            if isinstance(feature, Categorical) and feature.share is not None:
                self._check_shared(at, feature)
        for name in self.tasks:
            _check_name(("tasks", name))
            if name == "unknown_items":
                raise SettingError(("tasks", name), "the name is kept for an output of its own")
        for name, sequence in self.sequences.items():
            at = ("sequences", name)
            _check_name(at)
            if sequence.separator is None and not (self.keys.user and self.keys.time):
                raise SettingError(
                    at, "building a sequence from the log needs keys.user and keys.time"
                )
            if sequence.positive is not None:
                check_known((*at, "positive"), "task", sequence.positive, self.tasks)
            if sequence.timestamps and not self.keys.time:
                raise SettingError((*at, "timestamps"), "needs keys.time")
            for attribute, spec in sequence.attributes.items():
                own = (*at, "attributes", attribute)
                _check_name(own)
                if spec.encoder is not None and spec.like is not None:
                    raise SettingError(own, "like and encoder exclude each other")
                if spec.encoder is None:
                    like = (*own, "like") if spec.like else own
                    self._check_like(like, spec.like or attribute)
                elif spec.encoder.share is not None:
                    self._check_shared((*own, "encoder"), spec.encoder)
        names = [spec.name for spec in self.inputs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"input names used twice: {', '.join(twice)}")
        return self

    def _check_shared(self, at: tuple[str, ...], own: Categorical) -> None:
        at = (*at, "share")
        self._check_like(at, own.share)
        other = self.features[own.share]
        if other.dtype != own.dtype:
            raise SettingError(at, f"{own.share} has dtype {other.dtype}, the one here {own.dtype}")

    def _check_like(self, at: tuple[str, ...], name: str) -> None:
        known = {n: f for n, f in self.features.items() if isinstance(f, Categorical)}
        check_known(at, "categorical feature", name, known)
        if known[name].share is not None:
            raise SettingError(at, f"{name!r} itself shares {known[name].share!r}; name that one")

    def side(self, side: Side) -> dict[str, AnyFeature]:
        """The features of one side, in order."""
        return {name: f for name, f in self.features.items() if f.side == side}

    def attribute(self, sequence: str, attribute: str) -> Categorical:
        """The encoder of a sequence attribute: its own, or that of the feature it is like."""
        spec = self.sequences[sequence].attributes[attribute]
        return spec.encoder or self.features[spec.like or attribute]

    def encoder(self, feature: str, sequence: str | None = None) -> str:
        """The name of the vocabulary and embedding table that a feature or attribute uses.

        Example:
            >>> schema = Schema(keys={"user": "u", "time": "t"},
            ...     features={"item_id": {"kind": "categorical"}},
            ...     sequences={"history": {"attributes": {"item_id": {}, "rating": {
            ...         "encoder": {"dtype": "int", "encoding": "identity", "size": 6}}}}},
            ...     tasks={"click": {"column": "click"}})
            >>> schema.encoder("item_id", "history"), schema.encoder("rating", "history")
            ('item_id', 'history_rating')
        """
        if sequence is not None:
            spec = self.sequences[sequence].attributes[feature]
            if spec.encoder is not None:
                return spec.encoder.share or f"{sequence}_{feature}"
            feature = spec.like or feature
        spec = self.features[feature]
        return (spec.share or feature) if isinstance(spec, Categorical) else feature

    @cached_property
    def encoders(self) -> dict[str, AnyFeature]:
        """Every encoder by name, each once: the feature or attribute that defines it."""
        found = {
            name: feature for name, feature in self.features.items() if self.encoder(name) == name
        }
        for sequence, spec in self.sequences.items():
            for attribute, own in spec.attributes.items():
                if own.encoder is not None and own.encoder.share is None:
                    found[self.encoder(attribute, sequence)] = own.encoder
        return found

    @cached_property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Every tensor a model is fed with: user side, context, candidates, in that order."""
        dtypes = {"int": "int64", "string": "string"}
        specs: list[InputSpec] = []
        for side, axes in (("user", ("B",)), ("context", ("B",)), ("candidate", ("B", "N"))):
            for name, feature in self.side(side).items():
                multi = isinstance(feature, Categorical) and feature.multi
                dtype = {"numeric": "float32", "text": "string"}.get(feature.kind)
                specs.append(
                    InputSpec(
                        name,
                        side,
                        dtype or dtypes[feature.dtype],
                        axes + ("M",) * multi,
                        feature=name,
                    )
                )
            if side == "user":
                specs.extend(self._sequence_inputs(dtypes))
                if any(s.timestamps for s in self.sequences.values()):
                    specs.append(InputSpec(REQUEST_TIME, "context", "int64", ("B",)))
        specs.append(InputSpec(CANDIDATES_MASK, "candidate", "bool", ("B", "N")))
        return tuple(specs)

    def _sequence_inputs(self, dtypes: dict[str, str]) -> list[InputSpec]:
        specs = []
        for name, sequence in self.sequences.items():
            for attribute in sequence.attributes:
                encoder = self.attribute(name, attribute)
                specs.append(
                    InputSpec(
                        f"{name}_{attribute}",
                        "user",
                        dtypes[encoder.dtype],
                        ("B", "L") + ("M",) * encoder.multi,
                        feature=attribute,
                        sequence=name,
                    )
                )
            if sequence.timestamps:
                specs.append(InputSpec(f"{name}_time", "user", "int64", ("B", "L"), sequence=name))
            specs.append(InputSpec(f"{name}_mask", "user", "bool", ("B", "L"), sequence=name))
        return specs

    def to_json(self) -> str:
        """The schema as JSON text, stable from run to run."""
        return json.dumps(self.model_dump(mode="json"), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Schema":
        """The schema of a JSON text that `to_json` wrote."""
        return cls.model_validate_json(text)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON; equal schemas have equal fingerprints."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def check_fingerprint(self, found: str, where: str | Path) -> None:
        """Checks that data at `where` was written with this schema.

        Raises:
            ValueError: the fingerprints differ.
        """
        if found != self.fingerprint:
            raise ValueError(
                f"{where}: written with schema fingerprint {found[:12]}, but the schema in use "
                f"has {self.fingerprint[:12]}; prepare the data again or use its schema.json"
            )


def _check_name(at: tuple[str, ...]) -> None:
    if not NAME.fullmatch(at[-1]):
        raise SettingError(
            at,
            f"names are a letter, then letters, digits and '_', not {at[-1]!r}; a column of "
            "another name is read by `column`",
        )
