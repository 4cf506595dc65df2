"""The steps from a catalogue to a table of items."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from ctr_tf.data.item_table import ItemTableManifest, read_shard, write_shard
from ctr_tf.data.raw_inputs import request_inputs
from ctr_tf.export.item_encoder import ITEM_ENCODER, ITEM_VECTORS
from ctr_tf.export.loading import load_saved_model
from ctr_tf.schema import CANDIDATES_MASK, Schema

REJECTS = "rejects"
SUMMARIES = "summaries"
BATCH_ITEMS = 512


@dataclass(frozen=True)
class Item:
    """A line of the catalogue on its way to the table.

    Args:
        shard: where it goes, by its key.
        line: where it stands in the catalogue, from 1.
        key: of the item; the line's text where it is rejected.
        features: plain values by input name.
        fingerprint: of the features.
        state: against the previous table.
        vector: once it is known.
        reject: why it is left out; empty for an item.
    """

    shard: int
    line: int
    key: str
    features: dict[str, Any] | None = None
    fingerprint: str = ""
    state: Literal["new", "changed", "reused"] = "new"
    vector: np.ndarray | None = None
    reject: str = ""

    @property
    def open(self) -> bool:
        """Whether it is still to be encoded."""
        return self.vector is None and not self.reject


class ReadItems(beam.DoFn):
    """Gives the items of a catalogue by shard, and what is no item as a reject.

    Args:
        schema: whose candidate features an item has.
        shards: of the table.
    """

    def __init__(self, schema: Schema, shards: int):
        self._schema = schema
        self._names = list(schema.side("candidate"))
        self._shards = shards

    def process(self, path: str) -> Iterator[tuple[int, Item]]:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                item = self._item(number, line.strip())
                yield item.shard, item

    def _item(self, number: int, line: str) -> Item:
        try:
            found = json.loads(line)
            key = found["item_id"]
            if not isinstance(key, str) or not key or "\n" in key or "\r" in key:
                raise ValueError("item_id must be a text of one line")
            features = {name: found["features"][name] for name in self._names}
            # So that one item's values are not an error of a whole batch.
            request_inputs(self._schema, {n: [x] for n, x in features.items()}, only=self._names)
        except KeyError as error:
            return Item(0, number, line, reject=f"missing {error.args[0]}")
        except (TypeError, ValueError) as error:
            # Which input it is and what is wrong; the value is in the line.
            return Item(0, number, line, reject=": ".join(str(error).split(": ")[:2]))
        digits = hashlib.sha256(json.dumps(features, sort_keys=True).encode()).hexdigest()
        shard = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % self._shards
        return Item(shard, number, key, features, digits[:32])


class TakeOver(beam.DoFn):
    """Gives the items of a shard, with the vectors of those that did not change.

    Args:
        previous: folder of a table of the same encoder and number of shards; None for none.
    """

    def __init__(self, previous: str | None):
        self._previous = previous

    def process(self, element: tuple[int, Iterable[Item]]) -> Iterator[Item]:
        shard, items = element
        known = self._known(shard)
        seen: set[str] = set()
        for item in sorted(items, key=lambda item: item.line):
            if item.reject:
                yield item
            elif item.key in seen:
                yield replace(item, reject="duplicate item_id")
            elif item.key in known:
                fingerprint, vector = known[item.key]
                same = fingerprint == item.fingerprint
                state, own = ("reused", vector) if same else ("changed", None)
                yield replace(item, state=state, vector=own)
            else:
                yield item
            if not item.reject:
                seen.add(item.key)

    def _known(self, shard: int) -> dict[str, tuple[str, np.ndarray]]:
        if self._previous is None:
            return {}
        folder = Path(self._previous)
        own = ItemTableManifest.read(folder).shards[shard]
        keys, fingerprints, vectors = read_shard(folder / own.name, own)
        return dict(zip(keys, zip(fingerprints, vectors)))


class ItemEncoder(ModelHandler[Item, Item, Any]):
    """An export's item encoder for Beam's RunInference; what is not open passes.

    Args:
        export: the version's folder.
        schema: of the export.
    """

    def __init__(self, export: str, schema: Schema):
        super().__init__(max_batch_size=BATCH_ITEMS)
        self._export = export
        self._schema = schema
        self._names = list(schema.side("candidate"))

    def load_model(self) -> Any:
        return load_saved_model(Path(self._export), self._schema)

    def run_inference(
        self, batch: Sequence[Item], model: Any, inference_args: dict | None = None
    ) -> Iterable[Item]:
        import tensorflow as tf

        found = [item for item in batch if item.open]
        vectors: Iterator[np.ndarray] = iter(())
        if found:
            values = {name: [item.features[name] for item in found] for name in self._names}
            inputs = request_inputs(self._schema, values, only=[*self._names, CANDIDATES_MASK])
            tensors = {name: tf.constant(value) for name, value in inputs.items()}
            vectors = iter(model.signatures[ITEM_ENCODER](**tensors)[ITEM_VECTORS].numpy()[0])
        return [_encoded(item, next(vectors)) if item.open else item for item in batch]


def _encoded(item: Item, vector: np.ndarray) -> Item:
    if not np.isfinite(vector).all():
        return replace(item, reject="its vector is not finite: a number is missing or too large")
    return replace(item, vector=vector)


class WriteTable(beam.DoFn):
    """Writes a shard, the rejects that went with it, and a summary of both.

    Args:
        folder: of the table to be.
        width: of a vector.
    """

    def __init__(self, folder: str, width: int):
        self._folder = Path(folder)
        self._width = width

    def process(self, element: tuple[int, Iterable[Item]]) -> Iterator[int]:
        shard, every = element
        every = list(every)
        items = sorted((item for item in every if not item.reject), key=lambda item: item.key)
        rejects = sorted((item for item in every if item.reject), key=lambda item: item.line)
        vectors = np.empty((len(items), self._width), "float32")
        for row, item in enumerate(items):
            vectors[row] = item.vector
        path = self._folder / shard_name(shard)
        keys, fingerprints = [i.key for i in items], [i.fingerprint for i in items]
        written = write_shard(path, keys, fingerprints, vectors)
        if rejects:
            said = [{"line": i.line, "reason": i.reject, "content": i.key} for i in rejects]
            text = "".join(f"{json.dumps(each)}\n" for each in said)
            (self._folder / f"{REJECTS}-{shard:05d}.jsonl").write_text(text, encoding="utf-8")
        summary = {
            "shard": written.model_dump(),
            "counts": Counter(item.state for item in items),
            "rejects": Counter(item.reject for item in rejects),
        }
        (self._folder / SUMMARIES / f"{shard}.json").write_text(json.dumps(summary))
        yield shard


def shard_name(shard: int) -> str:
    """The name of a table's file."""
    return f"items-{shard:05d}.parquet"
