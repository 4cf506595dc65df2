"""A setting of what is traced within a context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Value = TypeVar("Value")


class TraceSetting(Generic[Value]):
    """A value that a context sets, and puts back behind it.

    Args:
        value: outside of any context.

    Example:
        >>> count = TraceSetting(4)
        >>> with count.within(1):
        ...     count.value
        1
        >>> count.value
        4
    """

    def __init__(self, value: Value):
        self.value = value

    @contextmanager
    def within(self, value: Value) -> Iterator[None]:
        """The context in which it has another value."""
        before, self.value = self.value, value
        try:
            yield
        finally:
            self.value = before
