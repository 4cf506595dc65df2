"""Batch normalisation that counts valid positions alone."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.types import Tensor


class MaskedBatchNorm(keras.layers.Layer):
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1) with weights.

    Mean and variance are weighted by `weights`: 0 for padding, and for a user-side tensor the
    request's valid impressions, so that request-shaped and row-wise batches agree. They are taken
    over all replicas.

    Args:
        momentum: of the moving statistics.
        epsilon: added to the variance.
        center: whether a learned offset is added.
        scale: whether a learned factor is applied.

    Shapes:
        x: (..., D); weights: broadcast to x's shape without its last axis.

    Example:
        >>> norm = MaskedBatchNorm(momentum=0.0)
        >>> y = norm(ops.array([[1.0], [3.0], [99.0]]), ops.array([1.0, 1.0, 0.0]), training=True)
        >>> float(norm.moving_mean[0]), round(float(norm.moving_variance[0]), 6)
        (2.0, 1.0)
    """

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale

    def build(self, input_shape):
        width = (input_shape[-1],)
        statistic = {"shape": width, "trainable": False, "autocast": False, "aggregation": "mean"}
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", **statistic)
        self.moving_variance = self.add_weight(
            name="moving_variance", initializer="ones", **statistic
        )
        if self.scale:
            self.gamma = self.add_weight(name="gamma", shape=width, initializer="ones")
        if self.center:
            self.beta = self.add_weight(name="beta", shape=width, initializer="zeros")

    def call(self, x: Tensor, weights: Tensor | None = None, training: bool = False) -> Tensor:
        # In float32 whatever the policy: in float16 the factor of a small variance overflows.
        wide = ops.cast(x, "float32")
        if training:
            mean, variance = self._moments(wide, weights)
        else:
            mean, variance = self.moving_mean.value, self.moving_variance.value
        factor = ops.rsqrt(variance + self.epsilon)
        if self.scale:
            factor = factor * ops.cast(self.gamma, "float32")
        y = (wide - mean) * factor
        if self.center:
            y = y + ops.cast(self.beta, "float32")
        return ops.cast(y, x.dtype)

    def _moments(self, x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        width = x.shape[-1]
        ones = ops.ones_like(x[..., 0])
        weights = ones if weights is None else ones * ops.cast(weights, "float32")
        rows = ops.shape(x)[0]
        x = ops.reshape(x, (rows, -1, width))
        weights = ops.reshape(weights, (rows, -1, 1))
        # A padded position may hold anything, so it is cut out before it is multiplied. Taken
        # around the moving mean, the difference of squares below cancels little.
        shift = self.moving_mean.value
        x = ops.where(weights > 0, x - shift, 0.0)
        sums = ops.concatenate(
            [
                ops.sum(weights * x, axis=1),
                ops.sum(weights * ops.square(x), axis=1),
                ops.sum(weights, axis=1),
            ],
            axis=-1,
        )
        # Each row's sums are averaged over the rows of every replica; the row count cancels.
        sums, _ = ops.moments(sums, axes=[0], synchronized=True)
        total = ops.maximum(sums[-1], 1e-12)
        mean = sums[:width] / total
        variance = ops.maximum(sums[width : 2 * width] / total - ops.square(mean), 0.0)
        mean = mean + shift
        keep = ops.where(sums[-1] > 0, self.momentum, 1.0)
        self.moving_mean.assign(self.moving_mean.value * keep + mean * (1 - keep))
        self.moving_variance.assign(self.moving_variance.value * keep + variance * (1 - keep))
        return mean, variance
