"""A candidate that attends to the layers of an encoder, which does not see it."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from ctr_tf.layers.layer_norm import LayerNorm
from ctr_tf.layers.sequence.config import EncoderConfig
from ctr_tf.layers.sequence.transformer import CrossBlock, Encoder, blocks_of
from ctr_tf.types import Tensor


class UniAttention(keras.layers.Layer):
    """Uni cross-attention of candidates to the keys and values of an encoder.

    Han et al. 2024 (SRP4CTR), section 2.2.1: y_0 = v + e, with a learnable vector e in the place of
    a position; in layer l queries come from y_(l-1), keys and values from the behaviours at the
    same layer by that layer's own projections, all else is the candidate's own: `CrossBlock`. The
    behaviours' rows are those without any candidate, so that keys and values fold. y_0 is
    normalised where the encoder's input is.

    Args:
        config: of the encoder.
        tied: whether the blocks are the encoder's (table 3).

    Shapes:
        target (B, N, W); keys_values, (B, L, 2 W) a layer; mask (B, L); returns (B, N, W).

    Example:
        >>> mask = ops.array([[True, False, False], [True, True, True]])
        >>> uni = UniAttention(EncoderConfig(width=8, layers=2))
        >>> uni(ops.ones((2, 5, 8)), [ops.ones((2, 3, 16))] * 2, mask).shape
        TensorShape([2, 5, 8])
    """

    def __init__(self, config: EncoderConfig, tied: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.vector = self.add_weight(
            name="vector",
            shape=(config.width,),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )
        self.input_norm = LayerNorm(name="input_norm") if config.input_norm else None
        self.dropout = keras.layers.Dropout(config.dropout)
        self.blocks = [] if tied else blocks_of(CrossBlock, config)
        own_norm = config.norm == "pre" and not tied
        self.norm = LayerNorm(name="norm") if own_norm else None

    def call(
        self,
        target: Tensor,
        keys_values: Sequence[Tensor],
        mask: Tensor,
        encoder: Encoder | None = None,
        training: bool = False,
    ) -> Tensor:
        x = target + ops.cast(self.vector, target.dtype)
        x = self.input_norm(x) if self.input_norm else x
        x = self.dropout(x, training=training)
        blocks = [block.cross for block in encoder.blocks] if encoder else self.blocks
        for block, own in zip(blocks, keys_values, strict=True):
            x = block(x, own, mask, training=training)
        norm = (encoder or self).norm
        return norm(x) if norm else x
