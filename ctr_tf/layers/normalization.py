"""Batch normalisation that counts valid positions alone."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.layers.compiled import Filled, compiled
from ctr_tf.types import Tensor

# A batch that counts nothing has no mean.
_LEAST = 1e-12


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
            moving = self.moving_mean.value, self.moving_variance.value
            y = standardised(wide, *moving, self.epsilon)
        if self.scale:
            y = y * ops.cast(self.gamma, "float32")
        if self.center:
            y = y + ops.cast(self.beta, "float32")
        return ops.cast(y, x.dtype)

    def _normalised(self, x: Tensor, weights: Tensor | None) -> Tensor:
        flat, column = rows_of(x, weights)
        filled = Filled(ops.shape(flat)[0])
        column = filled.up(column)
        epsilon = ops.convert_to_tensor(self.epsilon, "float32")

        @ops.custom_gradient
        def standardise(x: Tensor):
            x = filled.up(x)
            z, *moments = _standardise(x, column, epsilon)

            def gradient(*args, upstream=None):
                upstream = filled.up((args if upstream is None else upstream)[0])
                of_x = _standardise_gradient(upstream, x, column, *moments, epsilon)
                return filled.cut(of_x)

            return (filled.cut(z), *moments), gradient

        z, *moments = standardise(flat)
        self.move(*moments)
        return ops.reshape(z, ops.shape(x))

    def move(self, total: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Moves the moving statistics towards those of a batch that counted something."""
        keep = ops.where(total[0, 0] > 0, self.momentum, 1.0)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving.value * keep + value[0] * (1 - keep))


@compiled
def _standardise(x: Tensor, weights: Tensor, epsilon: Tensor) -> tuple[Tensor, ...]:
    x = counted(x, weights)
    moments = moments_of(x, weights)
    return standardised(x, *moments[1:], epsilon), *moments


@compiled
def _standardise_gradient(
    upstream: Tensor,
    x: Tensor,
    weights: Tensor,
    total: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: Tensor,
) -> Tensor:
    z = standardised(counted(x, weights), mean, variance, epsilon)
    own = upstream - through_moments(upstream, z, weights, total)
    return own * ops.rsqrt(variance + epsilon)


def rows_of(x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """x (..., D) as (M, D), and the weights of its rows, (M, 1); all 1 by default.

    Example:
        >>> flat, column = rows_of(ops.ones((2, 3, 4)), ops.array([[1.0], [0.0]]))
        >>> flat.shape, ops.reshape(column, (-1,)).numpy().tolist()
        (TensorShape([6, 4]), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    """
    column = ops.ones((*ops.shape(x)[:-1], 1))
    if weights is not None:
        column = column * ops.cast(weights, "float32")[..., None]
    return ops.reshape(x, (-1, x.shape[-1])), ops.reshape(column, (-1, 1))


def counted(x: Tensor, weights: Tensor) -> Tensor:
    """x (M, D), zeros where the weight (M, 1) is 0: a padded row may hold anything."""
    return ops.where(weights > 0, x, 0.0)


def moments_of(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weight in all, (1, 1), weighted mean and variance, (1, D) each, over all replicas.

    The weight is its mean over replicas, as sums are here: their ratios are right.
    """
    sums = _replica_mean(ops.concatenate([_summed(weights), _summed(weights * x)], axis=1))
    total = sums[:, :1]
    mean = sums[:, 1:] / ops.maximum(total, _LEAST)
    squares = _replica_mean(_summed(weights * ops.square(x - mean)))
    variance = squares / ops.maximum(total, _LEAST)
    return total, mean, variance


def standardised(x: Tensor, mean: Tensor, variance: Tensor, epsilon: Tensor | float) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon)."""
    return (x - mean) * ops.rsqrt(variance + epsilon)


def through_moments(gradient: Tensor, z: Tensor, weights: Tensor, total: Tensor) -> Tensor:
    """What the dependence of the moments on x takes off a gradient of the standardised x.

    Args:
        gradient: (M, D), 0 where the weight is 0.
        z: the standardised x, (M, D).
        weights: (M, 1).
        total: see `moments_of`.
    """
    total = ops.maximum(total, _LEAST)
    of_mean = _replica_mean(_summed(gradient)) / total
    of_variance = _replica_mean(_summed(gradient * z)) / total
    return (z * of_variance + of_mean) * weights


def _summed(x: Tensor) -> Tensor:
    return ops.sum(x, axis=0, keepdims=True)


def _replica_mean(row: Tensor) -> Tensor:
    """The mean over all replicas of a (1, D) of each; ratios of such are those of sums."""
    return ops.moments(row, axes=[0], keepdims=True, synchronized=True)[0]
