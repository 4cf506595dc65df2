"""From indices and normalised numbers to the embedded sides that bodies read."""

from __future__ import annotations

from collections.abc import Collection

import keras
import numpy as np
from keras import ops

from ctr_tf.layers.embedding.config import EmbeddingConfig
from ctr_tf.layers.embedding.tables import EmbeddingTables, TableSpec
from ctr_tf.layers.packing import Packing
from ctr_tf.layers.sequence.pooling import pool
from ctr_tf.models.widths import embedded_widths
from ctr_tf.schema import REQUEST_TIME, Categorical, Numeric, Schema, Text, Vector
from ctr_tf.types import Behaviours, CandidateSide, ContextSide, Fields, Tensor, UserSide


class Embedder(keras.layers.Layer):
    """Embeds the preprocessed features of a schema.

    A categorical feature is a row of its encoder's table, several values are pooled, text is its
    pooled words, a vector is a row of its cached table times a learned projection, a number is a
    field of width 1, or times a learned vector where `one_width` is set.

    Args:
        schema: features and sequences.
        rows: rows of each encoder's table (see `Vocabularies.rows`).
        config: widths, initialisers, regularisers.
        vectors: cached tables of vector features, (rows, width).
        views: extra embeddings of every feature: view name to width.
        one_width: whether numbers are multiplied by a learned vector of the default width.
        user_context: context features that count as user fields.

    Attributes:
        widths: of everything embedded.

    Raises:
        SettingError: see `embedded_widths`.
    """

    def __init__(
        self,
        schema: Schema,
        rows: dict[str, int],
        config: EmbeddingConfig,
        vectors: dict[str, np.ndarray],
        views: dict[str, int],
        one_width: bool,
        user_context: Collection[str] = (),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.schema = schema
        self.views = dict(views)
        self.widths = embedded_widths(schema, config, one_width, user_context)
        self.side_features = {
            side: list(getattr(self.widths, side)) for side in ("user", "context", "candidate")
        }
        specs = []
        for name, feature in schema.encoders.items():
            table = config.table(name)
            if isinstance(feature, (Categorical, Text)):
                specs.append(TableSpec(name, rows[name], **table.model_dump()))
                for view, width in self.views.items():
                    own = {**table.model_dump(), "width": width}
                    specs.append(TableSpec(f"{name}/{view}", rows[name], **own))
        with keras.name_scope(self.name):
            self.tables = (
                EmbeddingTables(specs, config.shard_rows, name="tables") if specs else None
            )
        self.vectors = {}
        self.projections = {}
        for name, feature in schema.encoders.items():
            if isinstance(feature, Vector):
                self.vectors[name] = self.add_weight(
                    name=f"{name}_vectors",
                    shape=vectors[name].shape,
                    initializer=lambda shape, dtype=None, table=vectors[name]: (
                        ops.convert_to_tensor(table, dtype)
                    ),
                    trainable=feature.trainable,
                    autocast=False,
                )
            if isinstance(feature, Vector) or (isinstance(feature, Numeric) and one_width):
                self.projections[name] = self._projection(name, config.table(name).width)
            if isinstance(feature, (Vector, Numeric)):
                for view, width in self.views.items():
                    self.projections[f"{name}/{view}"] = self._projection(f"{name}_{view}", width)
        self.built = True

    def _projection(self, name: str, width: int) -> keras.layers.Layer:
        return keras.layers.Dense(width, use_bias=False, name=f"{name}_projection")

    def user(self, features: dict[str, Tensor], weight: Tensor) -> UserSide:
        """The user side, its sequences included."""
        requests, packings = [], {}
        for name, spec in self.schema.sequences.items():
            packing = packings[name] = Packing.of(features[f"{name}_mask"])
            for attribute in spec.attributes:
                index = packing.pack(features[f"{name}_{attribute}"])
                requests.append((self.schema.encoder(attribute, name), index))
        # One call for fields and sequences alike, so that each stack is read once.
        fields, rows = self._fields("user", features, requests)
        sequences = {}
        for name, spec in self.schema.sequences.items():
            values = {}
            for attribute in spec.attributes:
                (_, index), value = requests.pop(0), rows.pop(0)
                encoder = self.schema.attribute(name, attribute)
                if encoder.multi:
                    value = pool(value, index != 0, encoder.combiner)
                values[attribute] = packings[name].unpack(value)
            sequences[name] = Behaviours(
                values, features[f"{name}_mask"], features.get(f"{name}_time")
            )
        return UserSide(fields, sequences, weight)

    def context(self, features: dict[str, Tensor]) -> ContextSide:
        """The context side, less what the user tower reads."""
        return ContextSide(self._fields("context", features)[0], features.get(REQUEST_TIME))

    def candidates(self, features: dict[str, Tensor], mask: Tensor) -> CandidateSide:
        """The candidate side."""
        return CandidateSide(self._fields("candidate", features, mask=mask)[0], mask)

    def _fields(
        self,
        side: str,
        features: dict[str, Tensor],
        more: list[tuple[str, Tensor]] | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Fields, list[Tensor]]:
        """One side's fields, 0 where a mask is False; the rows of `more` (table, indices)."""
        names = self.side_features[side]
        looked_up = [n for n in names if isinstance(self.schema.features[n], (Categorical, Text))]
        suffixes = ["", *(f"/{view}" for view in self.views)]
        requests = [
            (self.schema.encoder(n) + suffix, features[n]) for suffix in suffixes for n in looked_up
        ]
        requests += more or []
        rows = self.tables.lookup(requests) if requests else []
        made: dict[str, dict[str, Tensor]] = {suffix: {} for suffix in suffixes}
        for suffix in suffixes:
            for name in looked_up:
                pooled = self._pooled(name, features[name], rows.pop(0))
                made[suffix][name] = _cut(pooled, mask)
            for name in names:
                if name not in looked_up:
                    made[suffix][name] = self._projected(name + suffix, name, features[name], mask)
            made[suffix] = {name: made[suffix][name] for name in names}
        return Fields(made[""], {view: made[f"/{view}"] for view in self.views}), rows

    def _pooled(self, name: str, indices: Tensor, rows: Tensor) -> Tensor:
        feature = self.schema.features[name]
        if isinstance(feature, Text) or feature.multi:
            return pool(rows, indices != 0, feature.combiner)
        return rows

    def _projected(self, key: str, name: str, value: Tensor, mask: Tensor | None) -> Tensor:
        if isinstance(self.schema.features[name], Vector):
            value = ops.take(self.vectors[name], value, axis=0)
        else:
            value = value[..., None]
        value = _cut(ops.cast(value, self.compute_dtype), mask)
        return self.projections[key](value) if key in self.projections else value


def _cut(value: Tensor, mask: Tensor | None) -> Tensor:
    """Zeros at padded positions: a NaN there times a gradient of 0 would be a NaN."""
    if mask is None:
        return value
    return ops.where(mask[..., None], value, ops.zeros((), value.dtype))
