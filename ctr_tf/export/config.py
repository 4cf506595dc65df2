"""Configuration of the export."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt

from ctr_tf.config_base import Config


class ExportConfig(Config):
    """A SavedModel with three signatures, checked before it appears.

    Args:
        check_requests: real requests that the self-check scores before and after the reload.
        tolerance: the largest difference of scores that the self-check allows.
        warmup_requests: records written to `assets.extra`; TF Serving takes at most 1,000.
        keep_versions: newest versions kept.
    """

    check_requests: PositiveInt = 16
    tolerance: PositiveFloat = 1e-5
    warmup_requests: PositiveInt = 8
    keep_versions: PositiveInt = 3
