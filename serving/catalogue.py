"""A user and unseen items out of prepared data, to ask a server about."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctr_tf.data.catalogue import read_catalogue
from ctr_tf.data.manifest import SPLITS, Manifest
from ctr_tf.data.requests import Codec, Request, read_requests
from ctr_tf.schema import REQUEST_TIME, Schema


@dataclass(frozen=True)
class Question:
    """One request that a log could have held.

    Args:
        user: whose.
        values: by input name, as `Client.score` takes them.
        items: the candidates.
        liked: the user's latest behaviours with a positive label, newest first.
    """

    user: str
    values: dict[str, Any]
    items: list[str]
    liked: list[str]


@dataclass(frozen=True)
class Visitor:
    """A user at the time of their latest test request.

    Args:
        user: the id.
        values: user and context inputs by name.
        liked: the latest behaviours with a positive label, newest first.
        unseen: candidate features of the items that the user never met.
    """

    user: str
    values: dict[str, Any]
    liked: list[str]
    unseen: dict[str, dict[str, Any]]

    def question(self, items: Sequence[str]) -> Question:
        """A request with these of the unseen items as candidates."""
        names = self.unseen[items[0]] if items else ()
        columns = {name: [self.unseen[item][name] for item in items] for name in names}
        return Question(self.user, {**self.values, **columns}, list(items), self.liked)


def unseen_items(
    folder: Path, schema: Schema, user: str | None, count: int, seed: int = 17
) -> Question:
    """The latest test request of a user, with items that the user never met as candidates.

    Args:
        folder, schema, user: see `visitor`.
        count: candidates wanted; fewer where the catalogue has no more.
        seed: of their choice.

    Raises:
        ValueError: see `visitor`.
    """
    found = visitor(folder, schema, user)
    unseen = sorted(found.unseen)
    return found.question(random.Random(seed).sample(unseen, min(count, len(unseen))))


def visitor(folder: Path, schema: Schema, user: str | None = None) -> Visitor:
    """A user of the test split.

    Args:
        folder: prepared data, of a log with user and item ids and an item catalogue.
        schema: of the data.
        user: the user; by default one of the first test file with many behaviours.

    Raises:
        ValueError: no such user in the test split, or data without users, items or catalogue.
    """
    if not (schema.keys.user and schema.keys.item):
        raise ValueError("the schema names no keys.user or no keys.item")
    catalogue = read_catalogue(folder)
    manifest = Manifest.read(folder, schema)
    codec = Codec(schema, folder)
    wanted = None if user is None else user.encode()
    shard = None
    last = None
    for file in manifest.paths(folder, "test"):
        for found in read_requests(file, codec):
            if wanted is None and any(
                len(found["features"][f"{name}_{next(iter(spec.attributes))}"]) == spec.max_length
                for name, spec in schema.sequences.items()
            ):
                wanted = found["user"]
            if found["user"] == wanted and (last is None or _time(found) >= _time(last)):
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
        for found in read_requests(file, codec) if file.exists() else ():
            if found["user"] != wanted:
                continue
            items = [item.decode() for item in found["items"]]
            met.update(items)
            labels = found["labels"][task]
            liked += [(_time(found), i) for i, label in zip(items, labels) if label > 0]
    unseen = {item: features for item, features in catalogue.items() if item not in met}
    newest = [item for _, item in sorted(liked, reverse=True)]
    return Visitor(wanted.decode(), _user_values(last, schema), newest, unseen)


def _user_values(request: Request, schema: Schema) -> dict[str, Any]:
    """The user and context inputs of a request, as plain values."""
    values: dict[str, Any] = {}
    for spec in schema.inputs:
        if spec.name == REQUEST_TIME:
            values[spec.name] = request["time"]
        elif spec.side != "candidate" and spec.dtype != "bool":
            values[spec.name] = _plain(request["features"][spec.name])
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


def _time(request: Request) -> int:
    return request.get("time", 0)
