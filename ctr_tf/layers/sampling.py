"""What sampling values needs."""

from __future__ import annotations

import math

import keras
from keras import ops

from ctr_tf.types import Tensor


def sample_values(
    labels: Tensor, samples: int, values: int, seed: keras.random.SeedGenerator, ranked: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, each drawn by itself, with a probability that falls with its rank (Zipf's law).

    Value k of V is drawn with probability log((k + 2) / (k + 1)) / log(V + 1). Where values are in
    no order of frequency each is as likely.

    Args:
        labels: (P,), from 0.
        samples: S.
        values: V.
        seed: its state is saved with a model's weights.
        ranked: whether values are in the order of frequency.

    Returns:
        values (S,), and how often each label (P,) and each value of the sample (S,) is drawn on
        average, float32.

    Example:
        >>> seed = keras.random.SeedGenerator(1)
        >>> drawn, of_labels, _ = sample_values(ops.array([0, 1]), 6, 2, seed)
        >>> len(drawn), [round(float(count), 2) for count in of_labels]
        (6, [3.79, 2.21])
    """
    # In float32 the far values of a large vocabulary could not be told from each other.
    share = keras.random.uniform((samples,), dtype="float64", seed=seed)

    def expected(found: Tensor) -> Tensor:
        if not ranked:
            return ops.full(ops.shape(found), samples / values, "float32")
        chance = ops.log1p(1 / (1 + ops.cast(found, "float32"))) / math.log(values + 1)
        return samples * chance

    drawn = ops.expm1(share * math.log(values + 1)) if ranked else share * values
    drawn = ops.minimum(ops.cast(drawn, labels.dtype), values - 1)
    return drawn, expected(labels), expected(drawn)


def rank_among(ascending: Tensor, values: Tensor) -> Tensor:
    """How many numbers of its row are at most each value.

    Args:
        ascending: (B, L), each row in order.
        values: (B, M).

    Returns:
        (B, M) int32.

    Example:
        >>> rank_among(ops.array([[1, 3, 3]]), ops.array([[0, 3, 9]])).numpy().tolist()
        [[0, 3, 3]]
    """
    import tensorflow as tf

    return tf.searchsorted(ascending, values, side="right")
