"""Activations, those with batch statistics included."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.layers.compiled import Filled, compiled
from ctr_tf.layers.names import Activation
from ctr_tf.layers.normalization import (
    MaskedBatchNorm,
    counted,
    moments_of,
    rows_of,
    standardised,
    through_moments,
)
from ctr_tf.types import Tensor


class Dice(keras.layers.Layer):
    """Data-adaptive activation (Zhou et al. 2018, arXiv:1706.06978, equation 4).

    f(s) = p(s) s + (1 - p(s)) alpha s, with p(s) = sigmoid((s - E[s]) / sqrt(Var[s] + epsilon)).
    E and Var are those of the batch's valid positions in training, moving averages afterwards.

    Args:
        epsilon: added to the variance.
        momentum: of the moving averages.

    Shapes:
        x: (..., D); weights: x's shape without its last axis; returns (..., D).

    Example:
        >>> Dice()(ops.zeros((2, 3))).shape
        TensorShape([2, 3])
    """

    def __init__(self, epsilon: float = 1e-8, momentum: float = 0.99, **kwargs):
        super().__init__(**kwargs)
        self.norm = MaskedBatchNorm(
            momentum=momentum, epsilon=epsilon, center=False, scale=False, name="norm"
        )

    def build(self, input_shape):
        self.norm.build(input_shape)
        self.alpha = self.add_weight(name="alpha", shape=(input_shape[-1],), initializer="zeros")

    def call(self, x: Tensor, weights: Tensor | None = None, training: bool = False) -> Tensor:
        if training:
            return ops.cast(self._in_training(ops.cast(x, "float32"), weights), x.dtype)
        norm = self.norm
        epsilon = ops.convert_to_tensor(norm.epsilon, "float32")
        moving = norm.moving_mean.value, norm.moving_variance.value
        alpha = ops.cast(ops.convert_to_tensor(self.alpha), "float32")
        flat = ops.reshape(ops.cast(x, "float32"), (-1, x.shape[-1]))
        filled = Filled(ops.shape(flat)[0])
        y = _dice_of_moving(filled.up(flat), alpha, *moving, epsilon)
        return ops.cast(ops.reshape(filled.cut(y), ops.shape(x)), x.dtype)

    def _in_training(self, x: Tensor, weights: Tensor | None) -> Tensor:
        flat, column = rows_of(x, weights)
        filled = Filled(ops.shape(flat)[0])
        column = filled.up(column)
        epsilon = ops.convert_to_tensor(self.norm.epsilon, "float32")

        @ops.custom_gradient
        def dice(x: Tensor, alpha: Tensor):
            x = filled.up(x)
            y, *moments = _dice(x, column, alpha, epsilon)

            def gradient(*args, upstream=None):
                upstream = filled.up((args if upstream is None else upstream)[0])
                of_x, of_alpha = _dice_gradient(upstream, x, column, alpha, *moments, epsilon)
                return filled.cut(of_x), of_alpha

            return (filled.cut(y), *moments), gradient

        y, *moments = dice(flat, ops.cast(ops.convert_to_tensor(self.alpha), "float32"))
        self.norm.move(*moments)
        return ops.reshape(y, ops.shape(x))


@compiled
def _dice_of_moving(
    x: Tensor, alpha: Tensor, mean: Tensor, variance: Tensor, epsilon: Tensor
) -> Tensor:
    p = ops.sigmoid(standardised(x, mean, variance, epsilon))
    return x * (p * (1 - alpha) + alpha)


@compiled
def _dice(x: Tensor, weights: Tensor, alpha: Tensor, epsilon: Tensor) -> tuple[Tensor, ...]:
    x = counted(x, weights)
    moments = moments_of(x, weights)
    p = ops.sigmoid(standardised(x, *moments[1:], epsilon))
    return x * (p * (1 - alpha) + alpha), *moments


@compiled
def _dice_gradient(
    upstream: Tensor,
    x: Tensor,
    weights: Tensor,
    alpha: Tensor,
    total: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: Tensor,
) -> tuple[Tensor, Tensor]:
    x = counted(x, weights)
    z = standardised(x, mean, variance, epsilon)
    p = ops.sigmoid(z)
    of_gate = upstream * x
    of_alpha = of_gate * (1 - p)
    of_z = of_alpha * p
    own = (of_z - through_moments(of_z, z, weights, total)) * (1 - alpha)
    own = upstream * (p * (1 - alpha) + alpha) + own * ops.rsqrt(variance + epsilon)
    return own, ops.sum(of_alpha, axis=0)


class _Stateless(keras.layers.Layer):
    """A plain activation under the call signature of `Dice`."""

    def __init__(self, function: str, **kwargs):
        super().__init__(**kwargs)
        self.function = keras.activations.get(function)

    def call(self, x: Tensor, weights: Tensor | None = None, training: bool = False) -> Tensor:
        return self.function(x)


class PReLU(keras.layers.Layer):
    """Rectifier with a learned negative slope a channel (He et al. 2015, arXiv:1502.01852, eq. 1).

    Shapes:
        x: (..., D); returns (..., D).
    """

    def build(self, input_shape):
        self.alpha = self.add_weight(
            name="alpha",
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(0.25),
        )

    def call(self, x: Tensor, weights: Tensor | None = None, training: bool = False) -> Tensor:
        return ops.where(x > 0, x, x * ops.cast(self.alpha, x.dtype))


def activation(name: Activation, layer_name: str | None = None) -> keras.layers.Layer:
    """The activation of that name, as a layer called with (x, weights, training).

    Args:
        name: of the activation.
        layer_name: the layer's own name; the activation's by default.

    Raises:
        ValueError: no such activation.

    Example:
        >>> activation("relu")(ops.array([-1.0, 2.0])).numpy().tolist()
        [0.0, 2.0]
    """
    layer_name = layer_name or name
    if name == "dice":
        return Dice(name=layer_name)
    if name == "prelu":
        return PReLU(name=layer_name)
    if name not in ("relu", "leaky_relu", "sigmoid", "tanh", "linear"):
        raise ValueError(f"activation: no activation {name!r}")
    return _Stateless(name, name=layer_name)
