"""Prepared TFRecords to batches, in an order that can be taken up anywhere."""

from __future__ import annotations

import itertools
import math
import random
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from ctr_tf.data.config import InputConfig
from ctr_tf.data.manifest import Manifest, ManifestError, RecordFile
from ctr_tf.data.parsing import Parser
from ctr_tf.data.preprocess import Preprocessor
from ctr_tf.data.records import CorruptRecordError, RecordWriter, read_records
from ctr_tf.schema import CANDIDATES_MASK, Schema


class Input:
    """Batches of a prepared folder.

    The order of an epoch is a function of the seed, the epoch, the config and TensorFlow's global
    seed, which `train` sets, so that training resumes on the next record: `training(epoch, skip)`.

    Args:
        folder: what the preparation job wrote.
        schema: must have the folder's fingerprint.
        config: batch size, shuffling, what to do with a corrupt shard.
        seed: of the shuffling.

    Attributes:
        preprocessor: from raw features to what the model reads.
        skipped: with `corrupt: skip`, unreadable records by file.

    Raises:
        ManifestError: no manifest, a missing file.
        ValueError: another schema's fingerprint.
        CorruptRecordError: a truncated or corrupt shard, with `corrupt: error`; names file and
            record.
    """

    def __init__(self, folder: Path, schema: Schema, config: InputConfig, seed: int = 17):
        self.folder = Path(folder)
        self.schema = schema
        self.config = config
        self.seed = seed
        self.manifest = Manifest.read(self.folder, schema, check_files=False)
        self.preprocessor = Preprocessor(schema, self.folder)
        self.parser = Parser(schema, self.preprocessor)
        self.skipped: dict[str, int] = {}
        self._readable: dict[str, int] = {}
        self._paths: dict[str, Path] = {}
        for split in self.manifest.splits.values():
            for file in split.files:
                self._check(file)

    def _check(self, file: RecordFile) -> None:
        path = self._paths[file.name] = self.folder / file.name
        if not path.exists():
            raise ManifestError(f"{path}: listed in the manifest but missing")
        if self.config.corrupt == "error" and path.stat().st_size == file.size:
            self._readable[file.name] = file.records
            return
        # A wrong size is looked into, so that the error names the record; with `skip` every
        # shard is read once, since a flipped byte does not show in the size.
        count, whole = 0, True
        try:
            for _ in read_records(path):
                count += 1
        except CorruptRecordError:
            if self.config.corrupt == "error":
                raise
            whole = False
        if count != file.records:
            if self.config.corrupt == "error":
                raise CorruptRecordError(
                    f"{path}: record {count}: the file ends here, the manifest says "
                    f"{file.records} records"
                )
            self.skipped[file.name] = file.records - count
        self._readable[file.name] = count
        if not whole:
            self._paths[file.name] = self._readable_copy(path, count)

    def _readable_copy(self, path: Path, count: int) -> Path:
        """A plain file of the first `count` records, for TensorFlow: it reads ahead, and a gzipped
        file fails with the first byte that does not inflate."""
        folder = Path(tempfile.mkdtemp(prefix="ctr_tf-"))
        weakref.finalize(self, shutil.rmtree, folder, True)
        copy = folder / "records"
        with RecordWriter(copy, "none") as writer:
            for record in itertools.islice(read_records(path), count):
                writer.write(record)
        return copy

    @contextmanager
    def naming_corruption(self, *splits: str) -> Iterator[None]:
        """Turns tf.data's error on a corrupt record into one that says where it is.

        Raises:
            CorruptRecordError: names file and record.
        """
        try:
            yield
        except tf.errors.DataLossError:
            for split in splits:
                for file in self.manifest.splits[split].files:
                    for _ in read_records(self.folder / file.name):
                        pass
            raise

    def requests(self, split: str) -> int:
        """Readable requests of a split.

        Raises:
            ManifestError: the split is empty.
        """
        return sum(self._readable[file.name] for file in self.manifest.split(split).files)

    def requests_per_batch(self, split: str) -> int:
        """Requests that hold `batch_size` impressions on average."""
        found = self.manifest.split(split)
        return max(1, round(self.config.batch_size * found.requests / found.candidates))

    def batches(self, split: str) -> int:
        """Batches of one pass over a split."""
        window = self.requests_per_batch(split) * self.config.window
        full, rest = divmod(self.requests(split), window)
        return full * self.config.window + math.ceil(rest / self.requests_per_batch(split))

    def training(
        self, epoch: int, skip: int = 0, replica: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """One epoch of the training split.

        Args:
            epoch: which one, from 0; each has its own order.
            skip: batches already seen; their records are not parsed.
            replica: (index, count): this replica's share of every batch.

        Raises:
            ManifestError: the split is empty.
        """
        order = random.Random(f"{self.seed}/{epoch}")
        files = list(self.manifest.split("train").files)
        order.shuffle(files)
        records = self._records(files)
        if self.config.shuffle_buffer:
            records = records.shuffle(
                self.config.shuffle_buffer, order.getrandbits(31), reshuffle_each_iteration=False
            )
        windows, batches = divmod(skip, self.config.window)
        records = records.skip(windows * self.requests_per_batch("train") * self.config.window)
        records = self._batched(records, "train", order.getrandbits(31)).skip(batches)
        return self._parsed(records, replica)

    def evaluation(self, split: str) -> tf.data.Dataset:
        """One pass over a split, in an order of its own, always the same.

        Raises:
            ManifestError: the split is empty.
        """
        records = self._records(self.manifest.split(split).files)
        return self._parsed(self._batched(records, split, None))

    def raw_requests(self, split: str, count: int) -> list[dict[str, np.ndarray]]:
        """The raw features of the first `count` requests of a split, B = 1 each.

        Raises:
            ManifestError: the split is empty.
        """
        records = self._records(self.manifest.split(split).files).batch(1).take(count)
        return [
            {name: value.numpy() for name, value in parsed["features"].items()}
            for parsed in records.map(Parser(self.schema))
        ]

    def _records(self, files: list[RecordFile]) -> tf.data.Dataset:
        def read(name: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
            gzipped = tf.strings.regex_full_match(name, r".*\.gz")
            kind = tf.where(gzipped, "GZIP", "")
            return tf.data.TFRecordDataset(name, kind).take(count)

        names = [str(self._paths[file.name]) for file in files]
        counts = [self._readable[file.name] for file in files]
        counts = tf.constant(counts, tf.int64)
        return tf.data.Dataset.from_tensor_slices((names, counts)).interleave(
            read, cycle_length=8, block_length=16, num_parallel_calls=2, deterministic=True
        )

    def _batched(self, records: tf.data.Dataset, split: str, seed: int | None) -> tf.data.Dataset:
        """Batches of records: windows of `window` batches, each cut by size."""
        per_batch, window = self.requests_per_batch(split), self.config.window
        if window == 1:
            return records.batch(per_batch)

        def cut(batch: tf.Tensor) -> tf.data.Dataset:
            count = tf.cast(tf.math.ceil(tf.size(batch) / per_batch), tf.int64)
            batches = tf.data.Dataset.from_tensor_slices(self._cut(batch, count))
            return (
                batches
                if seed is None
                else batches.shuffle(window, seed, reshuffle_each_iteration=False)
            )

        return records.batch(per_batch * window).flat_map(cut)

    def _cut(self, records: tf.Tensor, count: tf.Tensor) -> tf.RaggedTensor:
        """Sorts records (R,) by size and cuts them into `count` shares of equal impressions."""
        keys = ["request/candidates", *(f"features/{s}/length" for s in self.schema.sequences)]
        sizes = tf.io.parse_example(records, {k: tf.io.FixedLenFeature((), tf.int64) for k in keys})
        order = tf.range(tf.size(records))
        # Stable sorts, the least significant key first.
        for key in reversed(keys):
            order = tf.gather(order, tf.argsort(tf.gather(sizes[key], order), stable=True))
        before = tf.cumsum(tf.gather(sizes["request/candidates"], order))
        shares = tf.range(1, count)
        wanted = tf.searchsorted(before, shares * before[-1] // count, out_type=tf.int64)
        # Every batch holds a request, also where one request is larger than a share.
        ahead = tf.where(
            shares[:, None] >= shares[None, :], (wanted - shares)[None, :], -before[-1] - count
        )
        wanted = tf.reduce_max(ahead, axis=1) + shares if count > 1 else wanted
        total = tf.size(records, tf.int64)
        wanted = tf.clip_by_value(wanted, shares, total - count + shares)
        splits = tf.concat([[0], wanted, [total]], axis=0)
        return tf.RaggedTensor.from_row_splits(tf.gather(records, order), splits)

    def _parsed(
        self, records: tf.data.Dataset, replica: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        index, count = replica

        def parse(batch: tf.Tensor) -> dict:
            share = batch[index::count]
            empty = tf.size(share) == 0
            parsed = self.parser(batch[:1] if empty else share)
            features = parsed["features"]
            if count > 1:
                # A replica without a request steps with the others, on one that counts nothing.
                features[CANDIDATES_MASK] &= ~empty
                keep = tf.where(empty, 0.0, 1.0)
                parsed["weights"] = {t: w * keep for t, w in parsed["weights"].items()}
            return parsed

        parallel = self.config.parallel
        return records.map(parse, parallel, deterministic=True).prefetch(self.config.prefetch)
