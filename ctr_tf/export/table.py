"""What an export is made of, and what its precision changes, as tables in the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PRECISION_FILE = "assets.extra/precision.json"


def print_precision(folder: Path, console: Console | None = None) -> None:
    """Prints the bytes of each part of a version beside those of float32, and by task how metrics
    and scores differ from the trained model's where the precision is lower.

    Args:
        folder: the version's folder.
        console: where to print; the standard output by default.

    Raises:
        FileNotFoundError: the folder has no `assets.extra/precision.json`.
    """
    console = console or Console()
    found = json.loads((folder / PRECISION_FILE).read_text(encoding="utf-8"))
    console.print(_sizes(found))
    for task, changes in found["changes"].items():
        console.print(_changes(task, changes))


def _sizes(found: dict[str, Any]) -> Table:
    table = Table(
        title=f"bytes: tables {found['tables']}, dense weights {found['dense']}",
        title_justify="left",
    )
    table.add_column("part", no_wrap=True)
    for column in ("in float32", "exported", "smaller"):
        table.add_column(column, justify="right", no_wrap=True)
    parts = found["bytes"]
    whole = {key: sum(part[key] for part in parts.values()) for key in ("float32_bytes", "bytes")}
    for name, part in {**parts, "all": whole}.items():
        before, after = part["float32_bytes"], part["bytes"]
        ratio = f"{before / after:.2f} times" if after != before else ""
        table.add_row(name, f"{before:,}", f"{after:,}", ratio)
    return table


def _changes(task: str, changes: dict[str, Any]) -> Table:
    score = changes["score"]
    table = Table(
        title=f"{task}: {changes['rows']:,} rows",
        caption=f"Scores change by {score['mean']:.2g} on average, {score['largest']:.2g} at most.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("metric", no_wrap=True)
    for column in ("trained", "exported", "change"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("95 % interval, paired", no_wrap=True)
    for title, metric in (("AUC", "auc"), ("log loss", "log_loss")):
        own = changes[metric]
        values = [_number(own[key]["value"], ".6f") for key in ("before", "after")]
        difference = own["change"]
        interval = ""
        if difference["low"] is not None:
            interval = f"{difference['low']:+.6f} to {difference['high']:+.6f}"
        table.add_row(title, *values, _number(difference["value"], "+.6f"), interval)
    return table


def _number(value: float | None, form: str) -> str:
    return "undefined" if value is None else format(value, form)
