"""Configuration of the export."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from ctr_tf.config_base import Config


class ExportConfig(Config):
    """A SavedModel with three signatures, checked before it appears.

    Args:
        check_requests: real requests that the self-check scores before and after the reload.
        tolerance: the largest difference of scores that the self-check allows; by default 1e-5,
            and 0.02 for a model that computes in half precision.
        warmup_requests: requests written to `assets.extra`, once a signature; TF Serving takes at
            most 1,000 records.
        keep_versions: newest versions kept.
    """

    check_requests: PositiveInt = 16
    tolerance: PositiveFloat | None = None
    warmup_requests: int = Field(8, ge=1, le=333)
    keep_versions: PositiveInt = 3
