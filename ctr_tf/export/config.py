"""Configuration of the export."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ctr_tf.config_base import Config


class ChangeTolerances(Config):
    """What lower precision may change on labelled requests; see `measure_changes`.

    Args:
        auc: the most that the AUC of a task may fall.
        log_loss: the most that its log loss may rise, in nats.
        score: the largest change of one probability.
        mean_score: the mean of such changes.
    """

    auc: NonNegativeFloat = 0.0005
    log_loss: NonNegativeFloat = 0.001
    score: NonNegativeFloat = 0.05
    mean_score: NonNegativeFloat = 0.005


class ExportConfig(Config):
    """A SavedModel with three signatures, checked before it appears.

    Args:
        check_requests: real requests that the self-check scores before and after the reload.
        tolerance: the largest difference of scores that the self-check allows; by default 1e-5,
            and 0.02 for a model that computes in half precision.
        warmup_requests: real requests that the warm-up's are made of, one of every size class and
            signature.
        warmup_candidates: the most candidates of a warm-up request.
        candidate_parts: number of parts that a request's candidates are cut into, which are scored
            at the same time, on as many cores. A single large request may be answered sooner, where
            an operation has one thread; a small one, or many at a time, are not.
        keep_versions: newest versions kept.
        item_encoder: whether the export can encode items for a table of them; see
            `pipelines.build_item_table`.
        tables: what the rows of tables are stored as: float32 leaves them as they were trained,
            int8 has a float16 scale for each row (see `stored_dtype`).
        dense: what all other weights are stored and computed in; float32 leaves them as they were
            trained.
        measure_requests: labelled requests of the validation split, rounded up to whole batches,
            that lower precision is measured on.
        changes: what it may change there.

    Example:
        >>> ExportConfig().as_trained, ExportConfig(tables="int8").as_trained
        (True, False)
    """

    check_requests: PositiveInt = 16
    tolerance: PositiveFloat | None = None
    warmup_requests: PositiveInt = 8
    warmup_candidates: int = Field(1024, ge=1, le=10_000)
    # The default is not written out: what was exported before it had a name stays up to date.
    candidate_parts: int = Field(1, ge=1, le=64, exclude_if=lambda parts: parts == 1)
    keep_versions: PositiveInt = 3
    item_encoder: bool = False
    tables: Literal["float32", "float16", "int8"] = "float32"
    dense: Literal["float32", "float16", "bfloat16"] = "float32"
    measure_requests: PositiveInt = 10_000
    changes: ChangeTolerances = ChangeTolerances()

    @property
    def as_trained(self) -> bool:
        """Whether the weights are exported as they are."""
        return self.tables == self.dense == "float32"
