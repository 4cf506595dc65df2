"""The base of every typed configuration class, and the error of settings that do not fit."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Config(BaseModel):
    """A frozen configuration class: an unknown key is an error, and so is a value of another type.

    Where a class has defaults of its own for a section, those that are not given stay.

    Example:
        >>> class Example(Config):
        ...     units: int = 8
        ...     layers: int = 1
        >>> class Deep(Config):
        ...     example: Example = Example(layers=3)
        >>> Deep(example={"units": 16}).example
        Example(units=16, layers=3)
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _with_own_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name, field in cls.model_fields.items():
            own, section = field.default, given.get(name)
            # Of a choice between classes, the section may be of another one.
            if (
                isinstance(section, dict)
                and isinstance(own, Config)
                and field.annotation is type(own)
            ):
                given = {**given, name: {**own.model_dump(exclude_unset=True), **section}}
        return given


class SettingError(ValueError):
    """A setting that is well formed but does not fit the settings around it.

    Args:
        at: the path of its key.
        rule: what is wrong with it.

    Example:
        >>> str(SettingError(("train", "task_weights", "buy"), "no task 'buy'"))
        "train.task_weights.buy: no task 'buy'"
    """

    def __init__(self, at: tuple[Any, ...], rule: str):
        super().__init__(f"{'.'.join(map(str, at))}: {rule}")
        self.at = at
        self.rule = rule


def check_known(at: tuple[Any, ...], kind: str, name: str, known: Collection[str]) -> None:
    """Checks that a setting names something that there is.

    Raises:
        SettingError: it does not; gives the nearest name, or all of them.

    Example:
        >>> check_known(("task_weights", "clik"), "task", "clik", ["click"])
        Traceback (most recent call last):
        ...
        ctr_tf.config_base.SettingError: task_weights.clik: no task 'clik'; did you mean 'click'?
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"{kind}s: {', '.join(known) or 'none'}"
        raise SettingError(at, f"no {kind} {name!r}; {hint}")
