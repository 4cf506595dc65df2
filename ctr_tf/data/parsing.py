"""Serialised requests to padded tensors."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ctr_tf.data.preprocess import Preprocessor
from ctr_tf.schema import CANDIDATES_MASK, REQUEST_TIME, InputSpec, Schema
from ctr_tf.schema.features import MISSING_INT

_DTYPES = {"int64": tf.int64, "string": tf.string, "float32": tf.float32}
_PADDING = {"int64": MISSING_INT, "string": "", "float32": 0.0}


class Parser:
    """Parses a batch of serialised requests (see `ctr_tf.data.records`).

    Args:
        schema: what the records hold.
        preprocessor: what makes indices of ids and so on; none leaves the features raw. It sees
            values end to end, before they are padded.

    Returns of a call:
        `features`: tensors by the names and axes of `Schema.inputs`, padded to the batch;
        `labels` and `weights`: (B, N) by task, 0 where padded; `ids`: `request`, `user`
        (B,) strings, `time` (B,) int64, `items` (B, N) strings, empty where the log has none.
    """

    def __init__(self, schema: Schema, preprocessor: Preprocessor | None = None):
        self.schema = schema
        self.preprocessor = preprocessor
        self.stored = [
            spec for spec in schema.inputs if spec.dtype != "bool" and spec.name != REQUEST_TIME
        ]
        self.spec: dict[str, Any] = {
            "request/candidates": tf.io.FixedLenFeature((), tf.int64),
            "request/id": tf.io.FixedLenFeature((), tf.string),
            "request/user": tf.io.FixedLenFeature((), tf.string, ""),
            "request/time": tf.io.FixedLenFeature((), tf.int64, 0),
            "request/items": tf.io.RaggedFeature(tf.string),
        }
        for name in schema.sequences:
            self.spec[f"features/{name}/length"] = tf.io.FixedLenFeature((), tf.int64)
        for task in schema.tasks:
            self.spec[f"labels/{task}"] = tf.io.RaggedFeature(tf.float32)
            self.spec[f"weights/{task}"] = tf.io.RaggedFeature(tf.float32)
        for spec in self.stored:
            self.spec[f"features/{spec.name}"] = _parse_spec(spec)

    def __call__(self, records: tf.Tensor) -> dict[str, dict[str, tf.Tensor]]:
        """Parses records (B,) strings."""
        parsed = tf.io.parse_example(records, self.spec)
        mask = tf.sequence_mask(parsed["request/candidates"])
        features = {CANDIDATES_MASK: mask}
        for name, sequence in self.schema.sequences.items():
            features[f"{name}_mask"] = tf.sequence_mask(parsed[f"features/{name}/length"])
            if sequence.timestamps:
                features[REQUEST_TIME] = parsed["request/time"]
        for spec in self.stored:
            features[spec.name] = self._padded(spec, parsed[f"features/{spec.name}"])
        if self.preprocessor:
            features = {
                name: self.preprocessor.filled(name, value) for name, value in features.items()
            }
        per_candidate = {
            kind: {task: parsed[f"{kind}/{task}"].to_tensor() for task in self.schema.tasks}
            for kind in ("labels", "weights")
        }
        ids = {
            "request": parsed["request/id"],
            "user": parsed["request/user"],
            "time": parsed["request/time"],
            "items": parsed["request/items"].to_tensor(""),
        }
        return {"features": features, **per_candidate, "ids": ids}

    def _padded(self, spec: InputSpec, value: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        preprocessor = self.preprocessor
        if not isinstance(value, tf.RaggedTensor):
            return preprocessor.values(spec, value) if preprocessor else value
        if preprocessor:
            flat = preprocessor.values(spec, value.flat_values)
            return value.with_flat_values(flat).to_tensor(0)
        return value.to_tensor(_PADDING[spec.dtype] if spec.feature else 0)


def _parse_spec(spec: InputSpec) -> Any:
    dtype, key = _DTYPES[spec.dtype], f"features/{spec.name}"
    if spec.axes == ("B",):
        return tf.io.FixedLenFeature((), dtype)
    if len(spec.axes) == 2:
        return tf.io.RaggedFeature(dtype, value_key=key)
    lengths = tf.io.RaggedFeature.RowLengths(f"{key}/lengths")
    return tf.io.RaggedFeature(dtype, value_key=key, partitions=[lengths])
