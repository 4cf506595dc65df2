"""Count, mean, variance and range of numbers, mergeable (Chan, Golub and LeVeque 1983)."""

from __future__ import annotations

import math
from collections.abc import Iterable


class Moments:
    """What is known of numbers seen so far.

    Example:
        >>> moments = Moments()
        >>> for value in (1.0, 3.0):
        ...     moments.add(value)
        >>> moments.summary()
        {'count': 2, 'mean': 2.0, 'std': 1.0, 'minimum': 1.0, 'maximum': 3.0}
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0
        self._minimum = math.inf
        self._maximum = -math.inf

    def add(self, value: float, times: int = 1, normalise: str = "standard") -> None:
        """Adds a number so many times; for `log`, its signed log(1 + |x|)."""
        if normalise == "log":
            value = math.copysign(math.log1p(abs(value)), value)
        self._merge((times, value, 0.0, value, value))

    def state(self) -> tuple[int, float, float, float, float]:
        """What `merge` takes."""
        return self._count, self._mean, self._squares, self._minimum, self._maximum

    @classmethod
    def merge(cls, states: Iterable[tuple]) -> "Moments":
        """Moments of all that the states saw; the last digits depend on their order."""
        found = cls()
        for state in states:
            found._merge(state)
        return found

    def summary(self) -> dict[str, float]:
        """Count, mean, standard deviation over the whole population, minimum and maximum."""
        return {
            "count": self._count,
            "mean": self._mean,
            "std": math.sqrt(self._squares / self._count),
            "minimum": self._minimum,
            "maximum": self._maximum,
        }

    def _merge(self, state: tuple) -> None:
        count, mean, squares, minimum, maximum = state
        total = self._count + count
        delta = mean - self._mean
        self._squares += squares + delta * delta * self._count * count / total
        self._mean += delta * count / total
        self._count = total
        self._minimum = min(self._minimum, minimum)
        self._maximum = max(self._maximum, maximum)
