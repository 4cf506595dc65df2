"""The CSV of a board: a line for each training and task, to read and to go on from."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.files import read_csv, write_csv
from benchmarks.leaderboard.runs import Run
from benchmarks.leaderboard.scores import COUNTS, METRICS

if TYPE_CHECKING:
    from benchmarks.leaderboard.page import Row

COSTS = ("folded", "row_wise")
COLUMNS = (
    "model", "stack", "key", "task", "seed", "point", "chosen",
    *(f"validation_{metric}" for metric in METRICS), *METRICS, *COUNTS,
    "parameters", "samples_per_second", *(f"{name}_flops" for name in COSTS),
    "versions", "machine",
)  # fmt: skip


def write(path: Path, rows: Sequence[Row], known: Collection[tuple[str, str]]) -> Path:
    """Writes the trainings of rows, and keeps others of the file; returns the path.

    A point that was not chosen has no metrics of the test split; a training for the speed has no
    task. Several threads and processes may write.

    Args:
        path: of the CSV.
        rows: whose trainings are written; of one without runs, those that were not tested before.
        known: entry and stack of all rows of the board, in order; lines of no other are kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        before = read_csv(path, COLUMNS)
        tested = {line["key"] for line in before if line["auc"]}
        lines = [
            line for row in rows for line in _lines(row) if row.runs or line["key"] not in tested
        ]
        written = {_identity(line) for line in lines}
        lines += [line for line in before if _identity(line) not in written]
        order = {own: place for place, own in enumerate(known)}
        lines = [line for line in lines if (line["model"], line["stack"]) in order]
        lines.sort(key=lambda line: (order[line["model"], line["stack"]], *_place(line)))
        return write_csv(path, COLUMNS, lines)
    finally:
        os.close(folder)


def read(path: Path) -> dict[str, Run]:
    """The trainings of a CSV by key; none where it is not there.

    Raises:
        ValueError: the file is not of these columns, or a value does not parse; names the line.
    """
    found: dict[str, Run] = {}
    for number, line in enumerate(read_csv(path, COLUMNS), start=2):
        try:
            run = found.setdefault(line["key"], _run(line))
            if line["task"]:
                run.validation[line["task"]] = _metrics(line, "validation_")
            if line["auc"]:
                counts = {name: int(line[name]) for name in COUNTS}
                run.test[line["task"]] = _metrics(line, "") | counts
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    return found


def _place(line: Mapping[str, object]) -> tuple[int, str, int]:
    """The order of a row's lines: its runs, its other points, trainings for the speed."""
    chosen = {"1": 0, "0": 1}.get(str(line.get("chosen", "")), 2)
    return chosen, str(line["point"]), int(line["seed"])


def _identity(line: Mapping[str, object]) -> tuple[str, ...]:
    """What a line of another configuration replaces."""
    return tuple(str(line.get(name, "")) for name in ("model", "stack", "task", "seed", "point"))


def _run(line: dict[str, str]) -> Run:
    versions = [each.rpartition(" ") for each in line["versions"].split(", ") if each]
    facts = {
        "parameters": int(line["parameters"]),
        "samples_per_second": _number(line["samples_per_second"]),
        "versions": {name: version for name, _, version in versions},
        "machine": line["machine"],
    }
    if line["folded_flops"]:
        facts["cost"] = {name: float(line[f"{name}_flops"]) for name in COSTS}
    test: dict[str, dict] = {}
    point = tuple(line["point"].split())
    names = line["stack"], line["model"], point, int(line["seed"]), line["key"]
    return Run(*names, facts, validation={}, measure_test=lambda: test)


def _metrics(line: dict[str, str], prefix: str) -> dict:
    return {metric: _number(line[f"{prefix}{metric}"]) for metric in METRICS}


def _number(text: str) -> float | None:
    return float(text) if text else None


def _lines(row: Row) -> Iterator[dict]:
    chosen = {run.key for run in row.runs}
    others = [trial for trial in row.trials if trial.key not in chosen]
    for run in [*row.runs, *others]:
        for task, validation in run.validation.items():
            line = _line(run) | {"task": task, "chosen": int(run.key in chosen)}
            line |= {f"validation_{metric}": validation[metric] for metric in METRICS}
            yield line | (run.test[task] if run.key in chosen else {})
    for run in row.rates:
        costs = {f"{name}_flops": value for name, value in run.facts.get("cost", {}).items()}
        speed = {"samples_per_second": run.facts["samples_per_second"]}
        yield _line(run) | speed | costs


def _line(run: Run) -> dict:
    return {
        "model": run.entry,
        "stack": run.stack,
        "key": run.key,
        "seed": run.seed,
        "point": " ".join(run.point),
        "parameters": run.facts["parameters"],
        "versions": ", ".join(f"{key} {value}" for key, value in run.facts["versions"].items()),
        "machine": run.facts["machine"],
    }
