"""The third pipeline: requests with their sequences and negatives become TFRecord shards.

shards -> WriteRecords -> a file of each split
"""

from __future__ import annotations

import hashlib
import marshal
import math
import os
import uuid
from collections import Counter
from collections.abc import Iterator

import apache_beam as beam

from ctr_tf.data.config import PrepareConfig
from ctr_tf.data.manifest import HISTORIES, NEXT, SPLITS
from ctr_tf.data.requests import Encoded, RequestWriter
from ctr_tf.schema import Schema
from pipelines.transforms.catalogue import load_items
from pipelines.transforms.examples import Encoder, load_codec
from pipelines.transforms.histories import history_requests
from pipelines.transforms.ingest import Folders, save_summary
from pipelines.transforms.layout import Layout
from pipelines.transforms.negatives import NegativeSampler
from pipelines.transforms.rows import MICROSECONDS, TRAIN, VALIDATION, Request
from pipelines.transforms.sequences import History
from pipelines.transforms.spill import Spill, read_spill
from pipelines.transforms.users import User, read_users

DIFFERS = "rows of one request differ in a user or context feature; the first row's is kept"
UNPOPULAR = "no negatives: none has a training positive, and popularity draws such items alone"
SCARCE = "fewer negatives than configured: the user met nearly every item"
UNTRAINED = "a user without a request in training: what they did is not pre-trained on"


class SplitFile:
    """One split's file of one shard, and what it holds; made with its first record.

    Requests arrive user by user and are written in the order of a hash: a training input, whose
    shuffle buffer holds a part of the data, would otherwise meet one user after the other.

    Args:
        name: path within the output folder.
        folders: where the job writes.
        schema: what a request holds.
        config: compression, and the seed of the order.
    """

    def __init__(self, name: str, folders: Folders, schema: Schema, config: PrepareConfig):
        self._path = folders.output / name
        self._partial = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")
        # A runner may run the same step twice at once; each has its own spill.
        self._spilled = folders.work / f"{self._path.parent.name}{self._partial.name}"
        self._spill: Spill | None = None
        self._schema = schema
        self._config = config
        self._name = name
        self._seed = b"order %d" % config.seed
        self._tasks = [(f"positives {task}", f"labelled {task}") for task in schema.tasks]
        self._first, self._last = math.inf, -math.inf
        self.counts: Counter[str] = Counter()

    def write(self, encoded: Encoded, request: Request, negatives: int) -> None:
        """Appends a request."""
        if self._spill is None:
            self._spill = Spill(self._spilled)
        self._spill.append(self._place(request.key), marshal.dumps(tuple(encoded)))
        counts = self.counts
        counts["requests"] += 1
        counts["candidates"] += len(request.rows) + negatives
        counts["negatives"] += negatives
        counts["behaviours"] += sum(encoded.sizes[1:])
        for index, (positives, labelled) in enumerate(self._tasks):
            counts[positives] += [row.labels[index] for row in request.rows].count(1.0)
            masked = [row.weights[index] for row in request.rows].count(0.0)
            counts[labelled] += len(request.rows) - masked + negatives
        self._first = min(self._first, request.time)
        self._last = max(self._last, request.last)

    def close(self) -> dict:
        """Completes the file and says what it holds."""
        found = {"counts": dict(self.counts), "times": (), "file": None}
        if self._spill is not None:
            found["times"] = (self._first // MICROSECONDS, self._last // MICROSECONDS)
            self._spill.close()
            with RequestWriter(self._partial, self._schema, self._config.compression) as writer:
                for _, blob in read_spill(self._spilled):
                    writer.write(Encoded(*marshal.loads(blob)))
            self._spilled.unlink()
            os.replace(self._partial, self._path)
            size = self._path.stat().st_size
            found["file"] = {"name": self._name, "records": self.counts["requests"], "size": size}
        return found

    def _place(self, request: bytes) -> bytes:
        """Where a request comes in the file's order: a hash that the seed decides."""
        return hashlib.blake2b(request, digest_size=8, key=self._seed).digest()


@beam.typehints.with_input_types(int)
@beam.typehints.with_output_types(str)
class WriteRecords(beam.DoFn):
    """Writes the TFRecord files of one shard, holding the vocabularies and one user at a time.

    Args:
        layout: where everything is read from.
        folders: where the job writes.
        boundaries: Unix microseconds at which validation and test begin.
    """

    def __init__(self, layout: Layout, folders: Folders, boundaries: tuple[float, float]):
        self._layout = layout
        self._folders = folders
        self._boundaries = boundaries

    def process(self, shard: int) -> Iterator[str]:
        """Emits the name of the shard."""
        layout, config = self._layout, self._layout.config
        self._items = load_items(self._folders.items) if config.items else {}
        codec = load_codec(layout.schema.to_json(), self._folders.output, self._folders.work)
        self._encoder = Encoder(layout, self._items, codec)
        self._built = [
            name for name, found in layout.schema.sequences.items() if found.separator is None
        ]
        self._sampler = self._make_sampler()
        self._warnings: Counter[str] = Counter()
        suffix = ".gz" if config.compression == "gzip" else ""
        part = f"part-{shard:05d}-of-{config.shards:05d}.tfrecord{suffix}"
        files = {
            split: SplitFile(f"{split}/{part}", self._folders, layout.schema, config)
            for split in layout.splits
        }
        for user in read_users(layout, self._folders, self._boundaries, shard):
            self._write(user, files)
        summary = {split: file.close() for split, file in files.items()}
        summary["warnings"] = dict(self._warnings)
        save_summary(self._folders.work / f"records-{shard:05d}.summary", summary)
        yield part

    def _make_sampler(self) -> NegativeSampler | None:
        config = self._layout.config
        if config.negatives is None:
            return None
        path = self._folders.work / "positives.summary"
        counts = marshal.loads(path.read_bytes()) if path.exists() else {}
        return NegativeSampler(config.negatives, list(self._items), counts, config.seed)

    def _write(self, user: User, files: dict[str, SplitFile]) -> None:
        past = user.past if user.id else []
        histories = {name: History(name, self._layout, past, self._items) for name in self._built}
        met = _Met(user.rows)
        pretraining = self._layout.config.histories and bool(user.id)
        present: set[str] = set()
        for request, split in zip(user.requests, user.splits):
            first = request.rows[0].shared
            if first and any(row.shared != first for row in request.rows):
                self._warnings[DIFFERS] += 1
            negatives = self._negatives(request, met)
            behaviours = {name: found.before(request.time) for name, found in histories.items()}
            encoded = self._encoder.encode(user.id, user.values, request, behaviours, negatives)
            names = [SPLITS[split]]
            if pretraining and split == VALIDATION and NEXT not in present:
                names.append(NEXT)
            for name in names:
                files[name].write(encoded, request, len(negatives))
            present.update(names)
        if pretraining:
            if TRAIN not in user.splits and user.past:
                self._warnings[UNTRAINED] += 1
            for request, behaviours in history_requests(
                self._layout, user, histories, self._boundaries[0]
            ):
                encoded = self._encoder.encode(user.id, user.values, request, behaviours, [])
                files[HISTORIES].write(encoded, request, 0)
                present.add(HISTORIES)
        for name in present if user.id else ():
            files[name].counts["users"] += 1
            if SPLITS[TRAIN] not in present:
                files[name].counts["users_without_training_rows"] += 1

    def _negatives(self, request: Request, met: "_Met") -> list[bytes]:
        config = self._layout.config.negatives
        if self._sampler is None:
            return []
        positives = sum(1.0 in row.labels for row in request.rows)
        wanted = positives * config.per_positive
        own = {row.item for row in request.rows}
        seen = met.before(request.time) if config.exclude_seen else ()
        drawn = self._sampler.sample(request.key, wanted, own, seen)
        if len(drawn) < wanted:
            self._warnings[UNPOPULAR if self._sampler.empty else SCARCE] += 1
        return drawn


class _Met:
    """The items of a user's rows before a time that never goes back."""

    def __init__(self, rows: list):
        self._rows = rows
        self._next = 0
        self._items: set[bytes] = set()

    def before(self, time: int) -> set[bytes]:
        while self._next < len(self._rows) and self._rows[self._next].time < time:
            self._items.add(self._rows[self._next].item)
            self._next += 1
        return self._items
