"""Configuration of training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ctr_tf.config_base import Config


class OptimizerConfig(Config):
    """An optimiser and its learning-rate schedule.

    Args:
        name: which optimiser.
        learning_rate: the peak rate.
        warmup_steps: steps of linear rise from 0.
        decay: `constant`, or `polynomial` to `end_learning_rate` over `decay_steps` after warm-up.
        decay_steps: defaults to the planned steps of the run.
        power: of the polynomial; 1 is linear.
        clip_norm: bound on the global norm of the gradients of this group; none by default.
        weight_decay: decoupled weight decay, for `adamw`.
    """

    name: Literal["adam", "adamw", "adagrad", "ftrl", "sgd"] = "adam"
    learning_rate: PositiveFloat = 1e-3
    warmup_steps: NonNegativeInt = 0
    decay: Literal["constant", "polynomial"] = "constant"
    decay_steps: PositiveInt | None = None
    end_learning_rate: NonNegativeFloat = 0.0
    power: PositiveFloat = 1.0
    clip_norm: PositiveFloat | None = None
    weight_decay: NonNegativeFloat = 0.0


class EarlyStoppingConfig(Config):
    """Stopping when a validation metric no longer improves.

    Args:
        metric: `loss`, or `auc` / `gauc` (of the first task), or `<task>_auc` / `<task>_gauc`.
        patience: validations without improvement before training stops.
        min_delta: the least improvement that counts.
    """

    metric: str = "auc"
    patience: PositiveInt = 2
    min_delta: NonNegativeFloat = 0.0


class TrainConfig(Config):
    """One training run.

    Args:
        epochs: passes over the training split.
        max_steps: a bound on the steps of the run.
        learning_rate: a short way to set that of both optimiser groups; theirs where unset.
        dense: the optimiser of the dense part.
        tables: the optimiser of the embedding tables; the dense one's settings by default.
        task_weights: the weight of each task's loss; 1 by default.
        strategy: `one` device, `mirrored` over the local ones, or `multi_worker` (TF_CONFIG).
        steps_per_call: training steps in one call of the compiled function.
        accumulate_steps: batches whose gradients are averaged before one update.
        precision: Keras dtype policy.
        validate_every: steps between validations; the end of each epoch by default.
        early_stopping: when to stop; never by default.
        checkpoint_every: steps between checkpoints.
        keep: last checkpoints kept.
        deterministic: equal runs give equal weights, resumed or not.
        seed: of initialisation, shuffling and dropout.
        max_loss: a loss above it counts as exploded and stops the run.
        tensorboard: whether TensorBoard summaries are written.
    """

    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None
    learning_rate: PositiveFloat | None = None
    dense: OptimizerConfig = OptimizerConfig()
    tables: OptimizerConfig | None = None
    task_weights: dict[str, NonNegativeFloat] = {}
    strategy: Literal["one", "mirrored", "multi_worker"] = "one"
    steps_per_call: PositiveInt = 1
    accumulate_steps: PositiveInt = 1
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    validate_every: PositiveInt | None = None
    early_stopping: EarlyStoppingConfig | None = None
    checkpoint_every: PositiveInt = 500
    keep: PositiveInt = 2
    deterministic: bool = False
    seed: int = 17
    max_loss: PositiveFloat = Field(1e4)
    tensorboard: bool = False
