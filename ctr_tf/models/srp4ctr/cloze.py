"""Values of masked attributes from an encoder's output."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.layers.sampling import sample_values
from ctr_tf.types import Tensor


class ClozeHead(keras.layers.Layer):
    """Scores of an attribute's values at masked positions, with the attribute's own table.

    gelu(h W + b) E^T + c (Sun et al. 2019, arXiv:1904.06690, equation 7), a projection each
    attribute.

    Args:
        width: W, of the table.
        values: V, of the attribute.
        states: of h, where it is not W.
        samples: values of a sample for a softmax; 0 for a softmax over all.
        ranked: whether values are in the order of frequency, by which a sample is then drawn.

    Shapes:
        h (P, states) and table (V, W); returns (P, V).

    Example:
        >>> ClozeHead(4, 7)(ops.ones((3, 4)), ops.ones((7, 4))).shape
        TensorShape([3, 7])
    """

    def __init__(
        self,
        width: int,
        values: int,
        states: int | None = None,
        samples: int = 0,
        ranked: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.values, self.samples, self.ranked = values, samples, ranked
        self.projection = keras.layers.Dense(width, activation="gelu", name="projection")
        self.projection.build((None, states or width))
        # Of scores, which are float32 whatever the policy.
        self.bias = self.add_weight(
            name="bias", shape=(values,), initializer="zeros", autocast=False
        )
        self.seed = keras.random.SeedGenerator(name="sample") if samples else None
        self.built = True

    def sample(self, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A sample of values and what is expected of it: see `sample_values`."""
        return sample_values(labels, self.samples, self.values, self.seed, self.ranked)

    def call(self, h: Tensor, table: Tensor) -> Tensor:
        scores = ops.matmul(self.projection(h), ops.transpose(table))
        return ops.cast(scores, "float32") + self.bias
