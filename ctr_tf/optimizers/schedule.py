"""Learning-rate schedules."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.types import Tensor


@keras.saving.register_keras_serializable("ctr_tf")
class WarmupPolynomial(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a constant rate or polynomial decay.

    Update s, counted from 0, has the rate r (s + 1) / w while s < w, and then
    e + (r - e) (1 - min(1, (s - w) / d))^p; with d None it stays at r.

    Args:
        learning_rate: r, the peak.
        warmup_steps: w.
        decay_steps: d, or None for no decay.
        end_learning_rate: e.
        power: p.

    Example:
        >>> schedule = WarmupPolynomial(1.0, warmup_steps=2, decay_steps=4, end_learning_rate=0.2)
        >>> [round(float(schedule(step)), 6) for step in range(8)]
        [0.5, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2]
    """

    def __init__(
        self,
        learning_rate: float,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
        end_learning_rate: float = 0.0,
        power: float = 1.0,
    ):
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.decay_steps = decay_steps
        self.end_learning_rate = end_learning_rate
        self.power = power

    def __call__(self, step: Tensor | int) -> Tensor:
        step = ops.cast(step, "float32")
        rate = ops.full_like(step, self.learning_rate)
        if self.decay_steps is not None:
            done = ops.clip((step - self.warmup_steps) / self.decay_steps, 0.0, 1.0)
            span = self.learning_rate - self.end_learning_rate
            rate = self.end_learning_rate + span * ops.power(1.0 - done, self.power)
        if self.warmup_steps:
            rising = self.learning_rate * (step + 1) / self.warmup_steps
            rate = ops.where(step < self.warmup_steps, rising, rate)
        return rate

    def get_config(self) -> dict:
        return {
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
        }
