"""Which validation is the best, and when to stop waiting for a better one."""

from __future__ import annotations

from collections.abc import Mapping

from ctr_tf.training.config import EarlyStoppingConfig
from ctr_tf.training.progress import Progress
from ctr_tf.training.validation import Validation


class BestMetric:
    """Follows one validation metric; its state lies in the run's progress.

    Args:
        config: the metric and the patience; without it the first metric is followed and nothing
            stopped. As long as that is undefined, the latest validation is the best.
        metrics: what validation measures: name and full name, see `task_metrics`.

    Raises:
        SettingError: there is no such metric.

    Example:
        >>> best = BestMetric(EarlyStoppingConfig(metric="loss", patience=2), {"loss": "loss"})
        >>> progress = Progress()
        >>> found = []
        >>> for progress.step, loss in enumerate([0.7, 0.6, 0.65, 0.62]):
        ...     found.append(best.update(progress, Validation({"loss": loss}, {})))
        >>> found, progress.best_step, best.exhausted(progress)
        ([True, True, False, False], 1, True)
    """

    def __init__(self, config: EarlyStoppingConfig | None, metrics: Mapping[str, str]):
        self.config = config
        self.name = config.followed(metrics) if config else next(iter(metrics.values()))

    def update(self, progress: Progress, validation: Validation) -> bool:
        """Whether this validation is the best so far; notes it in `progress`.

        Raises:
            ValueError: early stopping follows a metric that is undefined.
        """
        value = validation.values[self.name]
        if value is None and self.config:
            raise ValueError(
                f"early_stopping.metric: {self.name} is undefined at step {progress.step}: "
                f"{validation.reasons[self.name]}; follow another metric"
            )
        if progress.best_step is None or self._better(value, progress.best_value):
            progress.best_value, progress.best_step, progress.waited = value, progress.step, 0
            return True
        progress.waited += 1
        return False

    def exhausted(self, progress: Progress) -> bool:
        """Whether early stopping is to stop now."""
        return self.config is not None and progress.waited >= self.config.patience

    def _better(self, value: float | None, best: float | None) -> bool:
        if value is None or best is None:
            return best is None
        gain = best - value if self.name == "loss" else value - best
        return gain > (self.config.min_delta if self.config else 0.0)
