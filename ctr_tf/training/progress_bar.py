"""The progress of a run in a terminal, and line by line in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class ProgressBar(keras.callbacks.Callback):
    """A bar an epoch with the loss and the last validation; plain lines where there is no terminal.

    Args:
        console: where it is shown; standard error by default.
        seconds: between lines of a plain log.
        reasons: why metrics of the latest validation are undefined: Keras hands on numbers alone.
    """

    def __init__(
        self,
        console: Console | None = None,
        seconds: float = 10.0,
        reasons: Callable[[], dict[str, str]] = dict,
    ):
        super().__init__()
        self.console = console or Console(stderr=True)
        self.seconds = seconds
        self.reasons = reasons
        self._bar: Progress | None = None
        self._shown = 0.0
        self._epoch = 0
        self._task = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._shown = time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[shown]}"),
                console=self.console,
            )
            self._bar.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch
        if self._bar:
            self._task = self._bar.add_task(
                self._name(),
                total=self.params["steps"],
                completed=(logs or {}).get("done", 0),
                shown="",
            )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        text = _text(logs or {})
        if self._bar:
            self._bar.update(self._task, completed=batch + 1, shown=text)
        elif self._due(batch):
            self._shown = time.monotonic()
            self._print(f"step {batch + 1}/{self.params['steps']}  {text}")

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        undefined = [f"{name} undefined ({reason})" for name, reason in self.reasons().items()]
        self._print("  ".join(["validation", _text(logs or {}), *undefined]))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _print(self, text: str) -> None:
        self.console.print(f"{self._name()}  {text}", highlight=False, soft_wrap=True)

    def _name(self) -> str:
        return f"epoch {self._epoch + 1}/{self.params['epochs']}"

    def _due(self, batch: int) -> bool:
        last = batch + 1 == self.params["steps"]
        return last or time.monotonic() - self._shown >= self.seconds


def _text(logs: dict[str, Any]) -> str:
    """Metrics on one line.

    Example:
        >>> _text({"click_gauc": 0.7, "examples_per_second": 1234.5, "loss": 0.51234})
        'loss 0.5123  click_gauc 0.7000  1,234 examples/s'
    """
    parts = []
    # Keras hands logs on sorted by name; the loss is what is looked for first.
    for name, value in sorted(logs.items(), key=lambda item: item[0] != "loss"):
        if name == "examples_per_second":
            parts.append(f"{value:,.0f} examples/s")
        else:
            parts.append(f"{name} {value:.4f}")
    return "  ".join(parts)
