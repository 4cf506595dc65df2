"""Attention of a row's fields to each other."""

from __future__ import annotations

from typing import Literal

import keras
from keras import ops

from ctr_tf.layers.attention.multi_head import attend, by_head, joined
from ctr_tf.types import Tensor


class FieldAttention(keras.layers.Layer):
    """The interacting layer of AutoInt (Song et al. 2019, arXiv:1810.11921, equations 5 to 8).

    relu(concat_h sum_k softmax_k(<W_Q^h e_m, W_K^h e_k>) W_V^h e_k + W_R e_m), for every field m.
    Projections are pointwise over fields, so that those of the user's are computed once a request.
    The equations have no scaling and linear projections; the authors' code has 1 / sqrt(d') and
    activates them.

    Args:
        inputs: D, width of a field.
        heads: H.
        width: d' of each head.
        residual: whether W_R is there.
        scaled: whether scores are divided by sqrt(d').
        projection: activation of the projections.

    Shapes:
        `project`: (..., D) to (..., P); the layer: (M, F, P) to (M, F, H d').

    Example:
        >>> layer = FieldAttention(4, heads=2, width=3)
        >>> layer(layer.project(ops.ones((5, 7, 4)))).shape
        TensorShape([5, 7, 6])
    """

    def __init__(
        self,
        inputs: int,
        heads: int,
        width: int,
        residual: bool = True,
        scaled: bool = False,
        projection: Literal["linear", "relu"] = "linear",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.heads = heads
        self.width = heads * width
        # Queries come first, which take the scale along.
        self.scale = [width**-0.5 if scaled else 1.0] * self.width
        self.scale += [1.0] * (self.width * (2 + residual))
        self.projection = keras.activations.get(projection)
        # Glorot's bound of one projection.
        bound = (6.0 / (inputs + self.width)) ** 0.5
        self.kernel = self.add_weight(
            name="kernel",
            shape=(inputs, len(self.scale)),
            initializer=keras.initializers.RandomUniform(-bound, bound),
        )
        self.built = True

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys, values and, where it is there, W_R x, side by side."""
        kernel = self.kernel * ops.array(self.scale, self.kernel.dtype)
        return self.projection(ops.matmul(x, ops.cast(kernel, x.dtype)))

    def call(self, projected: Tensor) -> Tensor:
        own, residual = projected[..., : 3 * self.width], projected[..., 3 * self.width :]
        y = joined(attend(*by_head(own, 3, self.heads)))
        return ops.relu(y + residual if residual.shape[-1] else y)
