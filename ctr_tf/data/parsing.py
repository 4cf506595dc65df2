"""Serialised requests to padded tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ctr_tf.data.preprocess import Preprocessor
from ctr_tf.data.requests import Group, Layout
from ctr_tf.data.vocabularies import sizes_of
from ctr_tf.schema import CANDIDATES_MASK, REQUEST_TIME, InputSpec, Schema

_RAW = {"int64": tf.int64, "string": tf.string}


def _list(dtype: tf.DType) -> tf.io.RaggedFeature:
    return tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)


class Parser:
    """Parses a batch of serialised requests (see `ctr_tf.data.requests`).

    What a request holds side by side stays so until the end: a few operations serve all inputs of
    a group. Codes are rows of the embedding tables but for values outside the vocabulary, each of
    which is hashed once; the preprocessor gives the same rows from raw values.

    Args:
        schema: what the requests hold.
        preprocessor: of the vocabularies that the requests were written with.

    Returns of a call:
        `features`: what the preprocessor makes of the schema's inputs, padded to the batch;
        `labels` and `weights`: (B, N) by task, 0 where padded; `ids`: `request`, `user`
        (B,) strings, `time` (B,) int64, `items` (B, N) strings, empty where the log has none.
    """

    def __init__(self, schema: Schema, preprocessor: Preprocessor):
        self.schema = schema
        self.preprocessor = preprocessor
        self.layout = layout = Layout.of(schema)
        self.sizes: dict[str, tuple[int, int]] = {}
        for spec in schema.inputs:
            if spec.feature is not None:
                encoder = schema.encoder(spec.feature, spec.sequence)
                if encoder in preprocessor.rows:
                    owner = schema.encoders[encoder]
                    known = preprocessor.sizes.get(encoder, 0)
                    self.sizes[spec.name] = sizes_of(owner, known)
        groups = (layout.request, layout.candidates, *layout.sequences.values())
        self.spec: dict[str, Any] = {
            "id": tf.io.FixedLenFeature((), tf.string),
            "user": tf.io.FixedLenFeature((), tf.string, ""),
            "weights": _list(tf.float32),
        }
        if schema.keys.item:
            self.spec["items"] = _list(tf.string)
        for group in groups:
            if group.width:
                self.spec[group.key] = _list(tf.int64)
            for spec in group.multi:
                self.spec[f"values/{spec.name}"] = _list(tf.int64)
        for where, specs in layout.numbers.items():
            if specs:
                self.spec[f"numbers/{where}"] = _list(tf.float32)
        for spec in layout.raw:
            self.spec[f"raw/{spec.name}"] = _list(_RAW[spec.dtype])
        coded = [spec.name for group in groups for spec in (*group.multi, *group.single)]
        if any(self.sizes[name][1] > 1 for name in coded):
            self.spec["unknown"] = _list(tf.string)

    def __call__(self, records: tf.Tensor) -> dict[str, dict[str, tf.Tensor]]:
        """Parses requests (B,) strings."""
        return _Batch(self, tf.io.parse_example(records, self.spec)).parsed()


class _Batch:
    """The parsed lists of one batch."""

    def __init__(self, parser: Parser, lists: dict[str, Any]):
        self.schema, self.layout = parser.schema, parser.layout
        self.preprocessor, self.sizes = parser.preprocessor, parser.sizes
        self.lists = lists
        self.size = tf.size(lists["id"])
        if "unknown" in lists:
            found = lists["unknown"]
            hashes = tf.bitcast(tf.fingerprint(found.flat_values), tf.uint64)
            # One more, so that there is one to look at where none is unknown.
            self.hashes = tf.concat([hashes, tf.zeros([1], tf.uint64)], axis=0)
            self.unknown = found.row_splits[:-1]

    def parsed(self) -> dict[str, dict[str, tf.Tensor]]:
        layout, schema = self.layout, self.schema
        tasks, features = len(schema.tasks), {}
        own, splits = self.rows("candidates", layout.candidates.width)
        counts = splits[1:] - splits[:-1]
        features[CANDIDATES_MASK] = tf.sequence_mask(counts)
        time = tf.zeros([self.size], tf.int64)
        if layout.request.width:
            shared, _ = self.rows("request", layout.request.width)
            time = shared[:, 0] if layout.request.ahead else time
            features |= self.group(layout.request, shared, None)
        features |= self.group(layout.candidates, own, splits)
        for name, group in layout.sequences.items():
            behaviours, of = self.rows(group.key, group.width)
            lengths = of[1:] - of[:-1]
            features[f"{name}_mask"] = tf.sequence_mask(lengths)
            features |= self.group(group, behaviours, of)
            if group.ahead:
                features[REQUEST_TIME] = time
                seconds = tf.repeat(time, lengths) - behaviours[:, 0]
                features[f"{name}_time"] = _padded(seconds, of)
        for where, specs in layout.numbers.items():
            if specs:
                features |= self.numbers(where, specs, splits)
        for spec in layout.raw:
            value = self.preprocessor.values(spec, self.lists[f"raw/{spec.name}"].flat_values)
            features[spec.name] = _padded(value, splits) if "N" in spec.axes else value
        codes = _padded(own[:, :tasks], splits)
        weights = tf.cast(codes > 0, tf.float32)
        stated = self.lists["weights"]
        whole = tf.shape(codes, tf.int64)
        given = tf.reshape(stated.to_tensor(0.0, shape=tf.stack([-1, whole[1] * tasks])), whole)
        weights = tf.where(stated.row_lengths()[:, None, None] > 0, given, weights)
        labels = tf.cast(codes == 2, tf.float32)
        items = tf.fill([self.size, 0], "")
        if "items" in self.lists:
            items = self.lists["items"].to_tensor("")
        return {
            "features": {
                name: self.preprocessor.filled(name, value) for name, value in features.items()
            },
            "labels": dict(zip(schema.tasks, tf.unstack(labels, axis=2))),
            "weights": dict(zip(schema.tasks, tf.unstack(weights, axis=2))),
            "ids": {
                "request": self.lists["id"],
                "user": self.lists["user"],
                "time": time,
                "items": items,
            },
        }

    def rows(self, key: str, width: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The rows (R, width) of a list, and where those of each request begin (B + 1,)."""
        found = self.lists[key]
        return tf.reshape(found.flat_values, [-1, width]), found.row_splits // width

    def group(
        self, group: Group, rows: tf.Tensor, splits: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        """The categorical inputs of a group, a row a request where there are no splits."""
        found = {}
        owner = tf.range(self.size)
        if splits is not None:
            owner = tf.repeat(owner, splits[1:] - splits[:-1])
        for place, spec in enumerate(group.multi, start=group.ahead):
            lengths = rows[:, place]
            codes = self.lists[f"values/{spec.name}"].flat_values[:, None]
            index = self.indices([spec], codes, tf.repeat(owner, lengths))[:, 0]
            value = tf.RaggedTensor.from_row_lengths(index, lengths, validate=False)
            if splits is not None:
                value = tf.RaggedTensor.from_row_splits(value, splits, validate=False)
            found[spec.name] = value.to_tensor(0)
        if group.single:
            codes = rows[:, group.ahead + len(group.multi) :]
            index = self.indices(group.single, codes, owner)
            found |= _by_name(group.single, index, splits)
        return found

    def indices(
        self, specs: tuple[InputSpec, ...] | list[InputSpec], codes: tf.Tensor, owner: tf.Tensor
    ) -> tf.Tensor:
        """Codes (R, C) to the rows of the embedding tables; `owner` is each row's request."""
        known, buckets = np.array([self.sizes[spec.name] for spec in specs]).T
        if (buckets == 1).all():
            return tf.cast(tf.minimum(codes, 1 + known), tf.int32)
        place = codes - (1 + known)
        at = tf.maximum(place, 0) + tf.gather(self.unknown, owner)[:, None]
        hashed = tf.gather(self.hashes, at) % tf.constant(buckets, tf.uint64)
        return tf.cast(tf.where(place < 0, codes, 1 + known + tf.cast(hashed, tf.int64)), tf.int32)

    def numbers(
        self, where: str, specs: tuple[InputSpec, ...], splits: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        rows, _ = self.rows(f"numbers/{where}", len(specs))
        columns = [
            self.preprocessor.values(spec, column)
            for spec, column in zip(specs, tf.unstack(rows, axis=1))
        ]
        splits = splits if where == "candidates" else None
        return _by_name(specs, tf.stack(columns, axis=1), splits)


def _by_name(
    specs: tuple[InputSpec, ...], rows: tf.Tensor, splits: tf.Tensor | None
) -> dict[str, tf.Tensor]:
    """Each column (R, C) as a padded input."""
    whole = rows if splits is None else _padded(rows, splits)
    return dict(zip((spec.name for spec in specs), tf.unstack(whole, len(specs), axis=-1)))


def _padded(rows: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
    """Rows (R, ...) as (B, longest, ...), zeros behind each request's."""
    return tf.RaggedTensor.from_row_splits(rows, splits, validate=False).to_tensor()
