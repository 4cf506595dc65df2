"""Cross layers of DCN-v2, the first split between user and candidate."""

from __future__ import annotations

from typing import Sequence

import keras
from keras import ops

from ctr_tf.layers.dense import SplitDense
from ctr_tf.types import Tensor


class Cross(keras.layers.Layer):
    """One cross layer (Wang et al. 2021, arXiv:2008.13535, equations 1 and 2).

    x_{l+1} = x_0 * (W x_l + b) + x_l, with W of full rank, or W = U V^T of rank R.

    Args:
        parts: name and width of each part of x, in order of concatenation.
        rank: R; full rank when None.

    Shapes:
        x0, x: (..., D); returns (..., D), D the sum of the parts.

    Example:
        >>> layer = Cross({"user": 2, "item": 1})
        >>> x = ops.ones((4, 5, 3))
        >>> layer(x, x).shape
        TensorShape([4, 5, 3])
    """

    def __init__(self, parts: dict[str, int], rank: int | None = None, **kwargs):
        super().__init__(**kwargs)
        width = sum(parts.values())
        self.rank = rank
        with keras.name_scope(self.name):
            self.down = SplitDense(rank or width, parts, use_bias=rank is None, name="down")
        self.up = keras.layers.Dense(width, name="up") if rank else None

    def part(self, name: str, x: Tensor | None) -> Tensor | None:
        """What the layer's matrix makes of one part of x; see `SplitDense.part`."""
        return self.down.part(name, x)

    def from_parts(self, x0: Tensor, x: Tensor, products: Sequence[Tensor | None]) -> Tensor:
        """The layer's output, from the products of the parts of x."""
        product = self.down.join(products)
        if self.up is not None:
            product = self.up(product)
        return x0 * product + x

    def call(self, x0: Tensor, x: Tensor) -> Tensor:
        return self.from_parts(x0, x, [ops.matmul(x, ops.cast(self.down.kernel, x.dtype))])
