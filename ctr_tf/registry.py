"""The registry of architectures: name, paper, configuration class, body."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, TypeVar

if TYPE_CHECKING:
    from ctr_tf.models.config import ModelConfig

Body = TypeVar("Body", bound=type)


@dataclass(frozen=True)
class Entry:
    """One registered architecture.

    Args:
        name: as written in a config's `model.name`.
        paper: reference with section and equation numbers.
        config: the typed configuration class.
        body: the class that implements the two towers.
    """

    name: str
    paper: str
    config: type[ModelConfig]
    body: type


_entries: dict[str, Entry] = {}


def register(name: str, *, paper: str, config: type[ModelConfig]) -> Callable[[Body], Body]:
    """A class decorator that registers an architecture's body.

    Raises:
        ValueError: the name is taken.
    """

    def add(body: Body) -> Body:
        if name in _entries and _entries[name].body.__qualname__ != body.__qualname__:
            raise ValueError(f"model name {name!r} is taken by {_entries[name].body.__qualname__}")
        _entries[name] = Entry(name, paper, config, body)
        return body

    return add


def entries() -> dict[str, Entry]:
    """Every registered architecture by name.

    Example:
        >>> "din" in entries()
        True
    """
    importlib.import_module("ctr_tf.models")
    return dict(sorted(_entries.items()))


def get(name: str) -> Entry:
    """The architecture of that name.

    Raises:
        ValueError: no such architecture; the message gives the nearest name.
    """
    found = entries()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"registered: {', '.join(found)}"
        raise ValueError(f"no model {name!r}; {hint}")
    return found[name]
