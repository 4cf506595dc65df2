"""The transformer encoder over packed behaviour sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import keras
from keras import ops

from ctr_tf.layers.attention.multi_head import CrossAttention, SelfAttention
from ctr_tf.layers.layer_norm import LayerNorm
from ctr_tf.layers.names import FeedForwardActivation
from ctr_tf.layers.packing import Packing
from ctr_tf.layers.sequence.config import EncoderConfig
from ctr_tf.layers.shapes import split
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

    attention_class: ClassVar[type] = SelfAttention

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
        self.attention = self.attention_class(width, heads, of_weights, use_bias, name="attention")
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
        attended = self.attention(self.before_attention(x), packing=packing, training=training)
        return self.after_attention(x, attended, training)

    def cross(self, x: Tensor, keys_values: Tensor, mask: Tensor, training: bool = False) -> Tensor:
        """Rows (B, N, W) through the block, with keys and values (B, L, 2 W) from outside."""
        attended = self.attention.cross(self.before_attention(x), keys_values, mask, training)
        return self.after_attention(x, attended, training)

    def before_attention(self, x: Tensor) -> Tensor:
        """What attention sees of x (..., W)."""
        return self.norms[0](x) if self.norm == "pre" else x

    def after_attention(
        self,
        x: Tensor,
        attended: Tensor,
        training: bool = False,
        patch: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """What `call` makes of x (..., W) and of what attention made of it; they may broadcast.

        Args:
            x: of the block.
            attended: of it.
            training: whether there is dropout.
            patch: of what the feed-forward part makes, before the residual.
        """
        first, second = self.norms
        x = x + self.dropout(attended, training=training)
        if self.norm == "post":
            x = first(x)
        fed = self.outer(self.inner(second(x) if self.norm == "pre" else x))
        fed = patch(fed) if patch else fed
        x = x + self.dropout(fed, training=training)
        return second(x) if self.norm == "post" else x


class CrossBlock(EncoderBlock):
    """A block whose keys and values come from outside; each row is by itself.

    y = LN(x + MultiHead(x W^Q, K, V)), then LN(y + FFN(y)), as `EncoderBlock` has it.

    Args:
        as of `EncoderBlock`.

    Shapes:
        x (B, N, W); keys_values (B, L, 2 W), keys first; mask (B, L); returns (B, N, W).

    Example:
        >>> mask = ops.array([[True, False, False], [True, True, True]])
        >>> CrossBlock(8, heads=2)(ops.ones((2, 5, 8)), ops.ones((2, 3, 16)), mask).shape
        TensorShape([2, 5, 8])
    """

    attention_class = CrossAttention

    def call(self, x: Tensor, keys_values: Tensor, mask: Tensor, training: bool = False) -> Tensor:
        normed = self.before_attention(x)
        attended = self.attention(normed, keys_values, mask, training=training)
        # Of a matrix, a dense layer's product, bias and activation are one kernel.
        rows, attended = (ops.reshape(each, (-1, self.width)) for each in (x, attended))
        return ops.reshape(self.after_attention(rows, attended, training), ops.shape(x))


class Encoder(keras.layers.Layer):
    """A stack of encoder blocks over packed sequences, input projection and positions included.

    x_0 = X W + E, with a learned embedding E of each position counted from the latest, so that a
    behaviour's embedding does not depend on how many older ones the log has kept; then the blocks
    (Vaswani et al. 2017, arXiv:1706.03762, section 3), and with `norm` `pre` a last normalisation.
    With `input_norm` x_0 is normalised.

    Args:
        config: see `EncoderConfig`.
        project: whether the input is projected; otherwise its width is W.

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

    def __init__(self, config: EncoderConfig, project: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.projection = keras.layers.Dense(config.width, name="projection") if project else None
        self.input_norm = LayerNorm(name="input_norm") if config.input_norm else None
        self.blocks = blocks_of(EncoderBlock, config)
        self.norm = LayerNorm(name="norm") if config.norm == "pre" else None
        self.dropout = keras.layers.Dropout(config.dropout)

    def build(self, input_shape):
        width = self.config.width
        if self.projection:
            self.projection.build(input_shape)
        if self.config.positions:
            self.positions = self.add_weight(
                name="positions",
                shape=(self.config.positions, width),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
            )
        for layer in (self.input_norm, *self.blocks, self.norm):
            if layer:
                layer.build((None, width))

    def call(self, x: Tensor, packing: Packing, training: bool = False) -> Tensor:
        x = self.embed(x, packing)
        return self.encode(x, packing, training=training)[0]

    def embed(self, x: Tensor, packing: Packing) -> Tensor:
        """The input of the first block, (P, W): with positions, normalised if so configured."""
        if packing.padded:
            # A padded position may hold anything, NaN included.
            x = ops.where(packing.weights[:, None] > 0, x, ops.zeros((), x.dtype))
        if self.projection:
            x = self.projection(x)
        x = x + self._positions(packing, x.dtype) if self.config.positions else x
        return self.input_norm(x) if self.input_norm else x

    def encode(
        self,
        x: Tensor,
        packing: Packing,
        patches: Sequence[Sequence[Callable[[Tensor], Tensor]]] = (),
        training: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """The output for what `embed` returns, and each block's keys and values.

        Args:
            x: (P, W).
            packing: of it.
            patches: of each block, what attention and feed-forward part make goes through them.
            training: whether there is dropout.

        Returns:
            (P, W), and (P, 2 W) a block, keys first.
        """
        x = self.dropout(x, training=training)
        keys_values = []
        for block, (first, second) in zip(
            self.blocks, patches or [(None, None)] * len(self.blocks)
        ):
            projected = block.attention.project(block.before_attention(x))
            _, own = split(projected, [self.config.width, 2 * self.config.width], axis=-1)
            keys_values.append(own)
            attended = block.attention.attend(projected, packing, training)
            attended = first(attended) if first else attended
            x = block.after_attention(x, attended, training, second)
        return (self.norm(x) if self.norm else x), keys_values

    def _positions(self, packing: Packing, dtype: str) -> Tensor:
        """The embedding of each position: (P, W)."""
        table = ops.cast(ops.convert_to_tensor(self.positions), dtype)
        return ops.take(table, ops.minimum(packing.ages(), self.config.positions - 1), axis=0)


def blocks_of(kind: type[EncoderBlock], config: EncoderConfig) -> list[EncoderBlock]:
    """The blocks that a configuration describes."""
    return [
        kind(
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
