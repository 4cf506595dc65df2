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
        x: (..., D); weights: broadcast to x's shape without its last axis. In training the output
        at a position of weight 0 means nothing, and the gradient there must be 0.

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
            y = self._normalised(wide, weights)
        else:
            factor = ops.rsqrt(self.moving_variance.value + self.epsilon)
            y = (wide - self.moving_mean.value) * factor
        if self.scale:
            y = y * ops.cast(self.gamma, "float32")
        if self.center:
            y = y + ops.cast(self.beta, "float32")
        return ops.cast(y, x.dtype)

    def _normalised(self, x: Tensor, weights: Tensor | None) -> Tensor:
        """(x - mean) / sqrt(variance + epsilon), which is a pass over x less at each turn than
        differentiation of its parts would be; moves the moving statistics."""
        shape, width = ops.shape(x), x.shape[-1]
        x = ops.reshape(x, (-1, width))
        if weights is None:
            weights = ops.ones((1, ops.shape(x)[0]))
        else:
            ones = ops.ones((*shape[:-1], 1))
            weights = ops.reshape(ones * ops.cast(weights, "float32")[..., None], (1, -1))
            # A padded position may hold anything, so it is cut out before it is multiplied.
            x = ops.where(ops.transpose(weights) > 0, x, 0.0)
        fixed = ops.stop_gradient(x)
        sums = _replica_mean(
            ops.concatenate([ops.sum(weights, axis=1, keepdims=True), weights @ fixed], axis=1)
        )
        total = ops.maximum(sums[:, :1], 1e-12)
        mean = sums[:, 1:] / total
        variance = _replica_mean(weights @ ops.square(fixed - mean)) / total
        keep = ops.where(sums[0, 0] > 0, self.momentum, 1.0)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving.value * keep + value[0] * (1 - keep))
        factor = ops.rsqrt(variance + self.epsilon)
        share = weights / total

        @ops.custom_gradient
        def standardise(x: Tensor):
            y = (x - mean) * factor

            def gradient(*args, upstream=None):
                upstream = args[0] if upstream is None else upstream
                everywhere = ops.ones_like(weights)
                of_mean = _replica_mean(everywhere @ upstream) * factor
                of_variance = _replica_mean(everywhere @ (upstream * y)) * factor
                through = (y * of_variance + of_mean) * ops.transpose(share)
                return upstream * factor - through

            return y, gradient

        return ops.reshape(standardise(x), shape)


def _replica_mean(row: Tensor) -> Tensor:
    """The mean over all replicas of a (1, D) of each; ratios of such are those of sums."""
    return ops.moments(row, axes=[0], keepdims=True, synchronized=True)[0]
