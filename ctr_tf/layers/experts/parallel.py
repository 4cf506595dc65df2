"""Several networks of one shape, computed as one."""

from __future__ import annotations

from typing import Sequence

import keras
from keras import ops

from ctr_tf.layers.activation import activation
from ctr_tf.layers.names import Activation
from ctr_tf.types import Tensor


class ParallelDense(keras.layers.Layer):
    """Dense layers of one size, as one product: y_p = x_g W_p + b_p.

    Of G inputs each is read by P / G networks: all of them read one (the experts of MMoE), each has
    its own (the towers of tasks), or anything between (the experts of PLE, several a task).

    Args:
        units: U.
        networks: P.
        use_bias: whether they have biases.

    Shapes:
        x: (M, G, I), G a divisor of P, network p reading input p // (P / G); returns (M, P, U).

    Raises:
        ValueError: G does not divide P.

    Example:
        >>> layer = ParallelDense(2, networks=6)
        >>> layer(ops.ones((4, 3, 5))).shape, layer.kernel.shape
        (TensorShape([4, 6, 2]), TensorShape([6, 5, 2]))
    """

    def __init__(self, units: int, networks: int, use_bias: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.networks = networks
        self.use_bias = use_bias

    def build(self, input_shape):
        groups, width = input_shape[-2:]
        if self.networks % groups:
            raise ValueError(f"inputs must divide the networks, {self.networks}; got {groups}")
        # Glorot's bound of one network: of the whole weight it would count the others' outputs.
        bound = (6.0 / (width + self.units)) ** 0.5
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.networks, width, self.units),
            initializer=keras.initializers.RandomUniform(-bound, bound),
        )
        if self.use_bias:
            shape = (self.networks, self.units)
            self.bias = self.add_weight(name="bias", shape=shape, initializer="zeros")

    def call(self, x: Tensor) -> Tensor:
        groups, width = x.shape[-2:]
        kernel = ops.reshape(ops.cast(self.kernel, x.dtype), (groups, -1, width, self.units))
        kernel = ops.reshape(ops.transpose(kernel, (0, 2, 1, 3)), (groups, width, -1))
        if groups == 1:
            y = ops.matmul(x[:, 0], kernel[0])
        else:
            y = ops.einsum("mgi,gio->mgo", x, kernel)
        y = ops.reshape(y, (-1, self.networks, self.units))
        return y + ops.cast(self.bias, x.dtype) if self.use_bias else y


class ParallelMLP(keras.layers.Layer):
    """MLPs of one shape, every layer of all of them one product.

    Args:
        units: widths of the layers; none leave x as it is.
        networks: P.
        activation_name: of every layer.
        dropout: rate after each activation.

    Shapes:
        x: (M, G, I), G a divisor of P; weights: (M,), the positions that count for batch
        statistics; returns (M, P, units[-1]).

    Example:
        >>> ParallelMLP([8, 4], networks=3)(ops.ones((2, 1, 5))).shape
        TensorShape([2, 3, 4])
    """

    def __init__(
        self,
        units: Sequence[int],
        networks: int,
        activation_name: Activation = "relu",
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.networks = networks
        self.dense = [
            ParallelDense(width, networks, name=f"dense_{i}") for i, width in enumerate(self.units)
        ]
        self.activations = [
            activation(activation_name, f"{activation_name}_{i}") for i in range(len(self.units))
        ]
        self.dropouts = [keras.layers.Dropout(dropout) for _ in self.units] if dropout else []

    def call(self, x: Tensor, weights: Tensor | None = None, training: bool = False) -> Tensor:
        for i, width in enumerate(self.units):
            # A channel of each network is one of the activation's, with statistics of its own.
            y = ops.reshape(self.dense[i](x), (-1, self.networks * width))
            y = self.activations[i](y, weights, training=training)
            if self.dropouts:
                y = self.dropouts[i](y, training=training)
            x = ops.reshape(y, (-1, self.networks, width))
        return x
