"""Raw features to what a model reads: lookup, hashing and normalisation, as graph operations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from ctr_tf.data.requests import feature_of
from ctr_tf.data.vocabularies import Vocabularies
from ctr_tf.schema import Categorical, InputSpec, Numeric, Schema, Text, Vector
from ctr_tf.schema.features import MISSING_INT
from ctr_tf.schema.text import DELIMITERS


class Preprocessor(tf.Module):
    """Ids and strings to row indices, numbers to normalised numbers; the same graph in training
    and in serving.

    Index 0 is a missing value or padding. An axis of behaviours or values of length 0 becomes one
    of padding, so that no layer meets an empty axis.

    Args:
        schema: features and sequences.
        folder: prepared data, with vocabularies and statistics.

    Shapes:
        raw: tensors by the names and axes of `Schema.inputs`, any subset of them; returns the same
        names and axes, text with one more axis, its words.
    """

    def __init__(self, schema: Schema, folder: Path):
        super().__init__(name="preprocessor")
        self.schema = schema
        vocabularies = Vocabularies(schema, folder)
        self.rows = vocabularies.rows
        self.vectors = vocabularies.vectors
        self.statistics = vocabularies.statistics
        self.specs = {spec.name: spec for spec in schema.inputs}
        self.tables = {}
        self.sizes = vocabularies.sizes
        for name, size in vocabularies.sizes.items():
            if size:
                initializer = tf.lookup.TextFileInitializer(
                    str(vocabularies.path(name)),
                    tf.string,
                    tf.lookup.TextFileIndex.WHOLE_LINE,
                    tf.int64,
                    tf.lookup.TextFileIndex.LINE_NUMBER,
                )
                self.tables[name] = tf.lookup.StaticHashTable(initializer, -1)
        for name, table in vocabularies.tables.items():
            initializer = tf.lookup.KeyValueTensorInitializer(
                tf.constant(table.ids), tf.range(1, len(table.ids) + 1, dtype=tf.int64)
            )
            self.tables[name] = tf.lookup.StaticHashTable(initializer, 0)

    def __call__(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Preprocesses whatever of the schema's inputs `raw` holds."""
        return {
            name: self.filled(name, self.values(self.specs[name], value))
            for name, value in raw.items()
        }

    def filled(self, name: str, value: tf.Tensor) -> tf.Tensor:
        """A preprocessed input with behaviour and value axes of 1 at least."""
        spec = self.specs[name]
        words = spec.feature is not None and isinstance(feature_of(self.schema, spec), Text)
        return value if words else _fill(value, spec)

    def values(self, spec: InputSpec, value: tf.Tensor) -> tf.Tensor:
        """Preprocesses values of one input, of any shape; text gets one more axis, its words."""
        if spec.feature is None:
            return value
        feature = feature_of(self.schema, spec)
        encoder = self.schema.encoder(spec.feature, spec.sequence)
        if isinstance(feature, Numeric):
            return self._number(encoder, feature, value)
        if isinstance(feature, Text):
            return self._text(encoder, feature, value)
        strings = tf.strings.as_string(value) if value.dtype == tf.int64 else value
        if isinstance(feature, Vector):
            return tf.cast(self.tables[encoder].lookup(strings), tf.int32)
        missing = value == MISSING_INT if value.dtype == tf.int64 else value == ""
        owner = self.schema.encoders[encoder]
        if owner.encoding == "identity":
            index = self._identity(owner, value)
        else:
            index = self._lookup(encoder, owner, strings)
        return tf.where(missing, 0, tf.cast(index, tf.int32))

    def _lookup(self, encoder: str, feature: Categorical | Text, value: tf.Tensor) -> tf.Tensor:
        if encoder not in self.tables:
            # A vocabulary without a single training value has out-of-vocabulary rows alone.
            buckets = feature.size if feature.encoding == "hashed" else feature.oov
            return 1 + tf.strings.to_hash_bucket_fast(value, buckets)
        found, unknown = self.tables[encoder].lookup(value), tf.constant(0, tf.int64)
        if feature.oov > 1:
            unknown = tf.strings.to_hash_bucket_fast(value, feature.oov)
        return 1 + tf.where(found < 0, self.sizes[encoder] + unknown, found)

    def _identity(self, feature: Categorical, value: tf.Tensor) -> tf.Tensor:
        known = (value >= 0) & (value < feature.size)
        hashed = tf.strings.to_hash_bucket_fast(tf.strings.as_string(value), feature.oov)
        return 1 + tf.where(known, value, feature.size + hashed)

    def _number(self, name: str, feature: Numeric, value: tf.Tensor) -> tf.Tensor:
        if feature.default is not None:
            value = tf.where(tf.math.is_nan(value), feature.default, value)
        if feature.normalise == "none":
            return value
        if feature.normalise == "log":
            value = tf.sign(value) * tf.math.log1p(tf.abs(value))
        found = self.statistics[name]
        if feature.normalise == "minmax":
            low, spread = found["minimum"], found["maximum"] - found["minimum"]
        else:
            low, spread = found["mean"], found["std"]
        # A constant feature says nothing; a divisor of 1 leaves it at 0.
        return (value - np.float32(low)) / np.float32(spread or 1.0)

    def _text(self, encoder: str, feature: Text, value: tf.Tensor) -> tf.Tensor:
        import tensorflow_text as tf_text  # Registers its ops; only text features need them.

        folded = tf_text.case_fold_utf8(tf.reshape(value, (-1,)))
        words = tf_text.regex_split(folded, delim_regex_pattern=DELIMITERS)
        words = tf.ragged.boolean_mask(words, words != "")[:, : feature.max_tokens]
        index = self._lookup(encoder, feature, words.flat_values)
        index = words.with_flat_values(tf.cast(index, tf.int32)).to_tensor()
        width = tf.maximum(tf.shape(index)[1], 1)
        index = tf.pad(index, [[0, 0], [0, width - tf.shape(index)[1]]])
        return tf.reshape(index, tf.concat([tf.shape(value), [width]], axis=0))


def _fill(value: tf.Tensor, spec: InputSpec) -> tf.Tensor:
    """Pads behaviour and value axes to at least 1."""
    if spec.axes[-1] in ("B", "N"):
        return value
    shape = tf.shape(value)
    pads = [
        [0, tf.maximum(1 - shape[i], 0) if axis in ("L", "M") else 0]
        for i, axis in enumerate(spec.axes)
    ]
    return tf.pad(value, pads)
