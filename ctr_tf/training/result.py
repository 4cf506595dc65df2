"""What a training run returns, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Args:
        steps: optimiser steps done, those before a resume included.
        epochs: whole epochs done.
        metric: the watched validation metric.
        best_value: its best value; None where it was never defined.
        best_step: the step of the best checkpoint.
        validation: metrics of the last validation; None where undefined.
        interrupted: whether SIGTERM ended it; training again goes on.
        stopped_early: whether early stopping or a callback ended it.
        seconds: of this call.
        examples_per_second: impressions trained on, by the time of the steps, tracing left out.
    """

    steps: int
    epochs: int
    metric: str
    best_value: float | None
    best_step: int | None
    validation: dict[str, float | None] = field(default_factory=dict)
    interrupted: bool = False
    stopped_early: bool = False
    seconds: float = 0.0
    examples_per_second: float | None = None


class TrainingDivergedError(RuntimeError):
    """The loss or a weight is not finite, or the loss has exploded.

    Args:
        reason: what was found.
        step: the optimiser step, from 1.
        requests: ids of the first requests of its batch.
        checkpoint: the last good checkpoint.
    """

    def __init__(self, reason: str, step: int, requests: list[str], checkpoint: str | None):
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "no checkpoint yet"
        super().__init__(
            f"step {step}: {reason}; the batch's first requests: {', '.join(requests)}; {kept}"
        )
        self.step = step
        self.requests = requests
        self.checkpoint = checkpoint
