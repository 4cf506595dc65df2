"""The base of every typed configuration class."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen configuration class: an unknown key is an error, and so is a value of another type.

    Example:
        >>> class Example(Config):
        ...     units: int = 8
        >>> Example(units=16).units
        16
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False
    )
