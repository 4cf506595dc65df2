"""The result of a metric: a number, or the reason why there is none."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class MetricValue:
    """A metric's value with its interval, or the reason why it is undefined.

    Args:
        value: the number, or None when the metric is undefined.
        reason: why it is undefined; None when there is a value.
        low: lower end of the 95 % interval, where one was computed.
        high: upper end of the 95 % interval, where one was computed.
        details: counts that say what the value rests on.

    Raises:
        ValueError: both or neither of `value` and `reason` are given, or `value` is not finite.

    Example:
        >>> print(MetricValue(0.75123, low=0.7, high=0.8))
        0.7512 [0.7000, 0.8000]
        >>> print(MetricValue.undefined("one class only: 3 positives, 0 negatives"))
        undefined (one class only: 3 positives, 0 negatives)
    """

    value: float | None = None
    reason: str | None = None
    low: float | None = None
    high: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(
                "MetricValue takes either `value` or `reason`, "
                f"received value={self.value!r}, reason={self.reason!r}"
            )
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"`value` must be finite, received {self.value!r}")

    @classmethod
    def undefined(cls, reason: str, **details: Any) -> "MetricValue":
        """A metric without a value, with its reason."""
        return cls(reason=reason, details=details)

    def with_details(self, **details: Any) -> "MetricValue":
        """The same value with more details."""
        return replace(self, details={**self.details, **details})

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dump` takes, with the same keys in every case.

        Example:
            >>> MetricValue(0.5).to_json()
            {'value': 0.5, 'reason': None, 'low': None, 'high': None, 'details': {}}
        """
        return {
            "value": self.value,
            "reason": self.reason,
            "low": self.low,
            "high": self.high,
            "details": dict(self.details),
        }

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined ({self.reason})"
        if self.low is None or self.high is None:
            return f"{self.value:.4f}"
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"
