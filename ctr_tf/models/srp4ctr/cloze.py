"""Values of masked attributes from an encoder's output."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.losses.cross_entropy import binary_cross_entropy
from ctr_tf.types import Tensor

NONE = -1e9
"""The score of what is out of the question."""


class ClozeHead(keras.layers.Layer):
    """Scores of an attribute's values at masked positions, with the attribute's own table.

    gelu(h W + b) E^T + c (Sun et al. 2019, arXiv:1904.06690, equation 7), a projection each
    attribute.

    Args:
        width: W, of the table.
        values: V, of the attribute.
        states: of h, where it is not W.

    Shapes:
        h (P, states) and table (V, W); returns (P, V).

    Example:
        >>> ClozeHead(4, 7)(ops.ones((3, 4)), ops.ones((7, 4))).shape
        TensorShape([3, 7])
    """

    def __init__(self, width: int, values: int, states: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.projection = keras.layers.Dense(width, activation="gelu", name="projection")
        self.projection.build((None, states or width))
        # Of scores, which are float32 whatever the policy.
        self.bias = self.add_weight(
            name="bias", shape=(values,), initializer="zeros", autocast=False
        )
        self.built = True

    def call(self, h: Tensor, table: Tensor) -> Tensor:
        scores = ops.matmul(self.projection(h), ops.transpose(table))
        return ops.cast(scores, "float32") + self.bias


def softmax_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(scores)_label: (P, V) and (P,) to (P,).

    Example:
        >>> round(float(softmax_loss(ops.zeros((1, 4)), ops.array([2]))[0]), 4)
        1.3863
    """
    own = ops.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    return ops.logsumexp(scores, axis=1) - own


def multi_label_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropies of all values, summed.

    Args:
        scores: (P, V).
        labels: (P, M), which values are there; negative for none.

    Returns:
        (P,).

    Example:
        >>> round(float(multi_label_loss(ops.zeros((1, 4)), ops.array([[2, -1]]))[0]), 4)
        2.7726
    """
    there = ops.max(ops.one_hot(labels, scores.shape[1]), axis=1)
    return ops.sum(binary_cross_entropy(there, scores), axis=1)


def sampled_softmax_loss(own: Tensor, sampled: Tensor) -> Tensor:
    """Softmax cross-entropy of a label among sampled values, scores less log Q.

    Yi et al. 2019, RecSys, section 3.2; Q is how often a value is in the sample on average.

    Args:
        own: s - log Q of each label, (P,).
        sampled: s - log Q of the sampled values, (P, S); `NONE` where one is the label, which
            counts once.

    Returns:
        (P,).

    Example:
        >>> round(float(sampled_softmax_loss(ops.zeros(1), ops.array([[NONE, 0.0]]))[0]), 4)
        0.6931
    """
    return ops.logsumexp(ops.concatenate([own[:, None], sampled], axis=1), axis=1) - own


def chosen(x: Tensor, mask: Tensor) -> Tensor:
    """The rows of x (B, L, ...) where a mask (B, L) is True: (P, ...).

    Example:
        >>> chosen(ops.array([[1, 2], [3, 4]]), ops.array([[False, True], [True, True]])).numpy()
        array([2, 3, 4], dtype=int32)
    """
    flat = ops.reshape(x, (-1, *ops.shape(x)[2:]))
    return ops.take(flat, ops.nonzero(ops.reshape(mask, (-1,)))[0], axis=0)


def placed(values: Tensor, mask: Tensor) -> Tensor:
    """What `chosen` took, back in its places, zeros elsewhere: (P,) to (B, L).

    Example:
        >>> mask = ops.array([[False, True], [True, True]])
        >>> placed(ops.array([2.0, 3.0, 4.0]), mask).numpy().tolist()
        [[0.0, 2.0], [3.0, 4.0]]
    """
    flat = ops.reshape(mask, (-1,))
    places = ops.cast(ops.nonzero(flat)[0], "int32")[:, None]
    return ops.reshape(ops.scatter(places, values, ops.shape(flat)), ops.shape(mask))
