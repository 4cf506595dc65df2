"""A small trainable part within a frozen network."""

from __future__ import annotations

import keras

from ctr_tf.types import Tensor


class ModelPatch(keras.layers.Layer):
    """A bottleneck with a shortcut: x + gelu(x W_down + b_down) W_up + b_up.

    Yuan et al. 2020 (PeterRec), arXiv:2001.04253, section 3.4, serial form. W_up and b_up start as
    zeros: the network begins as it was pre-trained.

    Args:
        width: of the bottleneck.

    Shapes:
        x: (..., W); returns (..., W).

    Example:
        >>> from keras import ops
        >>> ModelPatch(3)(ops.array([[1.0, 2.0]])).numpy().tolist()
        [[1.0, 2.0]]
    """

    def __init__(self, width: int, **kwargs):
        super().__init__(**kwargs)
        self.down = keras.layers.Dense(width, activation="gelu", name="down")
        self.width = width

    def build(self, input_shape):
        self.up = keras.layers.Dense(input_shape[-1], kernel_initializer="zeros", name="up")
        self.down.build(input_shape)
        self.up.build((*input_shape[:-1], self.width))

    def call(self, x: Tensor) -> Tensor:
        return x + self.up(self.down(x))
