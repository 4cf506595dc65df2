"""Cross layers of DCN-v2, the first split between user and candidate."""

from __future__ import annotations

from typing import Literal, Sequence

import keras
from keras import ops

from ctr_tf.layers.activation import activation
from ctr_tf.layers.dense import SplitDense
from ctr_tf.layers.experts.parallel import ParallelDense
from ctr_tf.layers.shapes import split
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
        self.part_widths = dict(parts)
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


class CrossExperts(keras.layers.Layer):
    """A cross layer as a mixture of experts of low rank (Wang et al. 2021, equations 3 and 4).

    x_{l+1} = sum_i G_i(x) E_i(x) + x, E_i(x) = x_0 * (U_i g(C_i g(V_i^T x)) + b): the experts share
    b, and the gates G are of x, without bias. As U_i is linear, gated experts are added up in the
    R columns each of them has, and multiplied by all U_i at once.

    Args:
        parts: name and width of each part of x, in order of concatenation.
        rank: R of each expert.
        experts: K.
        gate: whether G is a softmax over the experts or a sigmoid of each.
        activation_name: g; `linear` leaves products of matrices alone.

    Shapes:
        x0, x: (..., D); returns (..., D), D the sum of the parts.

    Example:
        >>> layer = CrossExperts({"user": 2, "item": 1}, rank=2, experts=4)
        >>> x = ops.ones((4, 5, 3))
        >>> layer(x, x).shape, layer.count_params() == 4 * (3 + 3 * 2 + 2 * 2 + 2 * 3) + 3
        (TensorShape([4, 5, 3]), True)
    """

    def __init__(
        self,
        parts: dict[str, int],
        rank: int,
        experts: int,
        gate: Literal["softmax", "sigmoid"] = "softmax",
        activation_name: Literal["tanh", "relu", "sigmoid", "linear"] = "tanh",
        **kwargs,
    ):
        super().__init__(**kwargs)
        width = sum(parts.values())
        self.part_widths = dict(parts)
        self.rank = rank
        self.experts = experts
        self.gate = keras.activations.get(gate)
        with keras.name_scope(self.name):
            self.gates = SplitDense(experts, parts, use_bias=False, name="gates")
            self.down = SplitDense(experts * rank, parts, use_bias=False, name="down")
            self.middle = ParallelDense(rank, experts, use_bias=False, name="middle")
            self.middle.build((None, experts, rank))
        self.activation = activation(activation_name)
        self.up = self.add_weight(
            name="up_kernel",
            shape=(experts * rank, width),
            initializer=lambda shape, dtype=None: keras.random.uniform(
                shape, -((6 / (rank + width)) ** 0.5), (6 / (rank + width)) ** 0.5, dtype
            ),
        )
        self.bias = self.add_weight(name="bias", shape=(width,), initializer="zeros")
        self.built = True

    def part(self, name: str, x: Tensor | None) -> Tensor | None:
        """What gates and experts make of one part of x: (..., K + K R)."""
        if x is None:
            return None
        return ops.concatenate([self.gates.part(name, x), self.down.part(name, x)], axis=-1)

    def from_parts(self, x0: Tensor, x: Tensor, products: Sequence[Tensor | None]) -> Tensor:
        """The layer's output, from the products of the parts of x."""
        sizes = [self.experts, self.experts * self.rank]
        logits, hidden = split(self.down.join(products), sizes, axis=-1)
        hidden = ops.reshape(self.activation(hidden), (-1, self.experts, self.rank))
        hidden = self.activation(self.middle(hidden))
        shares = self.gate(logits)
        gated = hidden * ops.reshape(shares, (-1, self.experts, 1))
        lead = ops.shape(logits)[:-1]
        gated = ops.reshape(gated, (*lead, self.experts * self.rank))
        bias = ops.cast(self.bias, x.dtype) * ops.sum(shares, axis=-1, keepdims=True)
        return x0 * (ops.matmul(gated, ops.cast(self.up, x.dtype)) + bias) + x

    def call(self, x0: Tensor, x: Tensor) -> Tensor:
        kernel = ops.concatenate([self.gates.kernel, self.down.kernel], axis=-1)
        return self.from_parts(x0, x, [ops.matmul(x, ops.cast(kernel, x.dtype))])
