"""Dense layers whose input is a concatenation of user-side and candidate-side parts."""

from __future__ import annotations

from typing import Sequence

import keras
from keras import ops

from ctr_tf.layers.activation import activation
from ctr_tf.layers.names import Activation
from ctr_tf.layers.normalization import MaskedBatchNorm
from ctr_tf.types import Tensor


class SplitDense(keras.layers.Layer):
    """A dense layer over concatenated parts, computed a part at a time.

    concat(a, b) @ W + bias = a @ W_a + b @ W_b + bias: the part that depends on the user alone is
    computed once a request. The kernel is one weight, so that initialisation and parameter count
    are those of the dense layer over the concatenation.

    Args:
        units: output width U.
        parts: name of each part, in order of concatenation, and its width; 0 for an absent one.
        use_bias: whether a bias is added, with the part named last.

    Raises:
        ValueError: no part has any width.

    Example:
        >>> layer = SplitDense(2, {"user": 3, "item": 1})
        >>> user = layer.part("user", ops.ones((4, 3)))
        >>> layer.join([user[:, None, :], layer.part("item", ops.ones((4, 5, 1)))]).shape
        TensorShape([4, 5, 2])
    """

    def __init__(self, units: int, parts: dict[str, int], use_bias: bool = True, **kwargs):
        super().__init__(**kwargs)
        total = sum(parts.values())
        if total < 1:
            raise ValueError(f"parts must have some width, got {parts}")
        self.units = units
        self.part_widths = dict(parts)
        self.kernel = self.add_weight(name="kernel", shape=(total, units))
        self.bias = (
            self.add_weight(name="bias", shape=(units,), initializer="zeros") if use_bias else None
        )
        self.built = True

    def rows(self, name: str) -> Tensor:
        """The rows of the kernel that a part is multiplied by: (part width, U)."""
        start = 0
        for other, width in self.part_widths.items():
            if other == name:
                return self.kernel[start : start + width]
            start += width
        raise ValueError(f"no part {name!r}; parts: {', '.join(self.part_widths)}")

    def part(self, name: str, x: Tensor | None) -> Tensor | None:
        """x (..., part width) times its rows of the kernel: (..., U); None for an absent part."""
        return None if x is None else ops.matmul(x, ops.cast(self.rows(name), x.dtype))

    def join(self, products: Sequence[Tensor | None], bias: bool = True) -> Tensor:
        """The sum of the parts' products, broadcast against each other, plus the bias.

        Args:
            products: of `part`; None for an absent part.
            bias: whether it is added, to the first product: that with fewest positions is best
                given first. A product that came out of `join` has it already.
        """
        first, *others = [product for product in products if product is not None]
        result = first
        if bias and self.bias is not None:
            result = first + ops.cast(self.bias, first.dtype)
        for product in others:
            result = result + product
        return result


class MLP(keras.layers.Layer):
    """Dense layers, each with optional batch normalisation, an activation and dropout.

    Args:
        units: widths of the layers.
        activation_name: of every layer.
        batch_norm: whether each layer normalises before its activation.
        dropout: rate after each activation.
        first: whether the first layer's product is given by the caller (see `SplitMLP`).

    Shapes:
        x: (..., D); weights: x's shape without its last axis, the positions that count for batch
        statistics; returns (..., units[-1]).

    Example:
        >>> MLP([8, 4])(ops.ones((2, 3))).shape
        TensorShape([2, 4])
    """

    def __init__(
        self,
        units: Sequence[int],
        activation_name: Activation = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        first: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.first = first
        self.dense = [
            keras.layers.Dense(width, name=f"dense_{i}")
            for i, width in enumerate(self.units)
            if first or i
        ]
        self.norms = [
            MaskedBatchNorm(name=f"norm_{i}") for i in range(len(self.units) * batch_norm)
        ]
        self.activations = [
            activation(activation_name, f"{activation_name}_{i}") for i in range(len(self.units))
        ]
        self.dropouts = [keras.layers.Dropout(dropout) for _ in self.units] if dropout else []

    def call(self, x: Tensor, weights: Tensor | None = None, training: bool = False) -> Tensor:
        for i in range(len(self.units)):
            if self.first or i:
                x = self.dense[i - (not self.first)](x)
            if self.norms:
                x = self.norms[i](x, weights, training=training)
            x = self.activations[i](x, weights, training=training)
            if self.dropouts:
                x = self.dropouts[i](x, training=training)
        return x


class SplitMLP(keras.layers.Layer):
    """An MLP over a concatenation of parts, whose first layer is computed a part at a time.

    Args:
        parts: name and width of each part, in order of concatenation.
        units, activation_name, batch_norm, dropout: as of `MLP`.

    Example:
        >>> mlp = SplitMLP({"user": 3, "item": 2}, [8, 4])
        >>> user = mlp.part("user", ops.ones((2, 3)))
        >>> item = mlp.part("item", ops.ones((2, 5, 2)))
        >>> mlp([user[:, None, :], item]).shape
        TensorShape([2, 5, 4])
    """

    def __init__(
        self,
        parts: dict[str, int],
        units: Sequence[int],
        activation_name: Activation = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.part_widths = dict(parts)
        with keras.name_scope(self.name):
            self.split = SplitDense(units[0], parts, name="split")
        self.rest = MLP(units, activation_name, batch_norm, dropout, first=False, name="rest")

    def part(self, name: str, x: Tensor | None) -> Tensor | None:
        """The first layer's product of one part."""
        return self.split.part(name, x)

    def call(
        self,
        products: Sequence[Tensor | None],
        weights: Tensor | None = None,
        training: bool = False,
        bias: bool = True,
    ) -> Tensor:
        return self.rest(self.split.join(products, bias), weights, training=training)
