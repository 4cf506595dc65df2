"""Configuration of an optimiser."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from ctr_tf.config_base import Config


class OptimizerConfig(Config):
    """An optimiser and its learning-rate schedule.

    Args:
        name: which optimiser.
        learning_rate: the peak rate; that of the run where unset.
        warmup_steps: steps of linear rise from 0.
        decay: `constant`, or `polynomial` to `end_learning_rate` over `decay_steps` after warm-up.
        decay_steps: defaults to the planned steps of the run after warm-up.
        power: of the polynomial; 1 is linear.
        clip_norm: bound on the global norm of the gradients of this group; none by default.
        weight_decay: decoupled weight decay, for `adamw`.
        epsilon: of `adam`, `adamw` and the Adagrads, where it is added as their classes say; 1e-7
            by default, 1e-8 of `row_wise_adagrad`. Gradients that are not far above Adam's, as rare
            rows have, move weights less than others do.
    """

    name: Literal["adam", "adamw", "adagrad", "ftrl", "sgd"] = "adam"
    learning_rate: PositiveFloat | None = None
    warmup_steps: NonNegativeInt = 0
    decay: Literal["constant", "polynomial"] = "constant"
    decay_steps: PositiveInt | None = None
    end_learning_rate: NonNegativeFloat = 0.0
    power: PositiveFloat = 1.0
    clip_norm: PositiveFloat | None = None
    weight_decay: NonNegativeFloat = 0.0
    epsilon: PositiveFloat | None = Field(None, exclude_if=lambda epsilon: epsilon is None)

    @model_validator(mode="after")
    def _check(self) -> "OptimizerConfig":
        if self.weight_decay and self.name != "adamw":
            raise ValueError(f"weight_decay: only adamw has it, not {self.name}")
        if self.epsilon and self.name in ("ftrl", "sgd"):
            raise ValueError(f"epsilon: {self.name} has none")
        if self.decay_steps and self.decay == "constant":
            raise ValueError("decay_steps: a constant rate has none; set decay: polynomial")
        return self

    def resolved(self, learning_rate: float, planned_steps: int) -> "OptimizerConfig":
        """This configuration with what is unset filled in from the run.

        Args:
            learning_rate: the run's rate.
            planned_steps: the run's optimiser steps.

        Example:
            >>> config = OptimizerConfig(warmup_steps=10, decay="polynomial").resolved(0.1, 50)
            >>> config.learning_rate, config.decay_steps
            (0.1, 40)
        """
        update: dict[str, float | int] = {}
        if self.learning_rate is None:
            update["learning_rate"] = learning_rate
        if self.decay == "polynomial" and self.decay_steps is None:
            update["decay_steps"] = max(1, planned_steps - self.warmup_steps)
        return self.model_copy(update=update)


class TableOptimizerConfig(OptimizerConfig):
    """The optimiser of the embedding tables.

    Args:
        name: as of the dense part, or `row_wise_adagrad`, whose state is one number a row.
        rows: `touched`, those of the batch alone (adam is lazy then), or `all` of a table, at each
            step, as the dense part is updated.

    Example:
        >>> TableOptimizerConfig(name="row_wise_adagrad").rows
        'touched'
    """

    name: Literal["adam", "adamw", "adagrad", "row_wise_adagrad", "ftrl", "sgd"] = "adam"
    rows: Literal["touched", "all"] = "touched"

    @model_validator(mode="after")
    def _check_rows(self) -> "TableOptimizerConfig":
        if self.name == "row_wise_adagrad" and self.rows == "all":
            raise ValueError("rows: row_wise_adagrad updates touched rows; set rows: touched")
        return self
