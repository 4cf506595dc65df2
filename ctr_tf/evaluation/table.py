"""The report as a table in the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from ctr_tf.evaluation.evaluate import Report
from ctr_tf.evaluation.text import metric_title, note_of, value_text


def print_report(report: Report, console: Console | None = None) -> None:
    """Prints one table a task: each metric, its interval and what it rests on.

    Args:
        report: the result of `evaluate`.
        console: where to print; the standard output by default.
    """
    console = console or Console()
    for task, result in report["tasks"].items():
        console.print(_table(task, result))


def _table(task: str, result: dict[str, Any]) -> Table:
    counts = result["counts"]
    table = Table(
        title=f"{task}: {counts['impressions']:,} impressions, {counts['positives']:,} positives, "
        f"{counts['requests']:,} requests, {counts['users']:,} users",
        title_justify="left",
    )
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    table.add_column("note")
    for name, metric in result["metrics"].items():
        value, interval = value_text(metric)
        table.add_row(metric_title(name), value, interval, note_of(name, metric))
    return table
