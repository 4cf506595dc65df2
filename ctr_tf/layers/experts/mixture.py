"""Mixtures of experts, each by a gate of its own."""

from __future__ import annotations

from typing import Sequence

import keras
from keras import ops

from ctr_tf.layers.experts.parallel import ParallelDense, ParallelMLP
from ctr_tf.layers.names import Activation
from ctr_tf.types import Tensor


class Mixture(keras.layers.Layer):
    """Mixtures of experts, sum_i softmax(x_k W_k)_i f_i for each of K gates.

    Ma et al. 2018, KDD, section 4.2. Gates are linear without bias, as there, or MLPs.

    Args:
        gates: K.
        experts: that each gate mixes, O + S; at least two.
        units: hidden widths of each gate.
        activation_name: of the hidden layers.

    Shapes:
        x: (M, G, I), G a divisor of K; shared: (M, S, U), experts of all gates; own: (M, K, O, U),
        experts of each gate alone, which come first in its softmax; weights: (M,), for batch
        statistics; returns (M, K, U).

    Example:
        >>> mixture = Mixture(gates=2, experts=3)
        >>> x, shared, own = ops.ones((4, 1, 5)), ops.ones((4, 2, 6)), ops.ones((4, 2, 1, 6))
        >>> mixture(x, shared, own).numpy()[0, 0].round(4).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        gates: int,
        experts: int,
        units: Sequence[int] = (),
        activation_name: Activation = "relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden = ParallelMLP(units, gates, activation_name, name="hidden") if units else None
        self.gate = ParallelDense(experts, gates, use_bias=False, name="gate")

    def call(
        self,
        x: Tensor,
        shared: Tensor,
        own: Tensor | None = None,
        weights: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        if self.hidden is not None:
            x = self.hidden(x, weights, training=training)
        shares = ops.softmax(ops.cast(self.gate(x), "float32"), axis=-1)
        shares = ops.cast(shares, shared.dtype)
        if own is None:
            return ops.matmul(shares, shared)
        count = own.shape[2]
        mixed = ops.matmul(shares[:, :, None, :count], own)[:, :, 0]
        return mixed + ops.matmul(shares[:, :, count:], shared)
