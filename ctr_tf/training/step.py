"""The compiled training step, the same under every strategy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from ctr_tf.layers.compiled import compiling
from ctr_tf.models.model import CTRModel
from ctr_tf.optimizers.build import Optimizer
from ctr_tf.optimizers.sparse import distinct_rows
from ctr_tf.schema import CANDIDATES_MASK


@dataclass(frozen=True)
class StepStats:
    """What a call of `TrainStep` did, over all replicas.

    Args:
        losses: (S,), of each step: the tasks' weighted losses.
        task_losses: (S,) of each task, without `task_weights`; what `losses_of` weights by itself
            has those weights.
        regularisation: (S,), what regularisers add to it.
        impressions: (S,), candidates trained on.
        gradient_norms: (S,), of all gradients, before clipping; 0 where the loss is scaled, whose
            overflows the optimiser skips by itself.
        stop: whether any worker asked to stop.
    """

    losses: np.ndarray
    task_losses: dict[str, np.ndarray]
    regularisation: np.ndarray
    impressions: np.ndarray
    gradient_norms: np.ndarray
    stop: bool


class TrainStep:
    """Optimiser steps over the batches of an iterator, several in one call.

    The loss is sum_t w_t (sum of weights * losses) / (sum of weights), with both sums over all
    candidates of all replicas and of all accumulated batches, plus the regularisers once: a step
    equals that of one device with one large batch, but for losses among the items of a batch. Batch
    statistics are of a batch over all replicas; accumulated batches each have their own. Gradients
    of embedding tables stay `tf.IndexedSlices`: of each row that a step touches there is one,
    summed.

    Args:
        model: built under `strategy`; it has `tasks`, `losses_of` and an `embedder` with tables.
        optimizer: built under `strategy`.
        strategy: whose replicas each take a share of every batch.
        task_weights: the weight of each task's loss; 1 by default.
        xla: whether layers that pass over many rows are compiled with XLA.

    Attributes:
        traces: how often the step was traced; shapes of batches do not trace it again.
    """

    def __init__(
        self,
        model: CTRModel,
        optimizer: Optimizer,
        strategy: tf.distribute.Strategy,
        task_weights: dict[str, float],
        xla: bool = False,
    ):
        self.model = model
        self.optimizer = optimizer
        self.strategy = strategy
        self.task_weights = {task: task_weights.get(task, 1.0) for task in model.tasks}
        tables = model.embedder.tables
        self._tables = {variable.path for variable in tables.variables} if tables else set()
        self._l2 = tables.l2 if tables else {}
        self.xla = xla
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
        *task_losses, regularisation, norms, impressions, stops = stats.T
        of_tasks = dict(zip(self.task_weights, task_losses))
        losses = sum(weight * of_tasks[task] for task, weight in self.task_weights.items())
        stop = bool(stops[-1] > 0)
        return StepStats(losses, of_tasks, regularisation, impressions, norms, stop)

    def _steps(
        self, iterator: Iterator, steps: tf.Tensor, stop: tf.Tensor, batches: int
    ) -> tf.Tensor:
        self.traces += 1
        shape = (len(self.task_weights) + 4,)
        stats = tf.TensorArray(tf.float32, size=steps, element_shape=shape)
        for step in tf.range(steps):
            taken = [iterator.get_next() for _ in range(batches)]
            with compiling(self.xla):
                done = self.strategy.run(self._update, args=(taken, stop))
            # Replicas agree: what they return is summed over all of them.
            done = self.strategy.experimental_local_results(done)[0]
            stats = stats.write(step, done)
        return stats.stack()

    def _update(self, batches: list[dict], stop: tf.Tensor) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        totals = replica.all_reduce(tf.distribute.ReduceOp.SUM, self._totals(batches, stop))
        label_weights = totals[:-2]
        share = 1.0 / (replica.num_replicas_in_sync * len(batches))
        variables = [variable.value for variable in self.model.trainable_variables]
        task_weights = tf.constant(list(self.task_weights.values()), tf.float32)
        found, losses = [], tf.zeros((len(self.task_weights) + 1,))
        for batch in batches:
            with tf.GradientTape() as tape:
                task_losses = self._losses(batch, label_weights)
                loss = tf.reduce_sum(task_weights * task_losses)
                regularisation = tf.add_n([0.0, *self.model.losses]) * share
                objective = (loss + regularisation) * self._loss_scale()
            found.append(tape.gradient(objective, variables))
            losses += tf.concat([task_losses, [regularisation]], axis=0)
        gradients = [
            self._summed(variable, parts)
            for variable, parts in zip(self.model.trainable_variables, zip(*found))
        ]
        if replica.num_replicas_in_sync > 1:
            # Fewer rows to tell the other replicas of.
            gradients = [_distinct(gradient) for gradient in gradients]
        *gradients, losses = replica.all_reduce(tf.distribute.ReduceOp.SUM, [*gradients, losses])
        gradients, penalty = self._regularised([_distinct(gradient) for gradient in gradients])
        scaled = hasattr(self.optimizer, "scale_loss")
        norm = tf.zeros(()) if scaled else tf.linalg.global_norm(gradients)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        own = tf.stack([losses[-1] + penalty, norm])
        return tf.concat([losses[:-1], own, totals[-2:]], axis=0)

    def _loss_scale(self) -> tf.Tensor | float:
        """What the optimiser divides gradients by."""
        scaled = getattr(self.optimizer, "scale_loss", None)
        return scaled(1.0) if scaled else 1.0

    def _summed(
        self, variable: keras.Variable, parts: Sequence[tf.Tensor | tf.IndexedSlices | None]
    ) -> tf.Tensor | tf.IndexedSlices:
        """One variable's gradient, of the batches' own; None where a batch does not reach it."""
        present = [part for part in parts if part is not None]
        if variable.path in self._tables:
            return _joined(present, variable)
        return tf.add_n(present) if present else tf.zeros(variable.shape, variable.dtype)

    def _regularised(self, gradients: list) -> tuple[list, tf.Tensor]:
        """Gradients with those of the squared norms of the touched rows; the sum of the latter."""
        penalty, scale = tf.zeros(()), self._loss_scale()
        for i, variable in enumerate(self.model.trainable_variables):
            l2 = self._l2.get(variable.path)
            if l2:
                found = gradients[i]
                rows = tf.cast(tf.gather(variable.value, found.indices), tf.float32)
                penalty += l2 * tf.reduce_sum(tf.square(rows))
                values = found.values + 2 * l2 * scale * rows
                gradients[i] = tf.IndexedSlices(values, found.indices, found.dense_shape)
        return gradients, penalty

    def _totals(self, batches: list[dict], stop: tf.Tensor) -> tf.Tensor:
        """This replica's label weight of each task, its impressions, its wish to stop."""
        weights = [
            tf.add_n([tf.reduce_sum(batch["weights"][task]) for batch in batches])
            for task in self.task_weights
        ]
        masks = [batch["features"][CANDIDATES_MASK] for batch in batches]
        impressions = tf.add_n([tf.reduce_sum(tf.cast(mask, tf.float32)) for mask in masks])
        return tf.stack([*weights, impressions, stop])

    def _losses(self, batch: dict, label_weights: tf.Tensor) -> tf.Tensor:
        """This batch's share of each task's loss, (T,), for label weights of all batches."""
        losses = self.model.losses_of(batch["features"], batch["labels"], training=True)
        sums = [tf.reduce_sum(batch["weights"][task] * losses[task]) for task in self.task_weights]
        return tf.math.divide_no_nan(tf.stack(sums), label_weights)


def _joined(parts: Sequence[tf.IndexedSlices], variable: keras.Variable) -> tf.IndexedSlices:
    """Gradients of one table as one, rows as often as they come."""
    shape = tf.constant(list(variable.shape), tf.int64)
    if not parts:
        none = tf.zeros((0, variable.shape[-1]))
        return tf.IndexedSlices(none, tf.zeros((0,), tf.int32), shape)
    values = [part.values for part in parts]
    indices = [part.indices for part in parts]
    if len(parts) == 1:
        return tf.IndexedSlices(values[0], indices[0], shape)
    return tf.IndexedSlices(tf.concat(values, axis=0), tf.concat(indices, axis=0), shape)


def _distinct(gradient: tf.Tensor | tf.IndexedSlices) -> tf.Tensor | tf.IndexedSlices:
    return distinct_rows(gradient) if isinstance(gradient, tf.IndexedSlices) else gradient
