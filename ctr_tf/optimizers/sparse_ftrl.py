"""FTRL-proximal of the touched rows."""

from __future__ import annotations

import keras
import tensorflow as tf

from ctr_tf.optimizers.sparse import SparseOptimizer


@keras.saving.register_keras_serializable("ctr_tf")
class SparseFtrl(SparseOptimizer):
    """FTRL-proximal (McMahan et al. 2013, KDD, algorithm 1) of the touched rows.

    n' = n + g^2, z <- z + g - (sqrt(n') - sqrt(n)) / r w, n <- n', and
    w = 0 where |z| <= l1, else (sign(z) l1 - z) / ((beta + sqrt(n)) / r + 2 l2). Keras' dense form
    rewrites every row at each step from z; a row that no batch touches keeps its initial value
    here.

    Args:
        learning_rate: r.
        l1, l2: strengths of the penalties.
        beta: of the rate.
        initial_accumulator: of n.
        distinct, name, kwargs: see `SparseOptimizer`.

    Example:
        >>> table = keras.Variable([[0.0], [0.0]])
        >>> optimizer = SparseFtrl(0.5, initial_accumulator=0.0)
        >>> optimizer.apply([tf.IndexedSlices([[3.0]], [0])], [table])
        >>> table.numpy().tolist()
        [[-0.5], [0.0]]
    """

    hyperparameters = ("l1", "l2", "beta", "initial_accumulator")

    def __init__(
        self,
        learning_rate=0.001,
        l1: float = 0.0,
        l2: float = 0.0,
        beta: float = 0.0,
        initial_accumulator: float = 0.1,
        distinct: bool = False,
        name: str = "sparse_ftrl",
        **kwargs,
    ):
        super().__init__(learning_rate, distinct, name, **kwargs)
        self.l1, self.l2, self.beta = l1, l2, beta
        self.initial_accumulator = initial_accumulator

    @property
    def slots(self):
        return {"accumulator": (self.initial_accumulator, False), "linear": (0.0, False)}

    def updated(self, weights, gradient, slots, learning_rate, step):
        total = slots["accumulator"] + tf.square(gradient)
        sigma = (tf.sqrt(total) - tf.sqrt(slots["accumulator"])) / learning_rate
        linear = slots["linear"] + gradient - sigma * weights
        scale = (self.beta + tf.sqrt(total)) / learning_rate + 2 * self.l2
        weights = (tf.clip_by_value(linear, -self.l1, self.l1) - linear) / scale
        return weights, {"accumulator": total, "linear": linear}
