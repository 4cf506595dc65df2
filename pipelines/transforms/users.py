"""One user as the later pipelines read it from a shard: requests in order, each with its split."""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from typing import NamedTuple

from pipelines.transforms.ingest import Folders, save_summary
from pipelines.transforms.layout import Layout
from pipelines.transforms.rows import LogRow, Request, build_requests, log_rows, splitter
from pipelines.transforms.spill import read_piles


class User(NamedTuple):
    """One user.

    Args:
        id: empty for the rows of a request without a user.
        values: of the layout's `user` group.
        rows: every impression, by time, request id and place in the log.
        past: what sequences are built from, in this order: the impressions, or behaviours that are
            a log of their own; see `GroupUser` for which.
        requests: in the order of their time and then of their id.
        splits: of each request: 0 training, 1 validation, 2 test.
    """

    id: bytes
    values: tuple
    rows: list[LogRow]
    past: list[LogRow]
    requests: list[Request]
    splits: list[int]


def read_users(
    layout: Layout, folders: Folders, boundaries: tuple[float, float], shard: int
) -> Iterator[User]:
    """The users of a shard, one at a time, in the order of their keys.

    Args:
        layout: where everything is read from.
        folders: where the job writes.
        boundaries: Unix microseconds at which validation and test begin.
        shard: the shard.
    """
    names = [file.name for file in layout.files["impressions"]]
    assign = splitter(layout.config.split, boundaries, names, layout.config.seed)
    path = folders.shard(shard)
    users = marshal.loads(path.read_bytes()) if path.exists() else []
    for key, blob in read_piles(folders.work, (user[:-1] for user in users)):
        values, tuples, events = marshal.loads(blob)
        rows = list(log_rows(tuples))
        past = list(log_rows(events)) if layout.config.behaviours else rows
        known = key[:1] == b"u"
        user = key[1:] if known else b""
        # Ids made of user and time are unique as they are.
        requests = build_requests(rows, user if layout.schema.keys.request else b"")
        splits = assign(requests, known)
        yield User(user, values, rows, past, requests, splits)


def keep_active(folders: Folders, shards: int, least: int) -> None:
    """Takes users with fewer behaviours than `least` off the lists of the shards."""
    for path in map(folders.shard, range(shards)):
        if path.exists():
            users = marshal.loads(path.read_bytes())
            save_summary(path, [user for user in users if user[-1] >= least])
