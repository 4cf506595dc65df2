"""Batch scores of a prepared split, written as prediction shards."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from rich.progress import track

from ctr_tf.data.input import Input
from ctr_tf.data.manifest import ITEM_FREQUENCY
from ctr_tf.evaluation.predictions import check_replaceable, write_shard
from ctr_tf.layers.compiled import compiling
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import CANDIDATES_MASK

ROWS_PER_SHARD = 1_000_000
# Compilation takes some seconds, and spares a third of the time of a batch of DIN.
COMPILED_FROM = 300


def predict(model: CTRModel, data: Input, split: str, folder: Path, progress: bool = True) -> Path:
    """Scores every candidate of a split.

    Args:
        model: with its trained weights.
        data: the prepared data.
        split: which split.
        folder: of the shards `predictions-00000-of-00001.parquet`; replaced whole, so that it has
            to be new, empty, or hold such shards alone.
        progress: whether a progress bar is shown.

    Returns:
        The folder.

    Raises:
        ManifestError: the split is empty.
        ValueError: the folder holds something else, or a score is not finite (names the request).
    """
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = f".{folder.name}."
    with tempfile.TemporaryDirectory(prefix=hidden, suffix=".partial", dir=folder.parent) as place:
        partial = Path(place) / "shards"
        partial.mkdir()
        _score(model, data, split, partial, progress)
        # Again: scoring takes long enough for other files to come.
        check_replaceable(folder)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder


def scored(
    model: CTRModel, batches: tf.data.Dataset, xla: bool = False
) -> Iterator[tuple[dict, dict[str, tf.Tensor]]]:
    """Batches with the scores of each task, in order, the next two on their way.

    Args:
        model: with its trained weights.
        batches: of `Input`.
        xla: whether layers that pass over many rows are compiled, which pays over many batches.
    """

    def scores(features: dict) -> dict[str, tf.Tensor]:
        with compiling(xla):
            return model.scores(model(features))

    # One trace for batches of all sizes.
    score = tf.function(scores, input_signature=[batches.element_spec["features"]])
    ahead: deque[tuple[dict, Future]] = deque()
    # One batch does not keep every core busy.
    with ThreadPoolExecutor(2) as pool:
        for batch in batches:
            ahead.append((batch, pool.submit(score, batch["features"])))
            if len(ahead) > 2:
                batch, found = ahead.popleft()
                yield batch, found.result()
        for batch, found in ahead:
            yield batch, found.result()


def _score(model: CTRModel, data: Input, split: str, folder: Path, progress: bool) -> None:
    """Fills an empty folder with the shards."""
    count = data.batches(split)
    batches = scored(model, data.evaluation(split), xla=count >= COMPILED_FROM)
    if progress:
        batches = track(batches, f"scoring {split}", total=count)
    rows: list[dict[str, np.ndarray]] = []
    shards = 0
    for batch, scores in batches:
        rows.append(_columns(batch, scores, data))
        if sum(len(part["request_id"]) for part in rows) >= ROWS_PER_SHARD:
            _write(folder, shards, rows, data)
            shards, rows = shards + 1, []
    if rows:
        _write(folder, shards, rows, data)
        shards += 1
    for shard in range(shards):
        name = f"predictions-{shard:05d}-of-{shards:05d}.parquet"
        (folder / _name(shard)).rename(folder / name)


def _name(shard: int) -> str:
    return f"shard-{shard:05d}.parquet"


def _text(values: np.ndarray) -> np.ndarray:
    return np.array([value.decode("utf-8") for value in values], object)


def _columns(batch: dict, scores: dict[str, tf.Tensor], data: Input) -> dict[str, np.ndarray]:
    """One row for each valid candidate of a batch."""
    mask = batch["features"][CANDIDATES_MASK].numpy()
    request, _ = np.nonzero(mask)
    ids = {name: value.numpy() for name, value in batch["ids"].items()}
    found = {"request_id": _text(ids["request"][request])}
    keys = data.schema.keys
    if keys.user:
        found["user_id"] = _text(ids["user"][request])
    if keys.time:
        found["time"] = ids["time"][request]
    if keys.item:
        found["item_id"] = _text(ids["items"][mask])
    if data.schema.sequences:
        first = next(iter(data.schema.sequences))
        lengths = batch["features"][f"{first}_mask"].numpy().sum(axis=1)
        found["history_length"] = lengths[request].astype("int32")
    for task in data.schema.tasks:
        for kind in ("label", "weight"):
            found[f"{kind}.{task}"] = batch[f"{kind}s"][task].numpy()[mask]
        found[f"score.{task}"] = scores[task].numpy()[mask]
    return found


def _write(folder: Path, shard: int, parts: list[dict[str, np.ndarray]], data: Input) -> None:
    columns: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }
    for name in ("user_id", "item_id"):
        if name in columns:
            # An empty id is nobody's, not that of a user or an item of empty name.
            columns[name][columns[name] == ""] = None
    path = data.folder / ITEM_FREQUENCY
    if "item_id" in columns and path.exists():
        table = pq.read_table(path)
        items = pa.array(columns["item_id"], pa.string())
        index = pc.index_in(items, table["item_id"])
        known = pc.fill_null(pc.take(table["count"], index), 0)
        columns["item_frequency"] = pc.if_else(pc.is_valid(items), known, None)
    write_shard(folder / _name(shard), columns)
