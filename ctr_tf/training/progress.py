"""How far a run is: what a checkpoint holds besides weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass
class Mean:
    """A running mean whose parts can be saved.

    Example:
        >>> mean = Mean()
        >>> mean.add(1.0, 2), mean.add(4.0, 1), mean.value
        (None, None, 2.0)
    """

    total: float = 0.0
    count: int = 0

    def add(self, value: float, count: int = 1) -> None:
        """Counts `value` `count` times."""
        self.total += value * count
        self.count += count

    @property
    def value(self) -> float | None:
        """The mean, or None of nothing."""
        return self.total / self.count if self.count else None


@dataclass
class Progress:
    """The position of a run and the state of its early stopping.

    Args:
        step: optimiser steps done.
        epoch: epochs done.
        batch: batches of the current epoch done.
        best_value: the best value of the watched validation metric.
        best_step: the step it was measured at.
        waited: validations since then.
        stopped_early: whether early stopping or a callback ended the run.
        validated_step: the step of the last validation.
        validation: its metrics.
        recent: training losses since the last record of them, by name.
        epoch_loss: training loss of the current epoch.

    Example:
        >>> Progress.from_json(Progress(step=3).to_json()).step
        3
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_value: float | None = None
    best_step: int | None = None
    waited: int = 0
    stopped_early: bool = False
    validated_step: int | None = None
    validation: dict[str, float | None] = field(default_factory=dict)
    recent: dict[str, Mean] = field(default_factory=dict)
    epoch_loss: Mean = field(default_factory=Mean)

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        """What `to_json` wrote."""
        found = json.loads(text)
        recent = found["recent"]
        # Runs of before tasks had losses of their own have one mean.
        recent = recent if not recent or "total" not in recent else {"loss": recent}
        found["recent"] = {name: Mean(**mean) for name, mean in recent.items()}
        found["epoch_loss"] = Mean(**found["epoch_loss"])
        return cls(**found)
