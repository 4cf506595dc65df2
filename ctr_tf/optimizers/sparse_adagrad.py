"""Adagrad of the touched rows, with an accumulator an element or a row."""

from __future__ import annotations

import keras
import tensorflow as tf

from ctr_tf.optimizers.sparse import SparseOptimizer


@keras.saving.register_keras_serializable("ctr_tf")
class SparseAdagrad(SparseOptimizer):
    """Adagrad (Duchi et al. 2011, JMLR 12, section 1.1) of the touched rows; nothing in it is lazy.

    a <- a + g^2, w <- w - r g / sqrt(a + epsilon); a row without a gradient stays as it is in the
    dense form too. As in Keras, a starts at `initial_accumulator`.

    Args:
        learning_rate: r.
        initial_accumulator: of a.
        epsilon: added under the root.
        distinct, name, kwargs: see `SparseOptimizer`.

    Example:
        >>> table = keras.Variable([[1.0], [1.0]])
        >>> optimizer = SparseAdagrad(0.1, initial_accumulator=0.0)
        >>> optimizer.apply([tf.IndexedSlices([[4.0], [-1.0]], [1, 1])], [table])
        >>> [round(float(x), 4) for x in table.numpy()[:, 0]]
        [1.0, 0.9]
    """

    hyperparameters = ("initial_accumulator", "epsilon")

    def __init__(
        self,
        learning_rate=0.001,
        initial_accumulator: float = 0.1,
        epsilon: float = 1e-7,
        distinct: bool = False,
        name: str = "sparse_adagrad",
        **kwargs,
    ):
        super().__init__(learning_rate, distinct, name, **kwargs)
        self.initial_accumulator, self.epsilon = initial_accumulator, epsilon

    @property
    def slots(self):
        return {"accumulator": (self.initial_accumulator, False)}

    def updated(self, weights, gradient, slots, learning_rate, step):
        total = slots["accumulator"] + tf.square(gradient)
        weights = weights - learning_rate * gradient * tf.math.rsqrt(total + self.epsilon)
        return weights, {"accumulator": total}


@keras.saving.register_keras_serializable("ctr_tf")
class RowWiseAdagrad(SparseOptimizer):
    """Adagrad with one accumulator a row, as FBGEMM and TorchRec call it (exact, row-wise).

    a <- a + mean_d g_d^2, w <- w - r g / (sqrt(a) + epsilon): a slot of 1 / D of the table.

    Args:
        learning_rate: r.
        initial_accumulator: of a.
        epsilon: added to the root.
        distinct, name, kwargs: see `SparseOptimizer`.

    Example:
        >>> table = keras.Variable([[1.0, 1.0], [1.0, 1.0]])
        >>> optimizer = RowWiseAdagrad(0.5)
        >>> optimizer.apply([tf.IndexedSlices([[1.0, 7.0]], [0])], [table])
        >>> [round(float(x), 4) for x in table.numpy().flatten()]
        [0.9, 0.3, 1.0, 1.0]
    """

    hyperparameters = ("initial_accumulator", "epsilon")

    def __init__(
        self,
        learning_rate=0.001,
        initial_accumulator: float = 0.0,
        epsilon: float = 1e-8,
        distinct: bool = False,
        name: str = "row_wise_adagrad",
        **kwargs,
    ):
        super().__init__(learning_rate, distinct, name, **kwargs)
        self.initial_accumulator, self.epsilon = initial_accumulator, epsilon

    @property
    def slots(self):
        return {"accumulator": (self.initial_accumulator, True)}

    def updated(self, weights, gradient, slots, learning_rate, step):
        total = slots["accumulator"] + tf.reduce_mean(tf.square(gradient), axis=-1)
        scale = learning_rate / (tf.sqrt(total) + self.epsilon)
        return weights - scale[:, None] * gradient, {"accumulator": total}
