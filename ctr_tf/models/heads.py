"""Heads: from a body's representation to named outputs, each with its link and its loss."""

from __future__ import annotations

from typing import Iterable

import keras
from keras import ops

from ctr_tf.types import Tensor

Outputs = dict[str, Tensor]


class Bias(keras.layers.Layer):
    """Adds a learned number: the head of a body that makes its logit itself.

    Shapes:
        logit (B, N); returns (B, N).

    Example:
        >>> Bias()(ops.ones((2, 3))).shape
        TensorShape([2, 3])
    """

    def build(self, input_shape):
        self.bias = self.add_weight(name="bias", shape=(1,), initializer="zeros")

    def call(self, logit: Tensor) -> Tensor:
        return logit + ops.cast(self.bias, logit.dtype)


class BinaryHeads(keras.layers.Layer):
    """A logit for each binary task: Dense(1) over the representation plus the body's own logit.

    The link is the logistic function, the loss cross-entropy.

    Args:
        tasks: names of the tasks.
        logit_alone: whether the body has no vector: a head is then a bias alone.

    Shapes:
        vector (B, N, H) or None, own_logit (B, N); each output (B, N).

    Example:
        >>> heads = BinaryHeads(["click"])
        >>> outputs = heads(ops.ones((2, 3, 4)))
        >>> outputs["click"].shape
        TensorShape([2, 3])
    """

    def __init__(self, tasks: Iterable[str], logit_alone: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.tasks = tuple(tasks)
        self.logit_alone = logit_alone
        self.dense = {
            task: Bias(name=task) if logit_alone else keras.layers.Dense(1, name=task)
            for task in self.tasks
        }

    def call(self, vector: Tensor | None, own_logit: Tensor | None = None) -> Outputs:
        outputs = {}
        for task in self.tasks:
            if self.logit_alone:
                outputs[task] = self.dense[task](ops.cast(own_logit, "float32"))
                continue
            logit = ops.cast(self.dense[task](vector)[..., 0], "float32")
            if own_logit is not None:
                logit = logit + ops.cast(own_logit, "float32")
            outputs[task] = logit
        return outputs

    def scores(self, outputs: Outputs) -> Outputs:
        """The probability of each task's label, (B, N)."""
        return {task: ops.sigmoid(outputs[task]) for task in self.tasks}

    def losses_of(self, outputs: Outputs, labels: Outputs) -> Outputs:
        """The cross-entropy of each candidate, (B, N) per task; see `ctr_tf.losses`."""
        from ctr_tf.losses.cross_entropy import binary_cross_entropy

        return {task: binary_cross_entropy(labels[task], outputs[task]) for task in self.tasks}
