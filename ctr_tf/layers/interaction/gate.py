"""Gates of features."""

from __future__ import annotations

from typing import Sequence

import keras
from keras import ops

from ctr_tf.layers.dense import MLP
from ctr_tf.types import Tensor


class FeatureGate(keras.layers.Layer):
    """Factors of every feature, 2 sigmoid(MLP(c)).

    Mao et al. 2023, arXiv:2304.00902, section 3, stream-specific feature selection. Factors lie in
    (0, 2), around 1. Hidden layers are rectified, the last is linear.

    Args:
        width: of the factors.
        units: hidden widths.
        learned: width of a learned vector to take the place of c; none by default.

    Attributes:
        vector: the learned vector, (1, learned), or None.

    Shapes:
        c: (..., C); returns (..., width).

    Example:
        >>> gate = FeatureGate(6, [4], learned=3)
        >>> gate(ops.convert_to_tensor(gate.vector)).shape
        TensorShape([1, 6])
    """

    def __init__(self, width: int, units: Sequence[int], learned: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.hidden = MLP(units, name="hidden")
        self.factors = keras.layers.Dense(width, name="factors")
        self.vector = None
        if learned is not None:
            # Not of zeros, for which rectified layers would have no gradient.
            self.vector = self.add_weight(name="vector", shape=(1, learned))

    def call(self, c: Tensor) -> Tensor:
        return 2 * ops.sigmoid(self.factors(self.hidden(c)))
