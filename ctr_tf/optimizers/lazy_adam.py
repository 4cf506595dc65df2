"""Adam of the touched rows."""

from __future__ import annotations

import keras
import tensorflow as tf

from ctr_tf.optimizers.sparse import SparseOptimizer


@keras.saving.register_keras_serializable("ctr_tf")
class LazyAdam(SparseOptimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1) of the touched rows.

    With t the number of the update, over all rows: m <- b1 m + (1 - b1) g,
    v <- b2 v + (1 - b2) g^2, w <- w - r sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon).

    Lazy: a row that a batch does not touch keeps w, m and v as they are. Dense Adam would let its
    moments decay and go on moving it by m. So a rare row's moments are those of its own last
    touches, and its steps are longer than dense Adam's after a long rest.

    Args:
        learning_rate: r.
        beta_1, beta_2: b1 and b2.
        epsilon: as in Keras, added to the root before the bias is corrected.
        decay: decoupled weight decay of the touched rows, w <- w - r decay w (AdamW's).
        distinct, name, kwargs: see `SparseOptimizer`.

    Example:
        >>> table = keras.Variable([[1.0], [1.0]])
        >>> optimizer = LazyAdam(0.1)
        >>> optimizer.apply([tf.IndexedSlices([[2.0], [1.0]], [1, 1])], [table])
        >>> [round(float(x), 4) for x in table.numpy()[:, 0]]
        [1.0, 0.9]
    """

    slots = {"momentum": (0.0, False), "velocity": (0.0, False)}
    hyperparameters = ("beta_1", "beta_2", "epsilon", "decay")

    def __init__(
        self,
        learning_rate=0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        decay: float = 0.0,
        distinct: bool = False,
        name: str = "lazy_adam",
        **kwargs,
    ):
        super().__init__(learning_rate, distinct, name, **kwargs)
        self.beta_1, self.beta_2, self.epsilon, self.decay = beta_1, beta_2, epsilon, decay

    def updated(self, weights, gradient, slots, learning_rate, step):
        m = slots["momentum"] + (1 - self.beta_1) * (gradient - slots["momentum"])
        v = slots["velocity"] + (1 - self.beta_2) * (tf.square(gradient) - slots["velocity"])
        rate = learning_rate * tf.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        if self.decay:
            weights = weights * (1 - learning_rate * self.decay)
        weights = weights - rate * m / (tf.sqrt(v) + self.epsilon)
        return weights, {"momentum": m, "velocity": v}
