"""The first pipeline: rows are read, validated, brought together by user and listed by shard.

    tasks -> ReadRows -> (user, rows) -> GroupByKey -> GroupUser -> (shard, where the rows are)
          -> GroupByKey -> WriteShard -> one list of users a shard

Accepted rows, rejects and counts travel in one collection: not every runner keeps tagged outputs
apart. A blob starts with a letter that says what it is. Rows are shuffled once: a user's, brought
together, lie in a file of the worker that did it.
"""

from __future__ import annotations

import hashlib
import marshal
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from ctr_tf.data.manifest import REJECTS
from pipelines.transforms.catalogue import AttributeParser, load_items
from pipelines.transforms.errors import PrepareError, RejectError
from pipelines.transforms.layout import Layout
from pipelines.transforms.rejects import RejectFile, pack, pack_row, reject
from pipelines.transforms.rows import LogParser, log_rows
from pipelines.transforms.sequences import Newest
from pipelines.transforms.sources import SourceFile, read_rows
from pipelines.transforms.spill import Pile

ROWS, PAST, USER, REJECT, COUNT, FAILURE = b"I", b"B", b"U", b"R", b"C", b"F"
ASIDE = b"!"
"""Starts the key of what is no user's: rejects, counts and failures."""

NOBODY = sys.maxsize
"""As behaviours of a request without a user, so that it is never left out."""

RUN = 1000
"""The most rows of one user that travel as one element."""

Element = tuple[bytes, bytes]


class Folders(NamedTuple):
    """Where a job writes.

    Args:
        work: what the job needs between its pipelines.
        output: the folder to be.
    """

    work: Path
    output: Path

    @property
    def items(self) -> Path:
        """The catalogue for the workers."""
        return self.work / "items"

    def shard(self, number: int) -> Path:
        """Where the rows of one shard's users are, by user."""
        return self.work / f"rows-{number:05d}"


class ReadTask(NamedTuple):
    """A file to read, or a reject found before.

    Args:
        source: impressions, behaviours or users; `rejects` for a packed reject.
        file: the file, or the one that the reject stands in.
        packed: the reject.
    """

    source: str
    file: SourceFile
    packed: bytes = b""


def shard_of(key: bytes, shards: int) -> int:
    """The shard of a user or request, the same on every machine.

    Example:
        >>> shard_of(b"u42", 8)
        7
    """
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") % shards


@beam.typehints.with_input_types(ReadTask)
@beam.typehints.with_output_types(Element)
class ReadRows(beam.DoFn):
    """Reads one file and emits runs of rows of one user, rejects, and the rows read.

    The distribution `prepare/rows_read_ahead` tells the lengths of the runs.

    Args:
        layout: where everything is read from.
        folders: where the job writes.
    """

    def __init__(self, layout: Layout, folders: Folders):
        self._layout = layout
        self._folders = folders
        self._ahead = Metrics.distribution("prepare", "rows_read_ahead")

    def process(self, task: ReadTask) -> Iterator[Element]:
        """Emits what one file holds."""
        aside = _aside_key(self._layout, task.file.number)
        if task.source == "rejects":
            yield aside, REJECT + task.packed
            return
        users = task.source == "users"
        rows = self._users(task.file) if users else self._log(task.source, task.file)
        read = 0
        try:
            for found in rows:
                if isinstance(found, int):
                    read += found
                else:
                    yield found if found[0] else (aside, found[1])
        except PrepareError as error:
            yield aside, FAILURE + str(error).encode()
        yield aside, COUNT + marshal.dumps((task.source, read))

    def _log(self, source: str, file: SourceFile) -> Iterator[Element | int]:
        items = load_items(self._folders.items) if self._layout.config.items else None
        parse = LogParser(self._layout, file, items, source)
        kind = ROWS if source == "impressions" else PAST
        key, run, read = b"", [], 0
        for row in read_rows(file, parse.wanted):
            read += 1
            try:
                own, found = parse(row)
            except RejectError as error:
                read += row.lines - 1
                for packed in pack_row(source, file, row, parse.wanted, error):
                    yield b"", REJECT + packed
                continue
            if own != key or len(run) == RUN:
                if run:
                    yield self._handed_on(key, kind, run)
                key, run = own, []
            run.append(found)
        if run:
            yield self._handed_on(key, kind, run)
        yield read

    def _handed_on(self, key: bytes, kind: bytes, run: list[tuple]) -> Element:
        self._ahead.update(len(run))
        return key, kind + marshal.dumps(run)

    def _users(self, file: SourceFile) -> Iterator[Element | int]:
        parse = AttributeParser(self._layout.config.users.key, self._layout.groups["user"])
        read = 0
        for row in read_rows(file, parse.wanted):
            read += 1
            try:
                key, values = parse(row)
            except RejectError as error:
                read += row.lines - 1
                for packed in pack_row("users", file, row, parse.wanted, error):
                    yield b"", REJECT + packed
            else:
                yield b"u" + key, USER + marshal.dumps((file.number, row.position, values))
        yield read


@beam.typehints.with_input_types(tuple[bytes, Iterable[bytes]])
@beam.typehints.with_output_types(Element)
class GroupUser(beam.DoFn):
    """Brings one user's rows into order, joins the user's attributes, and names their shard.

    Of behaviours that are a log of their own, those are kept that a request asks for, and for
    pre-training all. The distribution `prepare/rows_held` counts the rows held at once: those of
    one user, and about twice the behaviours that are kept.

    Args:
        layout: where everything is read from.
        folders: where the job writes.
    """

    def __init__(self, layout: Layout, folders: Folders):
        self._layout = layout
        self._folders = folders
        split = layout.config.split
        self._shares_of_time = split.by == "time" and split.boundaries is None
        built = [own for own in layout.schema.sequences.values() if own.separator is None]
        self._length = max((sequence.max_length for sequence in built), default=0)
        self._pile: Pile | None = None
        self._held = Metrics.distribution("prepare", "rows_held")

    def start_bundle(self) -> None:
        """Begins anew, also after a bundle that failed."""
        self._pile = None

    def finish_bundle(self) -> None:
        """Completes the file of the bundle's users before anyone learns of it."""
        if self._pile is not None:
            self._pile.close()
            self._pile = None

    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[Element]:
        """Emits where one user's rows are and what they hold, or passes on what is no user's."""
        key, blobs = element
        if key.startswith(ASIDE):
            for blob in blobs:
                yield key, blob
            return
        rows: list[tuple] = []
        attributes: list[tuple] = []
        for blob in blobs:
            if blob[:1] == ROWS:
                rows.extend(marshal.loads(blob[1:]))
            elif blob[:1] == USER:
                attributes.append(marshal.loads(blob[1:]))
        rows.sort(key=itemgetter(0, 1, 2, 3))
        attributes.sort(key=lambda row: row[:2])
        yield from self._duplicates(key, attributes[1:])
        if not rows:
            return
        values = attributes[0][2] if attributes else ()
        if self._layout.config.users and not attributes:
            try:
                values = self._missing(key)
            except RejectError as error:
                yield from self._strangers(key, rows, error)
                return
        past = self._past(rows, blobs)
        self._held.update(len(rows) + past.held)
        shard = shard_of(key, self._layout.config.shards)
        if self._pile is None:
            self._pile = Pile(self._folders.work)
        reference = self._pile.append(marshal.dumps((values, rows, past.rows())))
        # Of a request's rows, which come in the order of time, the last one stays.
        times = list({row[1]: row[0] for row in rows}.values()) if self._shares_of_time else []
        user = (key, *reference, self._active(key, rows, past))
        yield b"%d" % shard, ROWS + marshal.dumps((user, len(rows), times))

    def _active(self, key: bytes, rows: list[tuple], past: Newest) -> int:
        """How many behaviours a user has, where that decides who is kept."""
        config = self._layout.config
        if config.most_active_users == 1:
            return 0
        if not key.startswith(b"u"):
            return NOBODY
        return past.seen if config.behaviours else len(rows)

    def _past(self, rows: list[tuple], blobs: Iterable[bytes]) -> Newest:
        """The behaviours of a log of their own; none where the impressions are the behaviours."""
        if not self._layout.config.behaviours:
            return Newest([], 0)
        if self._layout.config.histories:
            past = Newest([sys.maxsize], sys.maxsize)
        else:
            starts: dict[bytes, int] = {}
            for row in rows:
                starts.setdefault(row[1], row[0])
            past = Newest(list(starts.values()), self._length)
        for blob in blobs:
            if blob[:1] == PAST:
                past.add(marshal.loads(blob[1:]))
        return past

    def _duplicates(self, key: bytes, attributes: list[tuple]) -> Iterator[Element]:
        column = self._layout.config.users.key if attributes else ""
        for number, position, _ in attributes:
            error = RejectError(f"{column}: duplicate id", key[1:])
            yield self._aside("users", number, position, {column: key[1:]}, error)

    def _missing(self, key: bytes) -> tuple:
        """The attributes of a user without a row: missing, but for the id."""
        users = self._layout.config.users
        if users.required:
            raise RejectError(f"{users.key}: not in users", key[1:])
        user = key[1:].decode() if key[:1] == b"u" else None
        return tuple(
            [
                field.converter()(user if field.column == users.key else None)
                for field in self._layout.groups["user"]
            ]
        )

    def _strangers(self, key: bytes, rows: list[tuple], error: RejectError) -> Iterator[Element]:
        column = self._layout.config.users.key
        for row in log_rows(rows):
            said = {column: key[1:], "request": row.request, "item": row.item}
            yield self._aside("impressions", row.file, row.position, said, error)

    def _aside(
        self, source: str, number: int, position: int, row: dict, error: RejectError
    ) -> Element:
        file = self._layout.files[source][number]
        packed = pack(*reject(source, file, position, row, error))
        return _aside_key(self._layout, number), REJECT + packed


def _aside_key(layout: Layout, file: int) -> bytes:
    return ASIDE + b"%d" % (file % layout.config.shards)


@beam.typehints.with_input_types(tuple[bytes, Iterable[bytes]])
@beam.typehints.with_output_types(str)
class WriteShard(beam.DoFn):
    """Lists the users of one shard, or writes rejects, and says in a summary what there was.

    Args:
        layout: where everything is read from.
        folders: where the job writes.
    """

    def __init__(self, layout: Layout, folders: Folders):
        self._layout = layout
        self._folders = folders

    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[str]:
        """Emits the name of what was written."""
        key, blobs = element
        if key.startswith(ASIDE):
            name = f"rejects-{int(key[1:]):05d}"
            summary = self._rejects(int(key[1:]), blobs)
        else:
            name = self._folders.shard(int(key)).name
            summary = self._rows(int(key), blobs)
        save_summary(self._folders.work / f"{name}.summary", summary)
        yield name

    def _rows(self, shard: int, blobs: Iterable[bytes]) -> dict:
        users = []
        # All by the number of behaviours: who has too few is left out once all users are known.
        times: defaultdict[int, Counter] = defaultdict(Counter)
        counts: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
        largest = 0
        for blob in blobs:
            user, rows, lasts = marshal.loads(blob[1:])
            active = user[-1]
            counts[active][0] += 1
            counts[active][1] += rows
            largest = max(largest, rows)
            times[active].update(lasts)
            users.append(user)
        save_summary(self._folders.shard(shard), sorted(users))
        return {
            "largest": largest,
            "times": {active: dict(own) for active, own in times.items()},
            "counts": dict(counts),
        }

    def _rejects(self, part: int, blobs: Iterable[bytes]) -> dict:
        path = self._folders.output / REJECTS / f"part-{part:05d}.jsonl"
        file = RejectFile(path, self._folders.work / f"rejects-{part:05d}")
        read: Counter[str] = Counter()
        failures = []
        for blob in blobs:
            kind, content = blob[:1], blob[1:]
            if kind == REJECT:
                file.append(content)
            elif kind == COUNT:
                source, rows = marshal.loads(content)
                read[source] += rows
            else:
                failures.append(content.decode())
        file.close()
        return {
            "read": dict(read),
            "failures": sorted(failures),
            "reasons": dict(file.reasons),
            "rejected": dict(file.sources),
        }


def save_summary(path: Path, summary: Any) -> None:
    """Saves what one step has to say, whole or not at all."""
    # A runner may run the same step twice at once.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    partial.write_bytes(marshal.dumps(summary))
    partial.replace(path)


def load_summaries(folder: Path, pattern: str) -> Iterator[dict]:
    """Every summary whose name matches, one at a time, in the order of names."""
    return (marshal.loads(path.read_bytes()) for path in sorted(folder.glob(pattern)))
