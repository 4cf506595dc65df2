"""Configuration of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ctr_tf.config_base import Config, check_known
from ctr_tf.optimizers.config import OptimizerConfig, TableOptimizerConfig

COMPILED_FROM = 5000
"""Steps of a run from which XLA's compilations are worth their time by default."""

RANKING_METRICS = {name: name for name in ("ndcg", "hr", "mrr")}
"""What validation measures of ranked items; the first is what the best checkpoint goes by."""


class EarlyStoppingConfig(Config):
    """Stopping when a validation metric no longer improves.

    Args:
        metric: `loss`, or `auc` / `gauc` (of the first task), or `<task>_auc` / `<task>_gauc`;
            `ndcg`, `hr` or `mrr` where validation ranks items.
        patience: validations without improvement before training stops.
        min_delta: the least improvement that counts.
    """

    metric: str = "auc"
    patience: PositiveInt = 2
    min_delta: NonNegativeFloat = 0.0

    def followed(self, metrics: Mapping[str, str]) -> str:
        """The full name of the metric.

        Args:
            metrics: what validation measures: name and full name.

        Raises:
            SettingError: there is no such metric.

        Example:
            >>> EarlyStoppingConfig(metric="gauc").followed(task_metrics(["click", "buy"]))
            'click_gauc'
        """
        check_known(("train", "early_stopping", "metric"), "metric", self.metric, metrics)
        return metrics[self.metric]


def task_metrics(tasks: Sequence[str]) -> dict[str, str]:
    """What validation measures of tasks: the names by which it can be asked for, and full names.

    Example:
        >>> task_metrics(["click"])
        {'auc': 'click_auc', 'gauc': 'click_gauc', 'loss': 'loss', 'click_auc': 'click_auc', \
'click_gauc': 'click_gauc'}
    """
    kinds = ("auc", "gauc")
    own = [f"{task}_{kind}" for task in tasks for kind in kinds]
    first = {kind: f"{tasks[0]}_{kind}" for kind in kinds}
    return {**first, "loss": "loss", **dict(zip(own, own))}


class TrainConfig(Config):
    """One training run.

    Args:
        epochs: passes over the training split.
        max_steps: a bound on the optimiser steps of the run.
        learning_rate: the peak rate of every optimiser that sets none.
        dense: the optimiser of the dense part.
        tables: the optimiser of the embedding tables; by default the dense one's settings, on the
            rows that a batch touches.
        task_weights: the weight of each task's loss; 1 by default.
        strategy: `one` device, `mirrored` over the local ones, or `multi_worker` (TF_CONFIG).
        steps_per_call: training steps in one call of the compiled function.
        accumulate_steps: batches whose gradients are averaged before one update.
        precision: Keras dtype policy.
        xla: whether layers that pass over many rows (Dice, batch normalisation) are compiled with
            XLA: each new number of rows costs about a second, each step is then faster. By default
            where a run has `COMPILED_FROM` steps.
        validate_every: steps between validations; the end of each epoch by default.
        early_stopping: when to stop; never by default.
        checkpoint_every: steps between checkpoints.
        log_every: steps between records of the training loss.
        keep: last checkpoints kept.
        deterministic: equal runs give equal weights, resumed or not.
        seed: of initialisation, shuffling and dropout.
        max_loss: a loss, regularisation included, above it counts as exploded and stops the run.
        tensorboard: whether TensorBoard summaries are written.
    """

    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None
    learning_rate: PositiveFloat = 1e-3
    dense: OptimizerConfig = OptimizerConfig()
    tables: TableOptimizerConfig | None = None
    task_weights: dict[str, NonNegativeFloat] = {}
    strategy: Literal["one", "mirrored", "multi_worker"] = "one"
    steps_per_call: PositiveInt = 1
    accumulate_steps: PositiveInt = 1
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    xla: bool | None = None
    validate_every: PositiveInt | None = None
    early_stopping: EarlyStoppingConfig | None = None
    checkpoint_every: PositiveInt = 500
    log_every: PositiveInt = 100
    keep: PositiveInt = 2
    deterministic: bool = False
    seed: int = Field(17, ge=0, lt=2**32)
    max_loss: PositiveFloat = 1e4
    tensorboard: bool = False

    def check(self, tasks: Sequence[str], metrics: Mapping[str, str] | None = None) -> None:
        """Checks what depends on the tasks.

        Args:
            tasks: of the schema, or what is pre-trained.
            metrics: what validation measures, see `task_metrics`, which is the default.

        Raises:
            SettingError: a weight of an unknown task, or early stopping on an unknown metric.
        """
        for task in self.task_weights:
            check_known(("train", "task_weights", task), "task", task, tasks)
        if self.early_stopping:
            self.early_stopping.followed(metrics or task_metrics(tasks))

    def compiles(self, planned_steps: int) -> bool:
        """Whether a run of that many steps is compiled with XLA.

        Example:
            >>> TrainConfig().compiles(100), TrainConfig(xla=True).compiles(100)
            (False, True)
        """
        return planned_steps >= COMPILED_FROM if self.xla is None else self.xla

    def optimizers(self, planned_steps: int) -> dict[str, OptimizerConfig]:
        """The resolved configuration of each group's optimiser.

        Args:
            planned_steps: the run's optimiser steps.

        Example:
            >>> config = TrainConfig(learning_rate=0.1, dense={"learning_rate": 0.01})
            >>> found = config.optimizers(100)
            >>> found["dense"].learning_rate, found["tables"].learning_rate
            (0.01, 0.01)
        """
        tables = self.tables or TableOptimizerConfig(**self.dense.model_dump())
        return {
            "dense": self.dense.resolved(self.learning_rate, planned_steps),
            "tables": tables.resolved(self.learning_rate, planned_steps),
        }
