"""The report of a parity job: as JSON, and as tables in the terminal."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ctr_tf.data.raw_inputs import Arrays
from ctr_tf.schema import Numeric, Schema
from serving.files import write_text
from serving.parity.differences import Comparison, Outlier, Score
from serving.parity.logged import Logged
from serving.parity.offline import ModelReference
from serving.parity.suspects import find_suspects

Report = dict[str, Any]


def make_report(comparison: Comparison, asked: dict[str, Any], schema: Schema | None) -> Report:
    """What was compared, as plain values.

    Args:
        comparison: what the replay found.
        asked: what was compared with what; it opens the report.
        schema: of the requests, where a model is there.
    """
    tasks = {
        name: {
            "scores": task.scores,
            "largest": task.largest,
            "mean": task.total / task.scores if task.scores else 0.0,
            "beyond": task.beyond,
            "share_beyond": task.beyond / task.scores if task.scores else 0.0,
        }
        for name, task in comparison.tasks.items()
    }
    return {
        **asked,
        "tolerance": comparison.tolerance,
        "agrees": comparison.agrees,
        "requests": comparison.requests,
        "refused": {status: asdict(each) for status, each in comparison.refused.items()},
        "skipped": dict(comparison.skipped),
        "tasks": tasks,
        "worst": [_place(outlier, schema) for outlier in comparison.worst],
        "features": [],
        "explanation": None,
    }


def explained(
    report: Report, comparison: Comparison, online: Score, model: ModelReference
) -> Report:
    """The report with the features behind the difference, where there is one.

    Args:
        report: of the comparison.
        comparison: whose outliers are looked into.
        online: asks the server.
        model: the offline side.
    """
    tolerance, schema = comparison.tolerance, model.schema
    differing = [each.request for each in comparison.worst if each.difference > tolerance]
    if not differing:
        return report

    def offline(request: Logged) -> Arrays:
        return model.scores([request])[0]

    try:
        suspects = find_suspects(schema, differing, online, offline, tolerance)
    except grpc.RpcError as error:
        # What was compared until then is not to be lost.
        text = f"no feature was found: {error.code().name}: {error.details()}"
        return report | {"explanation": text}
    named = [f"{s.feature} (read by {', '.join(s.inputs)})" for s in suspects if s.named]
    if named:
        text = f"the difference comes from {' and '.join(named)}"
    else:
        numbers = [n for n, f in schema.features.items() if isinstance(f, Numeric)]
        text = "the difference stays with every feature left out: other weights"
        if numbers:
            text += f", or other statistics of {' or '.join(numbers)}"
    return report | {"features": [asdict(each) for each in suspects], "explanation": text}


def write_report(path: Path, report: Report) -> None:
    """Writes it as JSON, whole or not at all."""
    write_text(path, json.dumps(report, indent=2, allow_nan=False) + "\n")


def print_report(report: Report, console: Console) -> None:
    """Prints the counts, and where scores differ the worst requests and the features."""
    console.print(_counts(report))
    for status, refused in report["refused"].items():
        console.print(
            f"{refused['requests']:,} requests refused with {status}, the first "
            f"{refused['first']}: {refused['details']}",
            markup=False,
        )
    for signature, number in report["skipped"].items():
        console.print(f"{number:,} calls of {signature} left out, which are not compared")
    if any(task["beyond"] for task in report["tasks"].values()):
        console.print(_worst(report))
        if report["features"]:
            console.print(_features(report))
        console.print(report["explanation"] or "--explain VERSION_FOLDER finds the feature")


def _counts(report: Report) -> Table:
    table = Table(
        title=f"{report['model']} version {report['version']} at {report['target']}: "
        f"{report['requests']:,} requests of {report['source']} beside {report['reference']}",
        title_justify="left",
    )
    table.add_column("task")
    for column in ("scores", "largest", "mean", f"beyond {report['tolerance']:g}", "share"):
        table.add_column(column, justify="right")
    for task, found in report["tasks"].items():
        table.add_row(
            task, f"{found['scores']:,}", f"{found['largest']:.2g}", f"{found['mean']:.2g}",
            f"{found['beyond']:,}", f"{found['share_beyond']:.2%}",
        )  # fmt: skip
    return table


def _worst(report: Report) -> Table:
    table = Table(title="the requests that differ most", title_justify="left")
    for column in ("file", "index", "request", "user", "task", "item"):
        table.add_column(column)
    for column in ("online", "offline"):
        table.add_column(column, justify="right")
    for row in report["worst"]:
        item = row["item"] or f"candidate {row['candidate']}"
        ids = [row["request"] or "", row["user"] or "", row["task"], item]
        texts = [row["file"], str(row["index"]), *ids]
        scores = [_score(row["online"]), _score(row["offline"])]
        table.add_row(*map(Text, texts), *scores)
    return table


def _features(report: Report) -> Table:
    table = Table(title="their largest difference without a feature", title_justify="left")
    table.add_column("feature")
    table.add_column("read by")
    table.add_column("without it", justify="right")
    for row in report["features"]:
        style = "bold" if row["named"] else None
        inputs = ", ".join(row["inputs"])
        table.add_row(row["feature"], inputs, f"{row['without']:.2g}", style=style)
    return table


def _score(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6f}"


def _place(outlier: Outlier, schema: Schema | None) -> dict[str, Any]:
    """How to find an outlier, and what it is."""
    request, (row, candidate) = outlier.request, outlier.index
    return {
        "file": request.file,
        "index": request.index,
        "request": request.request,
        "user": request.user or _user(request.inputs, row, schema),
        "task": outlier.task,
        "row": row,
        "candidate": candidate,
        "item": request.items[candidate] if request.items else None,
        # JSON has no NaN and no infinity.
        "online": outlier.online if math.isfinite(outlier.online) else None,
        "offline": outlier.offline,
        "difference": outlier.difference,
    }


def _user(inputs: dict[str, Any], row: int, schema: Schema | None) -> str | None:
    """The user's id, where a feature reads its column."""
    for name, feature in schema.features.items() if schema else ():
        if (feature.column or name) == schema.keys.user and name in inputs:
            value = inputs[name][row]
            return value.decode() if isinstance(value, bytes) else str(value)
    return None
