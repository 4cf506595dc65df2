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
from tensorflow.python.framework.config import is_op_determinism_enabled

from ctr_tf.data.config import InputConfig
from ctr_tf.data.manifest import HISTORIES, Manifest, ManifestError, RecordFile
from ctr_tf.data.parsing import Parser
from ctr_tf.data.preprocess import Preprocessor
from ctr_tf.data.records import CorruptRecordError, RecordWriter, read_records
from ctr_tf.data.requests import BLOCK, Codec, Request, read_requests, unpack
from ctr_tf.schema import CANDIDATES_MASK, MISSING_INT, REQUEST_TIME, Schema


class Input:
    """Batches of a prepared folder.

    The order of an epoch is a function of the seed, the epoch, the config and TensorFlow's global
    seed, which `train` sets, so that training resumes on the next batch: `training(epoch, skip)`.

    Records, of many requests each, come in a shuffled order; a pool of requests, some windows, is
    permuted; a window is cut into batches; a batch is parsed at once.

    Args:
        folder: what the preparation job wrote.
        schema: must have the folder's fingerprint.
        config: batch size, shuffling, what to do with a corrupt shard.
        seed: of the shuffling.
        training_split: the split that `training` reads, `histories` for pre-training on them.

    Attributes:
        preprocessor: from raw features to what the model reads.
        skipped: with `corrupt: skip`, unreadable records by file.

    Raises:
        ManifestError: no manifest, a missing file.
        ValueError: another schema's fingerprint.
        CorruptRecordError: a truncated or corrupt shard, with `corrupt: error`; names file and
            record.
    """

    def __init__(
        self,
        folder: Path,
        schema: Schema,
        config: InputConfig,
        seed: int = 17,
        training_split: str = "train",
    ):
        self.folder = Path(folder)
        self.schema = schema
        self.config = config
        self.seed = seed
        self.training_split = training_split
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
        records, count, whole = 0, 0, True
        try:
            for record in read_records(path):
                count += len(unpack(record))
                records += 1
        except CorruptRecordError:
            if self.config.corrupt == "error":
                raise
            whole = False
        if count != file.records:
            if self.config.corrupt == "error":
                raise CorruptRecordError(
                    f"{path}: record {records}: the file ends here, after {count} requests; the "
                    f"manifest says {file.records}"
                )
            self.skipped[file.name] = file.records - count
        self._readable[file.name] = count
        if not whole:
            self._paths[file.name] = self._readable_copy(path, records)

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
        """Requests that hold `batch_size` impressions on average; of histories `batch_size`."""
        found = self.manifest.split(split)
        if split == HISTORIES:
            return self.config.batch_size
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
        files = list(self.manifest.split(self.training_split).files)
        order.shuffle(files)
        records = self._records(files)
        seed = None
        if self.config.shuffle_buffer:
            blocks = math.ceil(self.config.shuffle_buffer / BLOCK)
            records = records.shuffle(blocks, order.getrandbits(31), reshuffle_each_iteration=False)
            seed = order.getrandbits(31)
        return self._parsed(self._batched(records, self.training_split, skip, seed), replica)

    def evaluation(self, split: str) -> tf.data.Dataset:
        """One pass over a split, in an order of its own, always the same.

        Raises:
            ManifestError: the split is empty.
        """
        records = self._records(self.manifest.split(split).files)
        return self._parsed(self._batched(records, split))

    def raw_requests(self, split: str, count: int) -> list[dict[str, np.ndarray]]:
        """The raw features of the first `count` requests of a split, B = 1 each.

        Raises:
            ManifestError: the split is empty.
        """
        codec = Codec(self.schema, self.folder)
        requests = itertools.chain.from_iterable(
            read_requests(self._paths[file.name], codec)
            for file in self.manifest.split(split).files
        )
        return [_arrays(self.schema, request) for request in itertools.islice(requests, count)]

    def _records(self, files: list[RecordFile]) -> tf.data.Dataset:
        def read(name: tf.Tensor) -> tf.data.Dataset:
            gzipped = tf.strings.regex_full_match(name, r".*\.gz")
            return tf.data.TFRecordDataset(name, tf.where(gzipped, "GZIP", ""))

        names = [str(self._paths[file.name]) for file in files]
        return tf.data.Dataset.from_tensor_slices(names).interleave(
            read, cycle_length=8, num_parallel_calls=_parallel(2)
        )

    def _batched(
        self, records: tf.data.Dataset, split: str, skip: int = 0, seed: int | None = None
    ) -> tf.data.Dataset:
        """Batches of requests: pools are permuted by the seed, their windows sorted and cut."""
        keys = ["candidates", *(f"lengths/{name}" for name in self.schema.sequences)]
        spec = {"requests": tf.io.RaggedFeature(tf.string)}
        spec |= {key: tf.io.RaggedFeature(tf.int64) for key in keys}
        per_batch = self.requests_per_batch(split)
        window, windows = per_batch * self.config.window, 1
        if seed is not None:
            windows = math.ceil(self.config.shuffle_buffer / window)

        def unpacked(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found = tf.io.parse_single_example(record, spec)
            sizes = [found[key] for key in keys]
            if split == HISTORIES:  # a record is one, whatever candidates it repeats
                sizes[0] = tf.ones_like(sizes[0])
            return found["requests"], tf.stack(sizes, axis=1)

        def divided(number: tf.Tensor, pool: tuple[tf.Tensor, tf.Tensor]) -> tf.data.Dataset:
            requests, sizes = pool
            order = tf.range(tf.size(requests))
            if seed is not None:
                order = tf.random.experimental.stateless_shuffle(order, tf.stack([seed, number]))
            return tf.data.Dataset.range(0, tf.size(requests, tf.int64), window).map(
                lambda start: (requests, sizes, order[start : start + window])
            )

        def cut(requests: tf.Tensor, sizes: tf.Tensor, order: tf.Tensor) -> tf.data.Dataset:
            count = tf.cast(tf.math.ceil(tf.size(order) / per_batch), tf.int64)
            batches = tf.data.Dataset.from_tensor_slices(
                self._cut(order, tf.gather(sizes, order), count)
            )
            if seed is not None:
                batches = batches.shuffle(self.config.window, seed, reshuffle_each_iteration=False)
            return batches.map(lambda rows: tf.gather(requests, rows))

        pools, batches = divmod(skip, windows * self.config.window)
        found = records.map(unpacked).rebatch(windows * window).enumerate().skip(pools)
        return found.prefetch(1).flat_map(divided).flat_map(cut).skip(batches)

    def _cut(self, rows: tf.Tensor, sizes: tf.Tensor, count: tf.Tensor) -> tf.RaggedTensor:
        """Sorts rows (R,) by sizes (R, S) and cuts them to `count` shares of equal impressions."""
        order = tf.range(tf.size(rows))
        # Stable sorts, the least significant size first; a window of one batch keeps its order.
        for size in reversed(tf.unstack(sizes, 1 + len(self.schema.sequences), axis=1)):
            if self.config.window > 1:
                order = tf.gather(order, tf.argsort(tf.gather(size, order), stable=True))
        before = tf.cumsum(tf.gather(sizes[:, 0], order))
        shares = tf.range(1, count)
        wanted = tf.searchsorted(before, shares * before[-1] // count, out_type=tf.int64)
        # Every batch holds a request, also where one request is larger than a share.
        ahead = tf.where(
            shares[:, None] >= shares[None, :], (wanted - shares)[None, :], -before[-1] - count
        )
        wanted = tf.reduce_max(ahead, axis=1) + shares if count > 1 else wanted
        total = tf.size(rows, tf.int64)
        wanted = tf.clip_by_value(wanted, shares, total - count + shares)
        splits = tf.concat([[0], wanted, [total]], axis=0)
        return tf.RaggedTensor.from_row_splits(tf.gather(rows, order), splits)

    def _parsed(
        self, requests: tf.data.Dataset, replica: tuple[int, int] = (0, 1)
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

        parallel = _parallel(self.config.parallel)
        return requests.map(parse, parallel).prefetch(self.config.prefetch)


def _parallel(calls: int) -> int | None:
    """Calls at once; none where operations are to be deterministic, which tf.data would refuse.

    The order of a dataset is that of its input in any case.
    """
    return None if is_op_determinism_enabled() else calls


def _arrays(schema: Schema, request: Request) -> dict[str, np.ndarray]:
    """The raw features of one request by the names and axes of `Schema.inputs`, B = 1."""
    features, found = request["features"], {}
    for spec in schema.inputs:
        if spec.name == CANDIDATES_MASK:
            value = np.ones(len(next(iter(request["labels"].values()))), bool)
        elif spec.dtype == "bool":
            first = next(iter(schema.sequences[spec.sequence].attributes))
            value = np.ones(len(features[f"{spec.sequence}_{first}"]), bool)
        elif spec.name == REQUEST_TIME:
            value = np.array(request["time"])
        else:
            value = features[spec.name]
            padding = {"int64": MISSING_INT, "string": b""}.get(spec.dtype, 0.0)
            if "M" in spec.axes:
                rows = value if len(spec.axes) == 3 else [value]
                width = max(map(len, rows), default=0)
                value = [[*row, *[padding] * (width - len(row))] for row in rows]
                value = value if len(spec.axes) == 3 else value[0]
            value = np.array(value, object if spec.dtype == "string" else spec.dtype)
            if len(spec.axes) == 3 and value.ndim == 1:
                value = value.reshape(0, 0)
        found[spec.name] = value[None]
    return found
