"""From indices and normalised numbers to the embedded sides that bodies read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from ctr_tf.layers.embedding.config import EmbeddingConfig, TableConfig
from ctr_tf.layers.embedding.tables import EmbeddingTables, TableSpec
from ctr_tf.layers.packing import Packing
from ctr_tf.layers.sequence.pooling import pool
from ctr_tf.models.architecture import Views
from ctr_tf.models.widths import embedded_widths
from ctr_tf.schema import REQUEST_TIME, Categorical, Numeric, Schema, Text, Vector
from ctr_tf.types import Behaviours, CandidateSide, ContextSide, Fields, Tensor, UserSide

Request = tuple[str, Tensor]


@dataclass(frozen=True)
class Pending:
    """One side before the tables are read.

    Args:
        requests: names of tables, and indices into them.
        made: the side, of the rows of each request in order.
    """

    requests: list[Request]
    made: Callable[[list[Tensor]], UserSide | ContextSide | CandidateSide]


class Embedder(keras.layers.Layer):
    """Embeds the preprocessed features of a schema, one side or several at once (see `embed`).

    A categorical feature is a row of its encoder's table, several values are pooled, text is its
    pooled words, a vector is a row of its cached table times a learned projection, a number is a
    field of width 1, or times a learned vector where `one_width` is set.

    Args:
        schema: features and sequences.
        rows: rows of each encoder's table (see `Vocabularies.rows`).
        config: widths, initialisers, regularisers.
        vectors: cached tables of vector features, (rows, width).
        views: extra embeddings: see `Body.views_of`.
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
        views: Views,
        one_width: bool,
        user_context: Collection[str] = (),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.schema = schema
        asked = {
            view: dict.fromkeys(schema.features, own) if isinstance(own, int) else own
            for view, own in views.items()
        }
        self.views = {view: list(own) for view, own in asked.items()}
        view_tables = {
            view: {
                encoder: config.table(encoder, differs)
                for encoder, differs in ((self._encoder(n), differs) for n, differs in own.items())
            }
            for view, own in asked.items()
        }
        self.widths = embedded_widths(schema, config, one_width, user_context)
        self.side_features = {
            side: list(getattr(self.widths, side)) for side in ("user", "context", "candidate")
        }
        specs = []
        for name, feature in schema.encoders.items():
            table = config.table(name)
            if isinstance(feature, (Categorical, Text)):
                specs.append(TableSpec(name, rows[name], **table.model_dump()))
                for view, own in view_tables.items():
                    if name in own:
                        spec = own[name].model_dump()
                        specs.append(TableSpec(f"{name}/{view}", rows[name], **spec))
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
                self.projections[name] = self._projection(name, config.table(name))
            if isinstance(feature, (Vector, Numeric)):
                for view, own in view_tables.items():
                    if name in own:
                        projection = self._projection(f"{name}_{view}", own[name])
                        self.projections[f"{name}/{view}"] = projection
        self.built = True

    def _encoder(self, name: str) -> str:
        """The encoder of a feature, or of a behaviour attribute `sequence.attribute`."""
        sequence, _, attribute = name.rpartition(".")
        return self.schema.encoder(attribute, sequence or None)

    def _projection(self, name: str, table: TableConfig) -> keras.layers.Layer:
        return keras.layers.Dense(
            table.width, use_bias=False, trainable=table.trainable, name=f"{name}_projection"
        )

    def embed(self, *sides: Pending) -> list[UserSide | ContextSide | CandidateSide]:
        """Sides of a batch, with one gather of each stack of tables however many sides there are.

        Args:
            sides: what `user`, `context` and `candidates` return.
        """
        requests = [request for side in sides for request in side.requests]
        rows = iter(self.tables.lookup(requests) if requests else [])
        return [side.made([next(rows) for _ in side.requests]) for side in sides]

    def user(self, features: dict[str, Tensor], weight: Tensor) -> Pending:
        """The user side, its sequences included."""
        fields, indices = self._requests("user", features), {}
        packings = {name: Packing.of(features[f"{name}_mask"]) for name in self.schema.sequences}
        for name, spec in self.schema.sequences.items():
            for attribute in spec.attributes:
                indices[name, attribute] = packings[name].pack(features[f"{name}_{attribute}"])
        asked = [
            (view, name, attribute)
            for view in ("", *self.views)
            for name, attribute in indices
            if not view or f"{name}.{attribute}" in self.views[view]
        ]
        own = [
            (self.schema.encoder(a, n) + (f"/{view}" if view else ""), indices[n, a])
            for view, n, a in asked
        ]

        def made(rows: list[Tensor]) -> UserSide:
            found: dict[str, dict[str, dict[str, Tensor]]] = {
                name: {view: {} for view in ("", *self.views)} for name in self.schema.sequences
            }
            for (view, name, attribute), value in zip(asked, rows[len(fields) :]):
                encoder = self.schema.attribute(name, attribute)
                if encoder.multi:
                    value = pool(value, indices[name, attribute] != 0, encoder.combiner)
                found[name][view][attribute] = packings[name].unpack(value)
            sequences = {
                name: Behaviours(
                    each.pop(""), features[f"{name}_mask"], features.get(f"{name}_time"), each
                )
                for name, each in found.items()
            }
            return UserSide(self._fields("user", features, rows[: len(fields)]), sequences, weight)

        return Pending([*fields, *own], made)

    def context(self, features: dict[str, Tensor]) -> Pending:
        """The context side, less what the user tower reads."""

        def made(rows: list[Tensor]) -> ContextSide:
            return ContextSide(self._fields("context", features, rows), features.get(REQUEST_TIME))

        return Pending(self._requests("context", features), made)

    def candidates(self, features: dict[str, Tensor], mask: Tensor) -> Pending:
        """The candidate side."""

        def made(rows: list[Tensor]) -> CandidateSide:
            return CandidateSide(self._fields("candidate", features, rows, mask), mask)

        return Pending(self._requests("candidate", features), made)

    @property
    def _suffixes(self) -> dict[str, list[str]]:
        """What a table's name ends with in each view, and its features; the embedding first."""
        return {
            "": list(self.schema.features),
            **{f"/{view}": names for view, names in self.views.items()},
        }

    def _looked_up(self, side: str) -> list[str]:
        """One side's features that are rows of tables."""
        names = self.side_features[side]
        return [n for n in names if isinstance(self.schema.features[n], (Categorical, Text))]

    def _requests(self, side: str, features: dict[str, Tensor]) -> list[Request]:
        """What one side's fields ask of the tables."""
        return [
            (self.schema.encoder(name) + suffix, features[name])
            for suffix, names in self._suffixes.items()
            for name in self._looked_up(side)
            if name in names
        ]

    def _fields(
        self,
        side: str,
        features: dict[str, Tensor],
        rows: list[Tensor],
        mask: Tensor | None = None,
    ) -> Fields:
        """One side's fields from the rows of its requests, 0 where a mask is False."""
        found, looked_up = iter(rows), self._looked_up(side)
        made: dict[str, dict[str, Tensor]] = {}
        for suffix, names in self._suffixes.items():
            own = {
                n: _cut(self._pooled(n, features[n], next(found)), mask)
                for n in looked_up
                if n in names
            }
            made[suffix] = {
                name: own[name]
                if name in own
                else self._projected(name + suffix, name, features[name], mask)
                for name in self.side_features[side]
                if name in names
            }
        return Fields(made[""], {view: made[f"/{view}"] for view in self.views})

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
