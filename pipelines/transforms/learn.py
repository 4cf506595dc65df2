"""The second pipeline: vocabularies, statistics and item frequencies of the training rows.

    shards -> LearnShard -> (what, value), count -> GroupByKey -> MergeCounts -> what, (value, count)
           -> GroupByKey -> WriteLearned -> one file each

Every log row of training counts once, for the user's features, too; sampled negatives do not. Of a
log of behaviours each row counts once that a training request has in its sequence.
"""  # noqa: E501

from __future__ import annotations

import heapq
import marshal
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_tf.data.manifest import ITEM_FREQUENCY, VOCABULARIES
from ctr_tf.schema import MISSING_INT, Categorical, Numeric, Schema, Sequence, Text
from ctr_tf.schema.text import words
from pipelines.transforms.catalogue import load_items
from pipelines.transforms.ingest import Folders, save_summary
from pipelines.transforms.layout import Field, Layout
from pipelines.transforms.moments import Moments
from pipelines.transforms.rows import TRAIN, LogRow, Request
from pipelines.transforms.sequences import behaviours, newest
from pipelines.transforms.users import User, read_users

VOCABULARY, STATISTICS, FREQUENCY, POSITIVES = b"v", b"s", b"i", b"p"
MOST_HELD = 1_000_000
"""Distinct values that one shard counts before it hands them on."""

Element = tuple[bytes, bytes]


def is_learned(field: Field, layout: Layout) -> bool:
    """Whether the field's values teach its encoder something.

    Attributes of a sequence do where they have an encoder of their own: those like a feature
    use what its values taught. Where behaviours are a log of their own they do, too: what a user
    did there need not be among the candidates.
    """
    schema = layout.schema
    of_a_log = layout.config.behaviours is not None and field.separator is None
    if field.sequence is not None and not of_a_log:
        attribute = field.input.removeprefix(f"{field.sequence}_")
        own = schema.sequences[field.sequence].attributes[attribute].encoder
        if own is None or own.share is not None:
            return False
    owner = schema.encoders[field.encoder]
    if isinstance(owner, Numeric):
        return owner.normalise != "none"
    return isinstance(owner, (Categorical, Text)) and owner.encoding == "vocabulary"


class Counts:
    """Counts and moments of the training rows seen so far.

    Args:
        schema: the schema.
    """

    def __init__(self, schema: Schema):
        self._schema = schema
        self.values: defaultdict[bytes, Counter] = defaultdict(Counter)
        self.moments: dict[bytes, Moments] = {}

    def add(self, field: Field, value: object, rows: int = 1) -> None:
        """Counts a field's value for so many rows."""
        name = field.encoder.encode()
        if isinstance(field.feature, Numeric):
            normalise = self._schema.encoders[field.encoder].normalise
            self.moments.setdefault(name, Moments()).add(value, rows, normalise)
            return
        counter = self.values[VOCABULARY + name]
        for one in _atoms(field, value):
            counter[one] += rows

    def count(self, what: bytes, items: Iterable[bytes]) -> None:
        """Counts items."""
        self.values[what].update(items)

    def held(self) -> int:
        """Distinct values held."""
        return sum(map(len, self.values.values()))

    def drain(self) -> Iterator[tuple[bytes, bytes, int]]:
        """What was counted, its value and its count; forgets them."""
        for what, counter in self.values.items():
            for value, count in counter.items():
                yield what, value if isinstance(value, bytes) else b"%d" % value, count
        self.values.clear()


def _atoms(field: Field, value: object) -> Iterable[bytes | int]:
    elements = value if field.separator is not None else (value,)
    if isinstance(field.feature, Text):
        split = words(value.decode())[: field.feature.max_tokens]
        return [word.encode() for word in split]
    if field.feature.multi:
        elements = chain.from_iterable(elements)
    return [one for one in elements if one != b"" and one != MISSING_INT]


@beam.typehints.with_input_types(int)
@beam.typehints.with_output_types(Element)
class LearnShard(beam.DoFn):
    """Counts the values of one shard's training rows.

    Args:
        layout: where everything is read from.
        folders: where the job writes.
        boundaries: Unix microseconds at which validation and test begin.
    """

    def __init__(self, layout: Layout, folders: Folders, boundaries: tuple[float, float]):
        self._layout = layout
        self._folders = folders
        self._boundaries = boundaries

    def process(self, shard: int) -> Iterator[Element]:
        """Emits counts by value and, by shard, moments."""
        layout = self._layout
        learned: dict[str, list[tuple[int, Field]]] = {}
        for group, index, field in layout.fields():
            if is_learned(field, layout):
                behaviour = field.sequence is not None and field.separator is None
                learned.setdefault(f"past {group}" if behaviour else group, []).append(
                    (index, field)
                )
        items = load_items(self._folders.items) if layout.config.items else {}
        counts = Counts(layout.schema)
        for user in read_users(layout, self._folders, self._boundaries, shard):
            self._learn(user, learned, items, counts)
            if counts.held() > MOST_HELD:
                yield from self._drain(learned, items, counts)
        yield from self._drain(learned, items, counts)
        for name, moments in counts.moments.items():
            yield STATISTICS + name + b"\0", marshal.dumps((shard, moments.state()))

    def _learn(self, user: User, learned: dict, items: dict, counts: Counts) -> None:
        training = [request for request, split in zip(user.requests, user.splits) if split == TRAIN]
        total = sum(len(request.rows) for request in training)
        if not total:
            return
        for index, field in learned.get("user", ()):
            counts.add(field, user.values[index], total)
        for request in training:
            for index, field in learned.get("request", ()):
                counts.add(field, request.rows[0].shared[index], len(request.rows))
            for row in request.rows:
                for index, field in learned.get("candidate", ()):
                    counts.add(field, row.candidate[index])
        rows = [row for request in training for row in request.rows]
        counts.count(FREQUENCY, [row.item for row in rows if row.item])
        counts.count(POSITIVES, [row.item for row in rows if row.item and 1.0 in row.labels])
        for group in ("item", "event"):
            for index, field in learned.get(f"past {group}", ()):
                sequence = self._layout.schema.sequences[field.sequence]
                for row in self._seen(user, training, sequence):
                    counts.add(field, _event_value(row, group, index, items))

    def _seen(self, user: User, training: list[Request], sequence: Sequence) -> list[LogRow]:
        """The behaviours of training, each once."""
        if self._layout.config.behaviours:
            times = [request.time for request in training]
            return newest(user.past, times, sequence.max_length)
        rows = [row for request in training for row in request.rows]
        return behaviours(self._layout, sequence, rows)

    def _drain(self, learned: dict, items: dict, counts: Counts) -> Iterator[Element]:
        # An item's features count as often as the item: once here, not once a row.
        frequency = counts.values.get(FREQUENCY, {})
        for item in sorted(frequency):
            for index, field in learned.get("item", ()):
                counts.add(field, items[item][index], frequency[item])
        for what, value, count in counts.drain():
            yield what + b"\0" + value, marshal.dumps(count)


def _event_value(row: LogRow, group: str, index: int, items: dict) -> object:
    return items[row.item][index] if group == "item" else row.event[index]


@beam.typehints.with_input_types(tuple[bytes, Iterable[bytes]])
@beam.typehints.with_output_types(Element)
class MergeCounts(beam.DoFn):
    """Adds the shards' counts of one value; merges the shards' moments in the order of shards."""

    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[Element]:
        """Emits what was counted, with its value and count or its moments."""
        key, blobs = element
        what, _, value = key.partition(b"\0")
        parts = map(marshal.loads, blobs)
        if what.startswith(STATISTICS):
            merged = Moments.merge(state for _, state in sorted(parts))
            yield what, marshal.dumps(merged.summary())
        else:
            yield what, marshal.dumps((value, sum(parts)))


@beam.typehints.with_input_types(tuple[bytes, Iterable[bytes]])
@beam.typehints.with_output_types(str)
class WriteLearned(beam.DoFn):
    """Writes one vocabulary, the item frequencies, or one feature's statistics.

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
        what, name = key[:1], key[1:].decode()
        parts = map(marshal.loads, blobs)
        if what == VOCABULARY:
            encoder = self._layout.schema.encoders[name]
            write_vocabulary(self._folders.output / VOCABULARIES, name, encoder, parts)
        elif what == STATISTICS:
            save_summary(
                self._folders.work / "statistics.summary" / f"{name}.summary",
                {"encoder": name, "statistics": next(parts)},
            )
        elif what == POSITIVES:
            save_summary(self._folders.work / "positives.summary", dict(parts))
        elif self._layout.schema.keys.item:
            write_frequency(self._folders.output / ITEM_FREQUENCY, parts)
        yield key.decode()


def write_vocabulary(
    folder: Path, name: str, encoder: Categorical | Text, counts: Iterable[tuple[bytes, int]]
) -> None:
    """Writes `<name>.txt` and `<name>.counts`, most frequent first, then by value.

    Args:
        folder: where vocabularies are.
        name: of the encoder.
        encoder: says how many values are kept and how often one must occur.
        counts: values and their counts.
    """
    as_int = isinstance(encoder, Categorical) and encoder.dtype == "int"
    ranked = (
        (-count, int(value) if as_int else value)
        for value, count in counts
        if count >= encoder.min_count
    )
    kept = sorted(ranked) if encoder.size is None else heapq.nsmallest(encoder.size, ranked)
    with open(folder / f"{name}.txt", "wb") as values, open(folder / f"{name}.counts", "wb") as n:
        for count, value in kept:
            values.write((b"%d" % value if as_int else value) + b"\n")
            n.write(b"%d\n" % -count)


def write_frequency(path: Path, counts: Iterable[tuple[bytes, int]]) -> None:
    """Writes `item_id` and `count`, by id, as Parquet."""
    ranked = sorted(counts)
    table = pa.table(
        {
            "item_id": pa.array([item.decode() for item, _ in ranked], pa.string()),
            "count": pa.array([count for _, count in ranked], pa.int64()),
        }
    )
    pq.write_table(table, path)
