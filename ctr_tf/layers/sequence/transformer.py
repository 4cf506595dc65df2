"""The transformer encoder over packed behaviour sequences."""

from __future__ import annotations

from typing import Literal

import keras
from keras import ops

from ctr_tf.layers.attention.multi_head import SelfAttention
from ctr_tf.layers.layer_norm import LayerNorm
from ctr_tf.layers.names import FeedForwardActivation
from ctr_tf.layers.packing import Packing
from ctr_tf.layers.sequence.config import EncoderConfig
from ctr_tf.types import Tensor


class EncoderBlock(keras.layers.Layer):
    """One block of the transformer encoder (Vaswani et al. 2017, arXiv:1706.03762, section 3.1).

    y = LN(x + MultiHead(x)), then LN(y + FFN(y)) with FFN(y) = act(y W_1 + b_1) W_2 + b_2
    (equation 2); with `norm` `pre`, y = x + MultiHead(LN(x)), then y + FFN(LN(y)). All but the
    attention itself is pointwise and of valid positions alone.

    Args:
        width: W, of input and output.
        heads: of attention, a divisor of W.
        feed_forward: hidden width; 4 W by default.
        activation_name: of the feed-forward part.
        norm: whether layer normalisation comes before each part or after its residual.
        dropout: rate of the attention weights and of what each part adds.
        use_bias: whether the projections of attention have one.
        attention_dropout: rate of the attention weights, where it differs.

    Shapes:
        x: (P, W), packed by `packing`; returns (P, W).

    Raises:
        ValueError: `heads` does not divide W.

    Example:
        >>> packing = Packing.of(ops.array([[True, False, False], [True, True, True]]))
        >>> EncoderBlock(8, heads=2)(ops.ones((4, 8)), packing=packing).shape
        TensorShape([4, 8])
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int | None = None,
        activation_name: FeedForwardActivation = "relu",
        norm: Literal["pre", "post"] = "post",
        dropout: float = 0.0,
        use_bias: bool = False,
        attention_dropout: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.width = width
        self.norm = norm
        of_weights = dropout if attention_dropout is None else attention_dropout
        self.attention = SelfAttention(width, heads, of_weights, use_bias, name="attention")
        hidden = feed_forward or 4 * width
        self.inner = keras.layers.Dense(hidden, activation=activation_name, name="inner")
        self.outer = keras.layers.Dense(width, name="outer")
        self.norms = [LayerNorm(name=f"norm_{i}") for i in range(2)]
        self.dropout = keras.layers.Dropout(dropout)

    def build(self, input_shape):
        for layer in (self.attention, self.inner, *self.norms):
            layer.build(input_shape)
        self.outer.build((None, self.inner.units))

    def call(self, x: Tensor, packing: Packing, training: bool = False) -> Tensor:
        normed = self.norms[0](x) if self.norm == "pre" else x
        attended = self.attention(normed, packing=packing, training=training)
        return self.after_attention(x, attended, training)

    def after_attention(self, x: Tensor, attended: Tensor, training: bool = False) -> Tensor:
        """What `call` makes of x (..., W) and of what attention made of it; they may broadcast."""
        first, second = self.norms
        x = x + self.dropout(attended, training=training)
        if self.norm == "post":
            x = first(x)
        fed = self.outer(self.inner(second(x) if self.norm == "pre" else x))
        x = x + self.dropout(fed, training=training)
        return second(x) if self.norm == "post" else x


class Encoder(keras.layers.Layer):
    """A stack of encoder blocks over packed sequences, input projection and positions included.

    x_0 = X W + E, with a learned embedding E of each position counted from the latest, so that a
    behaviour's embedding does not depend on how many older ones the log has kept; then the blocks
    (Vaswani et al. 2017, arXiv:1706.03762, section 3), and with `norm` `pre` a last normalisation.

    Args:
        config: see `EncoderConfig`.

    Shapes:
        x: (P, D), packed by `packing`; returns (P, W).

    Raises:
        ValueError: `heads` does not divide W.

    Example:
        >>> packing = Packing.of(ops.array([[True, False, False], [True, True, True]]))
        >>> encoder = Encoder(EncoderConfig(width=8))
        >>> packing.unpack(encoder(ops.ones((4, 5)), packing=packing)).shape
        TensorShape([2, 3, 8])
    """

    def __init__(self, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.projection = keras.layers.Dense(config.width, name="projection")
        self.blocks = [
            EncoderBlock(
                config.width,
                config.heads,
                config.feed_forward,
                config.activation,
                config.norm,
                config.dropout,
                config.use_bias,
                name=f"block_{i}",
            )
            for i in range(config.layers)
        ]
        self.norm = LayerNorm(name="norm") if config.norm == "pre" else None
        self.dropout = keras.layers.Dropout(config.dropout)

    def build(self, input_shape):
        width = self.config.width
        self.projection.build(input_shape)
        if self.config.positions:
            self.positions = self.add_weight(
                name="positions",
                shape=(self.config.positions, width),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
            )
        for layer in (*self.blocks, *([self.norm] if self.norm else [])):
            layer.build((None, width))

    def call(self, x: Tensor, packing: Packing, training: bool = False) -> Tensor:
        if packing.padded:
            # A padded position may hold anything, NaN included.
            x = ops.where(packing.weights[:, None] > 0, x, ops.zeros((), x.dtype))
        x = self.projection(x)
        if self.config.positions:
            x = x + self._positions(packing, x.dtype)
        x = self.dropout(x, training=training)
        for block in self.blocks:
            x = block(x, packing=packing, training=training)
        return self.norm(x) if self.norm else x

    def _positions(self, packing: Packing, dtype: str) -> Tensor:
        """The embedding of each position: (P, W)."""
        table = ops.cast(ops.convert_to_tensor(self.positions), dtype)
        return ops.take(table, ops.minimum(packing.ages(), self.config.positions - 1), axis=0)
