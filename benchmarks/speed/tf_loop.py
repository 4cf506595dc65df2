"""Batches and `fit` of the Keras sides; needs TensorFlow, not the stack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import tensorflow as tf

from benchmarks.speed.measure import Clock
from benchmarks.speed.workloads import Workload


def shuffled(rows: int, batch: int, seed: int = 1) -> tf.data.Dataset:
    """`measure.shuffled` as a dataset; `from_generator` would change malloc's settings."""

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(rows), tf.stack([tf.cast(seed, tf.int64), number])
        )
        batches = tf.reshape(order[: rows // batch * batch], (-1, batch))
        return tf.data.Dataset.from_tensor_slices(batches)

    return tf.data.Dataset.range(2**31).flat_map(epoch)


def batches(
    workload: Workload, arrays: dict[str, np.ndarray], names: dict[str, str], seed: int = 1
) -> tf.data.Dataset:
    """(inputs by name, label) of each batch, gathered as our side gathers them.

    Args:
        workload: its rows and batch.
        arrays: what to gather from.
        names: the model's input of each array that has another name there.
        seed: of the order.
    """
    held = {names.get(name, name): tf.constant(value) for name, value in arrays.items()}

    def batch(rows: tf.Tensor) -> tuple[dict, tf.Tensor]:
        taken = {name: tf.gather(value, rows) for name, value in held.items()}
        label = taken.pop("label")[:, None]
        taken.pop("length", None)
        return taken, label

    return shuffled(workload.rows, workload.batch, seed).map(batch, 2).prefetch(2)


def timed(
    step: Callable[[int], object], clock: Clock, steps: int, profile: Path | None = None
) -> None:
    """Calls a function of several steps while the clock wants more.

    Args:
        step: called with `steps`.
        clock: counts steps.
        steps: of a call.
        profile: folder of a profile of what is timed; none by default.
    """
    wanted, profiled = True, False
    while wanted:
        if profile and clock.warm and not profiled:
            tf.profiler.experimental.start(str(profile))
            profiled = True
        step(steps)
        wanted = clock.more(steps)
    if profiled:
        tf.profiler.experimental.stop()


def fit(keras: ModuleType, model, data: tf.data.Dataset, clock: Clock, steps: int) -> float:
    """Trains a compiled model by `fit` while the clock wants more; returns the timed loss.

    Args:
        keras: Keras 3, or that of TensorFlow 2.15.
        model: compiled with `steps` steps per execution.
        data: batches without end.
        clock: counts steps.
        steps: per execution.
    """

    class Timed(keras.callbacks.Callback):
        loss = float("nan")

        def on_train_batch_end(self, batch, logs=None):
            self.loss = logs["loss"]
            if not clock.more(steps):
                self.model.stop_training = True
            elif not clock.timed:
                self.model.reset_metrics()

    timed = Timed()
    # No epoch ends: the callback stops it.
    model.fit(data, epochs=1, steps_per_epoch=10**6 * steps, verbose=0, callbacks=[timed])
    return float(timed.loss)


def predict(keras: ModuleType, model, data: tf.data.Dataset, clock: Clock, steps: int) -> None:
    """Scores by `predict` while the clock wants more; arguments as of `fit`."""

    class Timed(keras.callbacks.Callback):
        def on_predict_batch_end(self, batch, logs=None):
            if not clock.more(steps):
                # `predict` has no other way to stop.
                raise StopIteration

    try:
        model.predict(data, steps=10**6 * steps, verbose=0, callbacks=[Timed()])
    except StopIteration:
        pass


def parameters(model) -> int:
    """Trainable numbers."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
