"""The cross network of DCN, split between user and candidate."""

from __future__ import annotations

from typing import Sequence

import keras
from keras import ops

from ctr_tf.layers.dense import SplitDense
from ctr_tf.types import Tensor


class CrossVectors(keras.layers.Layer):
    """The cross network of DCN (Wang et al. 2017, arXiv:1708.05123, equation 3).

    x_{l+1} = x_0 x_l^T w_l + b_l + x_l. By induction x_l = a_l x_0 + c_l, with a number a_l and c_l
    the sum of the biases before it: a_0 = 1, c_0 = 0, a_{l+1} = a_l + a_l x_0^T w_l + c_l^T w_l.
    So all that the network reads of x_0 are the products x_0^T w_l, which are split.

    Args:
        parts: name and width of each part of x_0, in order of concatenation.
        layers: how many.

    Shapes:
        x0: (..., D); returns (..., D), D the sum of the parts.

    Example:
        >>> network = CrossVectors({"user": 2, "item": 1}, layers=2)
        >>> network(ops.ones((4, 5, 3))).shape, network.count_params()
        (TensorShape([4, 5, 3]), 12)
    """

    def __init__(self, parts: dict[str, int], layers: int, **kwargs):
        super().__init__(**kwargs)
        self.part_widths = dict(parts)
        with keras.name_scope(self.name):
            self.split = SplitDense(layers, parts, use_bias=False, name="split")
        shape = (layers, sum(parts.values()))
        self.bias = self.add_weight(name="bias", shape=shape, initializer="zeros")
        self.built = True

    def part(self, name: str, x: Tensor | None) -> Tensor | None:
        """One part's share of x_0^T w_l of each layer."""
        return self.split.part(name, x)

    def from_parts(self, x0: Tensor, products: Sequence[Tensor | None]) -> Tensor:
        """The network's output, from the products of the parts of x_0."""
        of_x0 = self.split.join(products)
        kernel, bias = (ops.cast(weight, x0.dtype) for weight in (self.split.kernel, self.bias))
        factor, before = ops.ones_like(of_x0[..., :1]), ops.zeros_like(bias[0])
        for layer in range(self.split.units):
            of_bias = ops.sum(before * kernel[:, layer])
            factor = factor + factor * of_x0[..., layer : layer + 1] + of_bias
            before = before + bias[layer]
        return factor * x0 + before

    def call(self, x0: Tensor) -> Tensor:
        return self.from_parts(x0, [ops.matmul(x0, ops.cast(self.split.kernel, x0.dtype))])
