"""Gradient descent of the touched rows."""

from __future__ import annotations

import keras

from ctr_tf.optimizers.sparse import SparseOptimizer


@keras.saving.register_keras_serializable("ctr_tf")
class SparseSGD(SparseOptimizer):
    """Gradient descent of the touched rows: w <- w - r g.

    Args:
        learning_rate: r.
        distinct, name, kwargs: see `SparseOptimizer`.

    Example:
        >>> import tensorflow as tf
        >>> table = keras.Variable([[1.0], [1.0]])
        >>> SparseSGD(0.5).apply([tf.IndexedSlices([[1.0], [1.0]], [0, 0])], [table])
        >>> table.numpy().tolist()
        [[0.0], [1.0]]
    """

    def __init__(
        self, learning_rate=0.01, distinct: bool = False, name: str = "sparse_sgd", **kwargs
    ):
        super().__init__(learning_rate, distinct, name, **kwargs)

    def updated(self, weights, gradient, slots, learning_rate, step):
        return weights - learning_rate * gradient, {}
