"""Batch normalisation that counts valid positions alone."""

from __future__ import annotations

from collections.abc import Callable

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
        batch = Batch(x, weights)

        @ops.custom_gradient
        def standardise(x: Tensor):
            moments = batch.moments(x)
            y, factor = batch.standardised(moments[2], self.epsilon)

            def gradient(*args, upstream=None):
                upstream = (args if upstream is None else upstream)[0]
                return (upstream - batch.through_moments(upstream, y)) * factor

            return (y, *moments), gradient

        y, *moments = standardise(batch.flat)
        self.move(*moments)
        return ops.reshape(y, batch.shape)

    def move(self, total: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Moves the moving statistics towards those of a batch that counted something."""
        keep = ops.where(total[0, 0] > 0, self.momentum, 1.0)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving.value * keep + value[0] * (1 - keep))


class Batch:
    """Weighted statistics of a batch, and what of a gradient goes through them.

    A function that uses them writes its own gradient: differentiation of the parts would pass over
    x about twice as often, which is what such layers spend their time on.

    Args:
        x: (..., D), float32.
        weights: broadcast to x's shape without its last axis; all count as 1 by default.

    Attributes:
        shape: of x.
        flat: x as (M, D), zeros where the weight is 0.
    """

    def __init__(self, x: Tensor, weights: Tensor | None):
        self.shape = ops.shape(x)
        self.flat = ops.reshape(x, (-1, x.shape[-1]))
        if weights is None:
            self.row, self._uniform = ops.ones((1, ops.shape(self.flat)[0])), None
            return
        ones = ops.ones((*self.shape[:-1], 1))
        self.row = ops.reshape(ones * ops.cast(weights, "float32")[..., None], (1, -1))
        # Packed positions all count: two passes fewer.
        self._uniform = ops.all(self.row == 1.0)
        whole, row = self.flat, self.row
        # A padded position may hold anything, so it is cut out before it is multiplied.
        self.flat = self._unless_uniform(
            whole, lambda: ops.where(ops.transpose(row) > 0, whole, 0.0)
        )

    def _unless_uniform(self, value: Tensor, other: Callable[[], Tensor]) -> Tensor:
        return value if self._uniform is None else ops.cond(self._uniform, lambda: value, other)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weight in all, (1, 1), mean and variance, (1, D) each, over all replicas.

        The weight is its mean over replicas, as sums are here: their ratios are right.
        """
        sums = _replica_mean(
            ops.concatenate([ops.sum(self.row, axis=1, keepdims=True), self.row @ x], axis=1)
        )
        total = sums[:, :1]
        self._total = ops.maximum(total, 1e-12)
        mean = sums[:, 1:] / self._total
        self._centred = x - mean
        variance = _replica_mean(self.row @ ops.square(self._centred)) / self._total
        return total, mean, variance

    def standardised(self, variance: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """What `moments` was of, less its mean, times 1 / sqrt(variance + epsilon); that factor."""
        factor = ops.rsqrt(variance + epsilon)
        return self._centred * factor, factor

    def through_moments(self, gradient: Tensor, standardised: Tensor) -> Tensor:
        """What the dependence of the moments on x takes off a gradient of the standardised x.

        Args:
            gradient: (M, D), 0 where the weight is 0.
            standardised: (M, D).
        """
        ones = ops.ones_like(self.row)
        of_mean = _replica_mean(ones @ gradient) / self._total
        of_variance = _replica_mean(ones @ (gradient * standardised)) / self._total
        found = standardised * of_variance + of_mean
        return self._unless_uniform(found, lambda: found * ops.transpose(self.row))


def _replica_mean(row: Tensor) -> Tensor:
    """The mean over all replicas of a (1, D) of each; ratios of such are those of sums."""
    return ops.moments(row, axes=[0], keepdims=True, synchronized=True)[0]
