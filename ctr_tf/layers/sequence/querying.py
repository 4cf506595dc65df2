"""A few queries that read an encoder's output."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.layers.layer_norm import LayerNorm
from ctr_tf.layers.packing import Packing
from ctr_tf.layers.sequence.config import EncoderConfig
from ctr_tf.layers.sequence.transformer import CrossBlock, blocks_of
from ctr_tf.types import Tensor


class QueryingTransformer(keras.layers.Layer):
    """K learnable queries with cross-attention to a sequence, for each user.

    Han et al. 2024 (SRP4CTR), section 2.2.2: q_k = free query + what a linear map makes of the
    user's features; then blocks whose keys and values are projections of the sequence, their own in
    each. A user without behaviours is left with the queries.

    Args:
        queries: K.
        config: of the blocks.

    Shapes:
        rows (P, W), packed by mask (B, L); features (B, D) or None; returns
        (B, K W), query by query.

    Example:
        >>> mask = ops.array([[True, False, False], [True, True, True]])
        >>> querying = QueryingTransformer(2, EncoderConfig(width=8, layers=1))
        >>> querying(ops.ones((4, 8)), mask=mask, features=ops.ones((2, 3))).shape
        TensorShape([2, 16])
    """

    def __init__(self, queries: int, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.shape = (queries, config.width)
        self.queries = self.add_weight(
            name="queries",
            shape=self.shape,
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )
        self.map = keras.layers.Dense(queries * config.width, use_bias=False, name="map")
        self.blocks = blocks_of(CrossBlock, config)
        self.keys_values = [
            keras.layers.Dense(2 * config.width, use_bias=config.use_bias, name=f"keys_values_{i}")
            for i in range(config.layers)
        ]
        self.norm = LayerNorm(name="norm") if config.norm == "pre" else None

    def build(self, rows_shape, features_shape=None):
        if features_shape is not None:
            self.map.build(features_shape)
        for block, projection in zip(self.blocks, self.keys_values):
            block.build((None, None, self.shape[1]))
            projection.build(rows_shape)

    def call(
        self,
        rows: Tensor,
        mask: Tensor,
        features: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        packing, batch = Packing.of(mask), ops.shape(mask)[0]
        x = ops.broadcast_to(ops.cast(self.queries, rows.dtype), (batch, *self.shape))
        if features is not None:
            x = x + ops.reshape(self.map(features), (batch, *self.shape))
        for block, projection in zip(self.blocks, self.keys_values):
            x = block(x, packing.unpack(projection(rows)), mask, training=training)
        x = self.norm(x) if self.norm else x
        return ops.reshape(x, (batch, self.shape[0] * self.shape[1]))
