"""The base of every typed configuration class, and the error of settings that do not fit."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict


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


def keeping(default: Config) -> BeforeValidator:
    """What a section is annotated with so that, given in part, it keeps the rest of its default.

    Args:
        default: of the field; what it has set stays where the section does not say otherwise.

    Example:
        >>> class Example(Config):
        ...     units: int = 8
        ...     layers: int = 1
        >>> from typing import Annotated
        >>> DEEP = Example(layers=3)
        >>> class Deep(Config):
        ...     example: Annotated[Example, keeping(DEEP)] = DEEP
        >>> Deep(example={"units": 16}).example
        Example(units=16, layers=3)
    """
    own = default.model_dump(exclude_unset=True)
    return BeforeValidator(lambda given: {**own, **given} if isinstance(given, dict) else given)


def _distinct(names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"given twice: {', '.join(twice)}")
    return names


Names = Annotated[list[str], AfterValidator(_distinct)]
"""Names of features or attributes, each once."""


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
