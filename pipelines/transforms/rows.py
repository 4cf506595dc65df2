"""Log rows as tuples, and the requests and splits that they form."""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from functools import lru_cache, partial
from pathlib import PurePath
from typing import NamedTuple

from ctr_tf.data.config import Split
from ctr_tf.schema import Categorical
from ctr_tf.schema.features import Task
from pipelines.transforms.errors import RejectError
from pipelines.transforms.layout import Field, Layout
from pipelines.transforms.sources import Row, SourceFile, available
from pipelines.transforms.values import (
    MICROSECONDS,
    Converter,
    binary,
    identifier,
    label,
    number,
    timestamp,
)

REMEMBERED = 1 << 14
"""Texts of a column whose conversion is remembered."""


class LogRow(NamedTuple):
    """One impression, or a row of a log of behaviours: it has a time, a place and an event.

    Args:
        time: Unix microseconds; 0 without `keys.time`.
        request: request id; empty for a behaviour.
        file: number of its file.
        position: line or row there.
        item: the item's id; empty without items and `keys.item`.
        labels: by task.
        weights: by task; 0 masks the label.
        shared: values of the layout's `request` group.
        candidate: values of its `candidate` group.
        event: values of its `event` group.
    """

    time: int
    request: bytes
    file: int
    position: int
    item: bytes
    labels: tuple[float, ...]
    weights: tuple[float, ...]
    shared: tuple
    candidate: tuple
    event: tuple


class Request(NamedTuple):
    """The impressions that were shown at once.

    Args:
        time: of its first row, Unix microseconds.
        last: of its last row.
        id: unique among the requests of its user.
        key: unique among all requests; what is random of a request follows from it.
        rows: in the order of the log.
    """

    time: int
    last: int
    id: bytes
    key: bytes
    rows: list[LogRow]


log_rows: Callable[[Iterable[tuple]], Iterator[LogRow]] = partial(
    map, partial(tuple.__new__, LogRow)
)
"""`LogRow`s of plain tuples, which are what travels between the steps."""


def remembering(convert: Converter) -> Converter:
    """The same conversion, looked up for texts that were met before.

    Values of other types are converted each time: 1, 1.0 and True are one key but not one id.
    """
    known = lru_cache(REMEMBERED)(convert)
    return lambda value: known(value) if type(value) is str else convert(value)


class LogParser:
    """Turns rows of one file of impressions or behaviours into the values of `LogRow`s.

    Args:
        layout: where everything is read from.
        file: the file.
        items: the ids that the catalogue holds; None without items.
        source: impressions or behaviours.
    """

    def __init__(
        self,
        layout: Layout,
        file: SourceFile,
        items: object = None,
        source: str = "impressions",
    ):
        self._shown = source == "impressions"
        self._file = file
        self._items = items
        self._keys = layout.schema.keys
        self.wanted: list[str] = []
        self._user = self._index(self._keys.user)
        self._user_id = remembering(partial(identifier, column=self._keys.user))
        self._request = self._index(self._keys.request) if self._shown else None
        self._time = self._index(self._keys.time)
        item = layout.config.items.key if layout.config.items else self._keys.item
        if not self._shown and (items is None or item not in available(layout.files[source])):
            item = None
        self._item_column = item
        self._item = self._index(item)
        self._item_id = remembering(self._known_item)
        self._tasks = [
            (
                remembering(partial(label, task)),
                task,
                self._index(task.column),
                self._index(task.mask),
                self._index(task.weight),
            )
            for task in (layout.schema.tasks.values() if self._shown else ())
        ]
        places = {"request": "impressions", "candidate": "impressions", "event": layout.past}
        self._groups = [
            [(self._index(field.column), _converter(field)) for field in layout.groups[group]]
            if place == source
            else []
            for group, place in places.items()
        ]
        self._sequences = _sequence_places(layout) if self._shown else []
        self._users = layout.config.users is not None and layout.config.users.required

    def _index(self, column: str | None) -> int | None:
        if column is None:
            return None
        if column not in self.wanted:
            self.wanted.append(column)
        return self.wanted.index(column)

    def _known_item(self, value: object) -> bytes:
        item = identifier(value, self._item_column)
        if self._items is not None and item not in self._items:
            raise RejectError(f"{self._item_column}: not in items", value)
        return item

    def __call__(self, row: Row) -> tuple[bytes, tuple]:
        """The key that the row is grouped by, and the row as `log_rows` takes it.

        Rows of one user have the user's key, `u` and the id; others that of their request.

        Raises:
            RejectError: a value is unusable.
        """
        if row.problem:
            raise RejectError(row.problem, row.raw)
        values = row.values
        user = b"" if self._user is None else self._user_id(values[self._user])
        if not (self._shown or user):
            raise RejectError(f"{self._keys.user}: missing, and a behaviour is a user's")
        if self._users and not user:
            raise RejectError(f"{self._keys.user}: missing, and users has the user's features")
        time = 0
        if self._time is not None:
            time = timestamp(values[self._time], self._keys.time, self._keys.time_unit)
        request = self._request_id(values, user, time, row.position) if self._shown else b""
        item = b"" if self._item is None else self._item_id(values[self._item])
        told = [_label(values, *task) for task in self._tasks]
        labels, weights = zip(*told) if told else ((), ())
        shared, candidate, event = [
            tuple([convert(values[index]) for index, convert in group]) for group in self._groups
        ]
        for name, places in self._sequences:
            if len({len(shared[place]) for place in places}) > 1:
                raise RejectError(f"sequences.{name}: attributes of different lengths")
        found = (
            time,
            request,
            self._file.number,
            row.position,
            item,
            labels,
            weights,
            shared,
            candidate,
            event,
        )
        return (b"u" + user if user else b"r" + request), found

    def _request_id(self, values: tuple, user: bytes, time: int, position: int) -> bytes:
        if self._request is not None:
            request = identifier(values[self._request], self._keys.request)
            if not request:
                raise RejectError(f"{self._keys.request}: missing request id")
            return request
        if user and self._time is not None:
            seconds, rest = divmod(time, MICROSECONDS)
            return b"%s:%d" % (user, seconds) + (b".%06d" % rest if rest else b"")
        return f"{self._file.name}:{position}".encode()


def _converter(field: Field) -> Converter:
    # Numbers, texts and whole sequences seldom repeat.
    once = field.separator is not None or not isinstance(field.feature, Categorical)
    return field.converter() if once else remembering(field.converter())


def _label(
    values: tuple,
    convert: Converter,
    task: Task,
    column: int | None,
    mask: int | None,
    weight: int | None,
) -> tuple[float, float]:
    found, counts = convert(None if column is None else values[column])
    if mask is not None:
        counts *= binary(values[mask], task.mask)
    if weight is not None:
        amount = number(values[weight], task.weight)
        if amount < 0:
            raise RejectError(f"{task.weight}: negative weight", values[weight])
        counts *= amount
    return (found if counts else 0.0), counts


def _sequence_places(layout: Layout) -> list[tuple[str, list[int]]]:
    found: dict[str, list[int]] = {}
    for index, field in enumerate(layout.groups["request"]):
        if field.sequence is not None:
            found.setdefault(field.sequence, []).append(index)
    return [(name, places) for name, places in found.items() if len(places) > 1]


def build_requests(rows: list[LogRow], user: bytes = b"") -> list[Request]:
    """The requests of one user, in the order of their time and then of their id.

    A request's time is that of its earliest row, so that nothing later counts as its past. A split
    by time goes by its latest row, so that training holds none from after a boundary.

    Args:
        rows: the user's, in the order of their time and then of their request's id.
        user: the user's id, where request ids may start anew with each user.

    Example:
        >>> row = LogRow(5, b"1", 0, 2, b"i", (), (), (), (), ())
        >>> [request.key for request in build_requests([row], b"ann")]
        [b'ann\\n1']
    """
    # No id holds a line break.
    before = user + b"\n" if user else b""
    found: dict[bytes, list[LogRow]] = {}
    for row in rows:
        found.setdefault(row.request, []).append(row)
    return [
        Request(own[0].time, own[-1].time, request, before + request, own)
        for request, own in found.items()
    ]


def least_active(share: float, counts: dict[int, int]) -> int:
    """The fewest behaviours of a user among the most active ones.

    Args:
        share: of users that is wanted, at least.
        counts: users by the number of their behaviours.

    Example:
        >>> least_active(0.5, {9: 1, 4: 2, 1: 3})
        4
    """
    wanted = math.ceil(share * sum(counts.values()))
    for behaviours in sorted(counts, reverse=True):
        wanted -= counts[behaviours]
        if wanted <= 0:
            return behaviours
    return 0


TRAIN, VALIDATION, TEST = range(3)
Assign = Callable[[list[Request], bool], list[int]]


def splitter(
    split: Split, boundaries: tuple[float, float], files: Sequence[str] = (), seed: int = 0
) -> Assign:
    """What says, for the requests of one user in order, which split each belongs to.

    Args:
        split: the configuration.
        boundaries: Unix microseconds at which validation and test begin, for a split by time.
        files: names of the log's files, by number, for a split by files.
        seed: of a random split.

    Returns:
        A function of the requests and of whether they are of a known user; by `last`, requests
        without a user are training ones.
    """

    def by_time(requests: list[Request], known: bool) -> list[int]:
        return [bisect.bisect_right(boundaries, request.last) for request in requests]

    def by_last(requests: list[Request], known: bool) -> list[int]:
        found = [TRAIN] * len(requests)
        if not known:
            return found
        target, held = TEST, 0
        for index in range(len(requests) - 1, -1, -1):
            found[index] = target
            held += len(requests[index].rows)
            if held >= split.interactions:
                target, held = target - 1, 0
                if target == TRAIN:
                    break
        return found

    of_file = [
        TEST
        if split.test and fnmatch(PurePath(name).name, split.test)
        else VALIDATION
        if split.validation and fnmatch(PurePath(name).name, split.validation)
        else TRAIN
        for name in files
    ]

    def by_files(requests: list[Request], known: bool) -> list[int]:
        return [of_file[request.rows[0].file] for request in requests]

    first, second, _ = split.fractions

    def at_random(requests: list[Request], known: bool) -> list[int]:
        # Hashed, so that neither the runner nor the order of the rows matters.
        return [
            bisect.bisect_right((first, first + second), _uniform(request.key, seed))
            for request in requests
        ]

    def none(requests: list[Request], known: bool) -> list[int]:
        return [TRAIN] * len(requests)

    by = {"time": by_time, "last": by_last, "files": by_files, "random": at_random, "none": none}
    return by[split.by]


def _uniform(key: bytes, seed: int) -> float:
    """A number in [0, 1) that the key and the seed decide."""
    digest = hashlib.blake2b(key, digest_size=8, key=b"split %d" % seed).digest()
    return int.from_bytes(digest, "big") / 2**64


def time_boundaries(split: Split, counts: dict[int, int]) -> tuple[float, float]:
    """The times at which validation and test begin, in Unix microseconds; infinite for never.

    Args:
        split: the configuration.
        counts: requests by the time of their last row.

    Example:
        >>> time_boundaries(Split(fractions=(0.5, 0.25, 0.25)), {10: 1, 20: 1, 30: 1, 40: 1})
        (30, 40)
    """
    if split.boundaries is not None:
        return tuple(second * MICROSECONDS for second in split.boundaries)
    total = sum(counts.values())
    first = split.fractions[0]
    ranks = [round(total * share) for share in (first, first + split.fractions[1])]
    found = [float("inf"), float("inf")]
    before = 0
    for time in sorted(counts):
        after = before + counts[time]
        for index, rank in enumerate(ranks):
            if before <= rank < after:
                found[index] = time
        before = after
    return tuple(found)
