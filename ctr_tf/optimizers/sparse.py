"""Optimisers of embedding tables: they read and write the rows of a batch alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from ctr_tf.optimizers.rounding import stochastic_round
from ctr_tf.types import Tensor

Slots = dict[str, Tensor]


def distinct_rows(slices: tf.IndexedSlices) -> tf.IndexedSlices:
    """The same gradient with each row once: values of repeated indices are summed.

    Example:
        >>> found = distinct_rows(tf.IndexedSlices([[1.0], [2.0], [4.0]], [7, 3, 7]))
        >>> found.indices.numpy().tolist(), found.values.numpy().tolist()
        ([7, 3], [[5.0], [2.0]])
    """
    rows, place = tf.unique(slices.indices)
    values = tf.math.unsorted_segment_sum(slices.values, place, tf.size(rows))
    return tf.IndexedSlices(values, rows, slices.dense_shape)


class SparseOptimizer(keras.optimizers.Optimizer):
    """The base of the optimisers below: a step costs by the rows in the batch, not by the table.

    A gradient of a gather names its rows; repeated ones are summed first. Their weights and slots
    are gathered, updated and scattered back; no other row is read or written. A dense gradient
    touches every row. Slots are float32 whatever the table is stored in; a table of half precision
    is rounded stochastically, so that updates below its precision count on average.

    Args:
        learning_rate: a number or a schedule.
        distinct: whether gradients come with each row once, as those of the training step do.
        name: of the optimiser.
        kwargs: of `keras.optimizers.Optimizer`: `clipnorm`, `clipvalue`, `global_clipnorm`, which
            see repeated rows summed.

    Raises:
        ValueError: an option that would read whole tables (weight decay, moving averages,
            accumulated gradients; the training step accumulates) or divides gradients again.
    """

    # Slot name to the initial value, and whether it has one number a row.
    slots: ClassVar[dict[str, tuple[float, bool]]] = {}
    # Attributes that the constructor takes, besides those of this class.
    hyperparameters: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
        distinct: bool,
        name: str,
        **kwargs: Any,
    ):
        reading_all = ("weight_decay", "use_ema", "gradient_accumulation_steps")
        for option in (*reading_all, "loss_scale_factor"):
            if kwargs.get(option):
                raise ValueError(f"{option}: not for an optimiser of touched rows")
        super().__init__(learning_rate, name=name, **kwargs)
        self.distinct = distinct

    def build(self, var_list: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(var_list)
        self._slots = [
            {name: self._slot(variable, name) for name in self.slots} for variable in var_list
        ]

    def _slot(self, variable: keras.Variable, name: str) -> keras.Variable:
        initial, one_a_row = self.slots[name]
        with self._distribution_strategy.extended.colocate_vars_with(variable.value):
            return self.add_variable(
                shape=variable.shape[:1] if one_a_row else variable.shape,
                initializer=lambda shape, dtype: tf.fill(shape, tf.cast(initial, dtype)),
                dtype="float32",
                name=f"{variable.path.replace('/', '_')}_{name}",
            )

    def slots_of(self, variable: keras.Variable) -> dict[str, keras.Variable]:
        """The slots of a variable by name: (rows, width), or (rows,) of one number a row."""
        return self._slots[self._get_variable_index(variable)]

    def update_step(
        self, gradient: Tensor | tf.IndexedSlices, variable: tf.Variable, learning_rate: Tensor
    ) -> None:
        if not isinstance(gradient, tf.IndexedSlices):
            gradient = tf.IndexedSlices(gradient, tf.range(tf.shape(gradient)[0]))
        elif not self.distinct:
            gradient = distinct_rows(gradient)
        rows = gradient.indices
        slots = self.slots_of(variable)
        before = {name: tf.gather(slot.value, rows) for name, slot in slots.items()}
        weights, after = self.updated(
            tf.cast(tf.gather(variable, rows), tf.float32),
            tf.cast(gradient.values, tf.float32),
            before,
            tf.cast(learning_rate, tf.float32),
            tf.cast(self.iterations.value + 1, tf.float32),
        )
        if variable.dtype != tf.float32:
            seed = tf.stack(
                [self._get_variable_index(variable), tf.cast(self.iterations, tf.int32)]
            )
            weights = stochastic_round(weights, variable.dtype, seed)
        variable.scatter_update(tf.IndexedSlices(weights, rows))
        for name, value in after.items():
            slots[name].value.scatter_update(tf.IndexedSlices(value, rows))

    def updated(
        self, weights: Tensor, gradient: Tensor, slots: Slots, learning_rate: Tensor, step: Tensor
    ) -> tuple[Tensor, Slots]:
        """Weights and slots of some rows after an update.

        Args:
            weights: (R, D).
            gradient: (R, D), summed over the batch.
            slots: by name, (R, D) or (R, 1) each.
            learning_rate: of this update.
            step: number of this update, from 1.
        """
        raise TypeError(f"{type(self).__name__} defines no update")

    def _clip_gradients(self, grads: list) -> list:
        if not (self.clipnorm or self.global_clipnorm or self.clipvalue):
            return grads
        if not self.distinct:
            sparse = (tf.IndexedSlices,)
            grads = [distinct_rows(g) if isinstance(g, sparse) else g for g in grads]
        if self.global_clipnorm:
            return tf.clip_by_global_norm(grads, self.global_clipnorm)[0]
        if self.clipnorm:
            return [tf.clip_by_global_norm([g], self.clipnorm)[0][0] for g in grads]
        return [_clipped(g, self.clipvalue) for g in grads]

    def get_config(self) -> dict:
        own = {key: getattr(self, key) for key in ("distinct", *self.hyperparameters)}
        return {**super().get_config(), **own}


def _clipped(gradient: Tensor | tf.IndexedSlices, bound: float) -> Tensor | tf.IndexedSlices:
    if not isinstance(gradient, tf.IndexedSlices):
        return tf.clip_by_value(gradient, -bound, bound)
    values = tf.clip_by_value(gradient.values, -bound, bound)
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
