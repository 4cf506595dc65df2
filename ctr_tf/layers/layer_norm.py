"""Layer normalisation that writes its own gradient."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.types import Tensor


class LayerNorm(keras.layers.Layer):
    """Layer normalisation (Ba et al. 2016, arXiv:1607.06450, equations 3-4).

    y = gamma (x - mean) / sqrt(variance + epsilon) + beta, over the last axis. Such a layer spends
    its time on passes over x, of which differentiation of the parts would take about twice as many
    as its own gradient does.

    Args:
        epsilon: added to the variance.

    Shapes:
        x: (..., D); returns (..., D).

    Example:
        >>> LayerNorm(epsilon=0.0)(ops.array([[1.0, 3.0]])).numpy().tolist()
        [[-1.0, 1.0]]
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        width = (input_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=width, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=width, initializer="zeros")

    def call(self, x: Tensor) -> Tensor:
        # In float32 whatever the policy: squares of large float16 overflow.
        flat = ops.cast(ops.reshape(x, (-1, x.shape[-1])), "float32")
        weights = (ops.cast(ops.convert_to_tensor(w), "float32") for w in (self.gamma, self.beta))
        y = self._normalised(flat, *weights)
        return ops.cast(ops.reshape(y, ops.shape(x)), x.dtype)

    def _normalised(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        @ops.custom_gradient
        def normalise(x: Tensor, gamma: Tensor, beta: Tensor):
            centred = x - ops.mean(x, axis=-1, keepdims=True)
            variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
            factor = ops.rsqrt(variance + self.epsilon)
            z = centred * factor

            def gradient(*args, upstream=None):
                upstream = (args if upstream is None else upstream)[0]
                product = upstream * z
                share = gamma[:, None] / x.shape[-1]
                of_z = upstream * gamma - z * (product @ share) - upstream @ share
                row = ops.ones((1, ops.shape(x)[0]))
                return of_z * factor, (row @ product)[0], (row @ upstream)[0]

            return z * gamma + beta, gradient

        return normalise(x, gamma, beta)
