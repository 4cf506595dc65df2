"""Heads: from a body's representation to named outputs, each with its link and its loss."""

from __future__ import annotations

from typing import Iterable

import keras
from keras import ops

from ctr_tf.types import Tensor

Outputs = dict[str, Tensor]


class BinaryHeads(keras.layers.Layer):
    """A logit for each binary task: Dense(1) over the representation plus the body's own logit.

    The link is the logistic function, the loss cross-entropy.

    Args:
        tasks: names of the tasks.

    Shapes:
        vector (B, N, H), own_logit (B, N); each output (B, N).

    Example:
        >>> heads = BinaryHeads(["click"])
        >>> outputs = heads(ops.ones((2, 3, 4)))
        >>> outputs["click"].shape
        TensorShape([2, 3])
    """

    def __init__(self, tasks: Iterable[str], **kwargs):
        super().__init__(**kwargs)
        self.tasks = tuple(tasks)
        self.dense = {task: keras.layers.Dense(1, name=task) for task in self.tasks}

    def call(self, vector: Tensor, own_logit: Tensor | None = None) -> Outputs:
        outputs = {}
        for task in self.tasks:
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
