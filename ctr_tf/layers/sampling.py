"""What sampling values needs."""

from __future__ import annotations

from ctr_tf.types import Tensor


def log_uniform_sample(labels: Tensor, samples: int, values: int) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct values, drawn with a probability that falls with their rank (Zipf's law).

    Value k of V is drawn with probability log((k + 2) / (k + 1)) / log(V + 1), until there are
    enough that differ; vocabularies are in the order of frequency.

    Args:
        labels: (P,), from 0.
        samples: S; all values where there are fewer.
        values: V.

    Returns:
        values (S,), and how often each label (P,) and each value of the sample (S,) is in as many
        draws as it took.

    Example:
        >>> from keras import ops
        >>> drawn, of_labels, _ = log_uniform_sample(ops.array([0, 3]), 9, 4)
        >>> sorted(drawn.numpy().tolist()), bool(of_labels[0] > of_labels[1])
        ([0, 1, 2, 3], True)
    """
    import tensorflow as tf

    drawn, of_labels, of_drawn = tf.random.log_uniform_candidate_sampler(
        tf.cast(labels, tf.int64)[:, None], 1, min(samples, values), True, values
    )
    return tf.cast(drawn, labels.dtype), of_labels[:, 0], of_drawn


def rank_among(ascending: Tensor, values: Tensor) -> Tensor:
    """How many numbers of its row are at most each value.

    Args:
        ascending: (B, L), each row in order.
        values: (B, M).

    Returns:
        (B, M) int32.

    Example:
        >>> from keras import ops
        >>> rank_among(ops.array([[1, 3, 3]]), ops.array([[0, 3, 9]])).numpy().tolist()
        [[0, 3, 3]]
    """
    import tensorflow as tf

    return tf.searchsorted(ascending, values, side="right")
