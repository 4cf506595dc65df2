"""Heads: from a body's representation to named outputs, each with its link and its loss."""

from __future__ import annotations

from typing import Iterable

import keras
from keras import ops

from ctr_tf.models.architecture import layers_of
from ctr_tf.models.multitask import TaskNetwork
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
    """A logit for each binary task: that of a network, plus the body's own logit.

    The link is the logistic function, the loss cross-entropy.

    Args:
        tasks: names of the tasks.
        network: from the representation to the tasks' logits; by default a Dense(1) each.
        logit_alone: whether the body has no vector: a head is then a bias alone.

    Attributes:
        outputs: names of the outputs, the tasks' first.

    Shapes:
        vector (B, N, H) or None, own_logit (B, N); weights (B, N), the candidates that count for
        batch statistics; each output (B, N).

    Example:
        >>> heads = BinaryHeads(["click"])
        >>> outputs = heads(ops.ones((2, 3, 4)))
        >>> outputs["click"].shape
        TensorShape([2, 3])
    """

    def __init__(
        self,
        tasks: Iterable[str],
        network: TaskNetwork | None = None,
        logit_alone: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.tasks = tuple(tasks)
        self.network = network
        self.logit_alone = logit_alone
        self.outputs = (*self.tasks, *(network.further if network else ()))
        if network is None:
            self.dense = {
                task: Bias(name=task) if logit_alone else keras.layers.Dense(1, name=task)
                for task in self.tasks
            }
        else:
            self.network_layers = layers_of(network)

    def call(
        self,
        vector: Tensor | None,
        own_logit: Tensor | None = None,
        weights: Tensor | None = None,
        training: bool = False,
    ) -> Outputs:
        if self.logit_alone:
            return {task: self.dense[task](ops.cast(own_logit, "float32")) for task in self.tasks}
        outputs = {}
        for task, logit in self._logits(vector, weights, training).items():
            logit = ops.cast(logit, "float32")
            if own_logit is not None:
                logit = logit + ops.cast(own_logit, "float32")
            outputs[task] = logit
        return self.network.outputs(outputs) if self.network else outputs

    def _logits(self, vector: Tensor, weights: Tensor | None, training: bool) -> Outputs:
        if self.network is None:
            return {task: self.dense[task](vector)[..., 0] for task in self.tasks}
        flat = ops.reshape(vector, (-1, vector.shape[-1]))
        weights = None if weights is None else ops.reshape(weights, (-1,))
        logits = self.network(flat, weights, training)
        logits = ops.reshape(logits, (*ops.shape(vector)[:2], len(self.tasks)))
        return {task: logits[..., k] for k, task in enumerate(self.tasks)}

    def scores(self, outputs: Outputs) -> Outputs:
        """The probability of each output's label, (B, N)."""
        return {name: ops.sigmoid(outputs[name]) for name in self.outputs}

    def losses_of(self, outputs: Outputs, labels: Outputs) -> Outputs:
        """The cross-entropy of each candidate, (B, N) per task; see `ctr_tf.losses`."""
        from ctr_tf.losses.cross_entropy import binary_cross_entropy

        labels = self.network.labels(labels) if self.network else labels
        return {task: binary_cross_entropy(labels[task], outputs[task]) for task in self.tasks}
