"""Which feature explains that two models score requests differently."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ctr_tf.data.requests import feature_of
from ctr_tf.schema import MISSING_INT, REQUEST_TIME, InputSpec, Numeric, Schema
from serving.parity.differences import Score, largest_difference
from serving.parity.logged import Logged


@dataclass(frozen=True)
class Suspect:
    """A feature, as an encoder: all inputs that read one vocabulary and table.

    Args:
        feature: name of the encoder, which is that of the feature that defines it.
        inputs: what reads it.
        without: the largest difference of scores where these inputs are neutral.
        named: whether the difference needs this feature.
    """

    feature: str
    inputs: list[str]
    without: float
    named: bool


def find_suspects(
    schema: Schema, requests: Sequence[Logged], online: Score, offline: Score, tolerance: float
) -> list[Suspect]:
    """The features of a schema, those that explain a difference first.

    A feature is left out by giving both sides a neutral value for all that reads its vocabulary: a
    missing id or text, and for a number its default, or 0. All are left out, then put back one by
    one, the least suspect first; those whose return brings the difference back are named.

    Nothing is named where a difference stays with all of them left out: then weights differ, or the
    statistics of a number, for which no neutral value exists.

    Args:
        schema: of the requests.
        requests: some that differ.
        online, offline: the two models.
        tolerance: a difference that counts as none.
    """
    groups = _groups(schema)

    def without(features: Collection[str]) -> float:
        specs = [spec for feature in features for spec in groups[feature]]
        neutral = [_neutralised(schema, request, specs) for request in requests]
        return max(largest_difference(online(each), offline(each)) for each in neutral)

    alone = {feature: without([feature]) for feature in groups}
    named = set(groups)
    if without(named) > tolerance:
        named = set()
    for feature in sorted(named, key=alone.__getitem__, reverse=True):
        if without(named - {feature}) <= tolerance:
            named.remove(feature)
    suspects = [
        Suspect(feature, [spec.name for spec in specs], alone[feature], feature in named)
        for feature, specs in groups.items()
    ]
    return sorted(suspects, key=lambda suspect: (not suspect.named, suspect.without))


def _groups(schema: Schema) -> dict[str, list[InputSpec]]:
    """The inputs that read each encoder, and those that tell time."""
    groups: dict[str, list[InputSpec]] = {}
    for spec in schema.inputs:
        if spec.dtype != "bool":
            timed = spec.feature is None
            name = REQUEST_TIME if timed else schema.encoder(spec.feature, spec.sequence)
            groups.setdefault(name, []).append(spec)
    return groups


def _neutralised(schema: Schema, request: Logged, specs: list[InputSpec]) -> Logged:
    changed = {
        spec.name: np.full_like(request.inputs[spec.name], _neutral(schema, spec))
        for spec in specs
        if spec.name in request.inputs
    }
    return Logged(request.file, request.index, request.signature, request.inputs | changed)


def _neutral(schema: Schema, spec: InputSpec) -> object:
    if spec.feature is None:
        return 0
    feature = feature_of(schema, spec)
    if isinstance(feature, Numeric):
        return feature.default or 0.0
    return "" if spec.dtype == "string" else MISSING_INT
