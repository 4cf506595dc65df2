"""Histories for pre-training: what a user did in the training period, in windows, as requests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import zip_longest

from pipelines.transforms.layout import Layout
from pipelines.transforms.rows import MICROSECONDS, TRAIN, Request
from pipelines.transforms.sequences import Behaviours, History
from pipelines.transforms.users import User

LEAST = 2
"""Behaviours of a window: one alone has no other that it could be told from."""


def training_end(user: User, boundary: float) -> float:
    """What a user's training period is strictly before, in Unix microseconds.

    It is the time of the first request that is not of training, and never later than the boundary;
    where there is neither, it is just after the last row of the user's requests.

    Args:
        user: the user.
        boundary: Unix microseconds at which validation begins, for a split by time; infinite for
            others.
    """
    held_out = [own.time for own, split in zip(user.requests, user.splits) if split != TRAIN]
    end = min([*held_out, boundary])
    return end if end < math.inf else max(own.last for own in user.requests) + 1


def history_requests(
    layout: Layout, user: User, histories: dict[str, History], boundary: float
) -> Iterator[tuple[Request, dict[str, Behaviours]]]:
    """The records of one user in the split `histories`, the newest first.

    SRP4CTR (Han et al. 2024), section 2.1, pre-trains on behaviours alone. The behaviours of the
    training period are cut into windows, of at most `max_length` of their sequence, from the newest
    backwards and without overlap. A record is a request with the k-th newest window of every
    sequence, empty where there are fewer; it is left out where none has two behaviours. A sequence
    that the log states is empty. Of behaviours that are a log of their own all are read; values
    that no training request sees in them are unknown.

    A record's id is `<user>/<k>`, its time that of its newest behaviour. Context and candidate,
    which pre-training does not read, are those of the first row of the user's last training
    request; a user without one has no record.

    Args:
        layout: where everything is read from.
        user: a user with an id.
        histories: of every sequence that is built from the log.
        boundary: as of `training_end`.
    """
    training = [own for own, split in zip(user.requests, user.splits) if split == TRAIN]
    if not training:
        return
    empty = {
        name: Behaviours(0, ((),) * len(sequence.attributes), ())
        for name, sequence in layout.schema.sequences.items()
    }
    end = training_end(user, boundary)
    windows = [history.windows(end) for history in histories.values()]
    for k, found in enumerate(zip_longest(*windows)):
        held = {name: window for name, window in zip(histories, found) if window is not None}
        if max(window.length for window in held.values()) < LEAST:
            continue
        time = max(window.times[-1] for window in held.values()) * MICROSECONDS
        key = b"%s/%d" % (user.id, k)
        yield Request(time, time, key, key, training[-1].rows[:1]), empty | held
