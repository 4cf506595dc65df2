"""Softmax over values: all of them, a sample, or the items of a batch."""

from __future__ import annotations

from keras import ops

from ctr_tf.losses.cross_entropy import binary_cross_entropy
from ctr_tf.types import Tensor

NONE = -1e9
"""The score of what is out of the question."""


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
    count = scores.shape[1]
    # What is none has a column of its own, which is cut off.
    own = ops.where(labels < 0, count, labels)
    rows = ops.broadcast_to(ops.arange(ops.shape(own)[0], dtype=own.dtype)[:, None], ops.shape(own))
    places = ops.reshape(ops.stack([rows, own], axis=2), (-1, 2))
    empty = ops.zeros((ops.shape(own)[0], count + 1), scores.dtype)
    there = ops.scatter_update(empty, places, ops.ones_like(places[:, 0], scores.dtype))[:, :count]
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


def in_batch_softmax(
    scores: Tensor, items: Tensor, positive: Tensor, log_q: Tensor | None = None
) -> Tensor:
    """-log softmax of each positive among all items of the batch.

    Yi et al. 2019, RecSys, section 3.2: scores less log Q, so that frequent items are not thought
    worse for being negatives more often. Q is the probability that the batch holds an item; each
    item then counts once, however often the batch has it. What is the same item as the positive is
    no negative.

    Args:
        scores: of each of the batch's items for the request of each positive, (P, C).
        items: what each is, (C,).
        positive: which of them the positive is, (P,).
        log_q: of each item, (C,); None for no correction: an item counts as often as it comes.

    Returns:
        (P,).

    Example:
        >>> scores, items = ops.zeros((1, 3)), ops.array([7, 8, 7])
        >>> round(float(in_batch_softmax(scores, items, ops.array([0]))[0]), 4)
        0.6931
    """
    is_own = ops.arange(ops.shape(items)[0])[None, :] == positive[:, None]
    negative = items[None, :] != ops.take(items, positive)[:, None]
    if log_q is not None:
        scores = scores - log_q[None, :]
        came_before = ops.tril(items[:, None] == items[None, :], -1)
        negative = negative & ~ops.any(came_before, axis=1)[None, :]
    allowed = ops.where(is_own | negative, scores, NONE)
    of_own = ops.sum(ops.where(is_own, scores, 0.0), axis=1)
    return ops.logsumexp(allowed, axis=1) - of_own
