"""A user and unseen items out of prepared data, to ask a server about."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctr_tf.data.example_proto import Example
from ctr_tf.data.manifest import CATALOGUE, SPLITS, Manifest
from ctr_tf.data.records import read_records
from ctr_tf.schema import REQUEST_TIME, Schema


@dataclass(frozen=True)
class Question:
    """One request that a log could have held.

    Args:
        user: whose.
        values: by input name, as `Client.score_request` takes them.
        items: the candidates.
        liked: the user's latest behaviours with a positive label, newest first.
    """

    user: str
    values: dict[str, Any]
    items: list[str]
    liked: list[str]


def unseen_items(
    folder: Path, schema: Schema, user: str | None, count: int, seed: int = 17
) -> Question:
    """The latest test request of a user, with items that the user never met as candidates.

    Args:
        folder: prepared data, of a log with user and item ids and an item catalogue.
        schema: of the data.
        user: the user; by default one of the first test file with many behaviours.
        count: candidates wanted; fewer where the catalogue has no more.
        seed: of their choice.

    Raises:
        ValueError: no such user in the test split, or data without users, items or catalogue.
    """
    if not (schema.keys.user and schema.keys.item):
        raise ValueError("the schema names no keys.user or no keys.item")
    path = Path(folder) / CATALOGUE
    if not path.exists():
        raise ValueError(f"{path}: no item catalogue; the config names no prepare.items")
    manifest = Manifest.read(folder, schema)
    shard = None
    last = None
    for file in manifest.paths(folder, "test"):
        for record in read_records(file):
            found = Example.FromString(record)
            of = _text(found, "request/user")[0]
            if user is None and any(
                _integers(found, f"features/{name}/length")[0] == spec.max_length
                for name, spec in schema.sequences.items()
            ):
                user = of
            if of == user and (last is None or _time(found) >= _time(last)):
                shard, last = file.name, found
        if last is not None:
            break
    if last is None:
        raise ValueError(f"user {user!r} has no request in the test split")
    # The files of one number hold the same users in every split.
    met: set[str] = set()
    liked: list[tuple[int, str]] = []
    task = next(iter(schema.tasks))
    for split in SPLITS:
        file = Path(folder) / split / shard
        for record in read_records(file) if file.exists() else ():
            found = Example.FromString(record)
            if _text(found, "request/user")[0] != user:
                continue
            items = _text(found, "request/items")
            met.update(items)
            labels = found.features.feature[f"labels/{task}"].float_list.value
            liked += [(_time(found), i) for i, label in zip(items, labels) if label > 0]
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        catalogue = {item["item_id"]: item["features"] for item in map(json.loads, lines)}
    unseen = sorted(set(catalogue) - met)
    chosen = random.Random(seed).sample(unseen, min(count, len(unseen)))
    values = _user_values(last, schema)
    for name in schema.side("candidate"):
        values[name] = [catalogue[item][name] for item in chosen]
    newest = [item for _, item in sorted(liked, reverse=True)]
    return Question(user, values, chosen, newest)


def _user_values(example: Any, schema: Schema) -> dict[str, Any]:
    """The user and context inputs of a record, as plain values."""
    values: dict[str, Any] = {}
    for spec in schema.inputs:
        if spec.side == "candidate" or spec.dtype == "bool":
            continue
        key = "request/time" if spec.name == REQUEST_TIME else f"features/{spec.name}"
        feature = example.features.feature[key]
        if spec.dtype == "string":
            flat = [value.decode() for value in feature.bytes_list.value]
        else:
            flat = list((feature.int64_list if spec.dtype == "int64" else feature.float_list).value)
        if spec.axes == ("B",):
            values[spec.name] = flat[0]
        elif len(spec.axes) == 2:
            values[spec.name] = flat
        else:
            rows = iter(flat)
            lengths = _integers(example, f"{key}/lengths")
            values[spec.name] = [[next(rows) for _ in range(length)] for length in lengths]
    return values


def _time(example: Any) -> int:
    return (_integers(example, "request/time") or [0])[0]


def _text(example: Any, key: str) -> list[str]:
    return [value.decode() for value in example.features.feature[key].bytes_list.value]


def _integers(example: Any, key: str) -> list[int]:
    return list(example.features.feature[key].int64_list.value)
