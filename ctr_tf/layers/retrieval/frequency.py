"""How often items come up in training batches."""

from __future__ import annotations

import keras

from ctr_tf.types import Tensor


class ItemFrequency(keras.layers.Layer):
    """The probability that a batch holds an item, estimated while batches go by.

    Yi et al. 2019, RecSys, "Sampling-bias-corrected neural modeling", algorithm 2: with t the
    batch's number, A the number of the last batch with the item and B the mean gap between such
    batches, B <- (1 - a) B + a (t - A), A <- t; the probability is 1 / B. The rate a of an item's
    n-th gap is max(`rate`, 1 / n): its first gaps are averaged alike, so that B does not depend on
    a first value, which rare items would never forget.

    Of several replicas, which share each batch, the first one's shares are counted; an item that it
    has not met yet has the gap from the beginning. Rows of the item's embedding table stand for
    items, as the paper's hashes do.

    Args:
        rows: of the items' table.
        rate: the least weight of a new gap; the smaller, the longer it remembers.

    Shapes:
        items: (P,) rows, as often as they come; returns (P,).

    Example:
        >>> from keras import ops
        >>> frequency = ItemFrequency(3)
        >>> [frequency(ops.array(items)).numpy().tolist() for items in ([1, 2, 1], [2], [1])]
        [[1.0, 1.0, 1.0], [1.0], [0.6666666865348816]]
    """

    def __init__(self, rows: int, rate: float = 0.01, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        kept = {"initializer": "zeros", "trainable": False, "autocast": False}
        kept["aggregation"] = "only_first_replica"
        self.batch = self.add_weight(name="batch", shape=(), dtype="int64", **kept)
        # Whole numbers too: integers of a GPU are scattered on the CPU.
        kept |= {"shape": (rows,), "dtype": "float32"}
        self.last = self.add_weight(name="last", **kept)
        self.gaps = self.add_weight(name="gaps", **kept)
        self.mean_gap = self.add_weight(name="mean_gap", **kept)
        self.built = True

    def call(self, items: Tensor) -> Tensor:
        import tensorflow as tf

        distinct, _ = tf.unique(items)
        batch = self.batch.value + 1
        now = tf.cast(batch, "float32")
        gaps = tf.gather(self.gaps.value, distinct) + 1
        mean = tf.gather(self.mean_gap.value, distinct)
        gap = now - tf.gather(self.last.value, distinct)
        mean += tf.maximum(self.rate, 1 / gaps) * (gap - mean)
        last = tf.fill(tf.shape(distinct), now)
        for variable, values in ((self.last, last), (self.gaps, gaps), (self.mean_gap, mean)):
            variable.value.scatter_update(tf.IndexedSlices(values, distinct))
        self.batch.assign(batch)
        found = tf.gather(self.mean_gap.value, items)
        return 1 / tf.where(found > 0, found, now)
