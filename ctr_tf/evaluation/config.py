"""What an evaluation computes."""

from typing import Annotated

from pydantic import Field, field_validator

from ctr_tf.config_base import Config


class EvaluationConfig(Config):
    """Which metrics of a set of predictions are computed, and how.

    Args:
        precision_at: each n of precision@n.
        bootstrap_replicates: replicates behind each 95 % interval; 0 computes none.
        seed: seed of the bootstrap.
        frequency_buckets: lower bounds of the buckets of training frequency of the item.
        history_buckets: lower bounds of the buckets of history length.
        long_tail_share: the least frequent share of the items is the long tail.
        plot_bins: equal bins of the score in the calibration curve.

    Example:
        >>> EvaluationConfig(precision_at=[5]).bootstrap_replicates
        200
    """

    precision_at: list[Annotated[int, Field(ge=1)]] = [1, 5, 10]
    bootstrap_replicates: int = Field(200, ge=0)
    seed: int = Field(0, ge=0)
    frequency_buckets: list[int] = [0, 1, 5, 20, 100]
    history_buckets: list[int] = [0, 1, 5, 10, 20, 50, 100]
    long_tail_share: float = Field(0.2, gt=0, le=1)
    plot_bins: int = Field(20, ge=1)

    @field_validator("frequency_buckets", "history_buckets")
    @classmethod
    def _ascending_from_zero(cls, bounds: list[int]) -> list[int]:
        if not bounds or bounds[0] != 0 or any(a >= b for a, b in zip(bounds, bounds[1:])):
            raise ValueError(f"bounds must ascend strictly from 0, got {bounds}")
        return bounds
