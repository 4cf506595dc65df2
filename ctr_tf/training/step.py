"""The compiled training step, the same under every strategy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from ctr_tf.models.model import CTRModel
from ctr_tf.optimizers.build import Optimizer
from ctr_tf.schema import CANDIDATES_MASK


@dataclass(frozen=True)
class StepStats:
    """What a call of `TrainStep` did, over all replicas.

    Args:
        losses: (S,), of each step: the tasks' weighted losses.
        regularisation: (S,), what regularisers add to it.
        impressions: (S,), candidates trained on.
        stop: whether any worker asked to stop.
    """

    losses: np.ndarray
    regularisation: np.ndarray
    impressions: np.ndarray
    stop: bool


class TrainStep:
    """Optimiser steps over the batches of an iterator, several in one call.

    The loss is sum_t w_t (sum of weights * losses) / (sum of weights), with both sums over all
    candidates of all replicas and of all accumulated batches, plus the regularisers once: a step
    equals that of one device with one large batch. Batch statistics are of a batch over all
    replicas; accumulated batches each have their own.

    Args:
        model: built under `strategy`.
        optimizer: built under `strategy`.
        strategy: whose replicas each take a share of every batch.
        task_weights: the weight of each task's loss; 1 by default.

    Attributes:
        traces: how often the step was traced; shapes of batches do not trace it again.
    """

    def __init__(
        self,
        model: CTRModel,
        optimizer: Optimizer,
        strategy: tf.distribute.Strategy,
        task_weights: dict[str, float],
    ):
        self.model = model
        self.optimizer = optimizer
        self.strategy = strategy
        self.task_weights = {task: task_weights.get(task, 1.0) for task in model.schema.tasks}
        self.traces = 0
        self._compiled = tf.function(self._steps, reduce_retracing=True)

    def __call__(
        self, iterator: Iterator, steps: int, batches: int = 1, stop: bool = False
    ) -> StepStats:
        """Takes `steps` optimiser steps of `batches` batches each.

        Args:
            iterator: see `training_batches`.
            steps: traced once for every number.
            batches: whose gradients one step averages; traced for each number.
            stop: this worker's wish to stop, told to all of them.
        """
        stats = self._compiled(
            iterator, tf.constant(steps), tf.constant(float(stop)), batches=batches
        ).numpy()
        return StepStats(stats[:, 0], stats[:, 1], stats[:, 2], bool(stats[-1, 3] > 0))

    def _steps(
        self, iterator: Iterator, steps: tf.Tensor, stop: tf.Tensor, batches: int
    ) -> tf.Tensor:
        self.traces += 1
        stats = tf.TensorArray(tf.float32, size=steps, element_shape=(4,))
        for step in tf.range(steps):
            taken = [iterator.get_next() for _ in range(batches)]
            done = self.strategy.run(self._update, args=(taken, stop))
            # Replicas agree: what they return is summed over all of them.
            done = self.strategy.experimental_local_results(done)[0]
            stats = stats.write(step, done)
        return stats.stack()

    def _update(self, batches: list[dict], stop: tf.Tensor) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        totals = replica.all_reduce(tf.distribute.ReduceOp.SUM, self._totals(batches, stop))
        weights = dict(zip(self.task_weights, tf.unstack(totals)))
        share = 1.0 / (replica.num_replicas_in_sync * len(batches))
        variables = [variable.value for variable in self.model.trainable_variables]
        gradients, losses = None, tf.zeros((2,))
        for batch in batches:
            with tf.GradientTape() as tape:
                loss = self._loss(batch, weights)
                regularisation = tf.add_n([0.0, *self.model.losses]) * share
                objective = loss + regularisation
                if hasattr(self.optimizer, "scale_loss"):
                    objective = self.optimizer.scale_loss(objective)
            found = tape.gradient(
                objective, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            # Dense: repeated rows of a table have to be summed before they are squared.
            found = [tf.convert_to_tensor(gradient) for gradient in found]
            gradients = found if gradients is None else [a + b for a, b in zip(gradients, found)]
            losses += tf.stack([loss, regularisation])
        *gradients, losses = replica.all_reduce(tf.distribute.ReduceOp.SUM, [*gradients, losses])
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return tf.concat([losses, totals[-2:]], axis=0)

    def _totals(self, batches: list[dict], stop: tf.Tensor) -> tf.Tensor:
        """This replica's label weight of each task, its impressions, its wish to stop."""
        weights = [
            tf.add_n([tf.reduce_sum(batch["weights"][task]) for batch in batches])
            for task in self.task_weights
        ]
        masks = [batch["features"][CANDIDATES_MASK] for batch in batches]
        impressions = tf.add_n([tf.reduce_sum(tf.cast(mask, tf.float32)) for mask in masks])
        return tf.stack([*weights, impressions, stop])

    def _loss(self, batch: dict, totals: dict[str, tf.Tensor]) -> tf.Tensor:
        outputs = self.model(batch["features"], training=True)
        losses = self.model.heads.losses_of(outputs, batch["labels"])
        return tf.add_n(
            [
                weight
                * tf.math.divide_no_nan(
                    tf.reduce_sum(batch["weights"][task] * losses[task]), totals[task]
                )
                for task, weight in self.task_weights.items()
            ]
        )
