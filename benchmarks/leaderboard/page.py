"""The page, the CSV and the plot of a board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.files import write_text
from benchmarks.leaderboard import record
from benchmarks.leaderboard.board import OURS, PEER, Board
from benchmarks.leaderboard.runs import Run
from benchmarks.leaderboard.scores import COUNTS, METRICS, plus_minus, verdict

STACKS = {OURS: "ctr_tf", PEER: "FuxiCTR"}


@dataclass
class Row:
    """An entry of one stack.

    Args:
        entry: its name.
        stack: `OURS` or `PEER`.
        trials: of tuning, one a point.
        runs: of the best point, one a seed.
        rates: short trainings for the speed.
    """

    entry: str
    stack: str
    trials: list[Run] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    rates: list[Run] = field(default_factory=list)

    def values(self, task: str, metric: str) -> list[float]:
        """A metric of the test split, a value a seed."""
        return [run.test[task][metric] for run in self.runs]

    @property
    def samples_per_second(self) -> float | None:
        """The median rate of training; None where it was not measured."""
        found = [run.facts["samples_per_second"] for run in self.rates]
        # A run of very few steps, all of which are traced, has none.
        found = [rate for rate in found if rate]
        return median(found) if found else None

    @property
    def cost(self) -> dict[str, float]:
        """FLOPs of a candidate, `folded` and `row_wise`; empty where they were not counted."""
        return next((run.facts["cost"] for run in self.rates if "cost" in run.facts), {})


def tasks_of(rows: Sequence[Row]) -> list[str]:
    """The tasks that any row has."""
    return list(dict.fromkeys(task for row in rows for task in row.runs[0].test))


def of_task(rows: Sequence[Row], task: str) -> list[Row]:
    """The rows that have a task, the best AUC first."""
    found = [row for row in rows if task in row.runs[0].test]
    return sorted(found, key=lambda row: -np.mean(row.values(task, "auc")))


def check_same_rows(rows: Sequence[Row]) -> None:
    """All runs of a task were tested on the same impressions.

    Raises:
        ValueError: a count differs.
    """
    for task in tasks_of(rows):
        runs = [run for row in of_task(rows, task) for run in row.runs]
        for key in COUNTS:
            found = {f"{r.stack} {r.entry} {r.seed}": r.test[task][key] for r in runs}
            if len(set(found.values())) > 1:
                raise ValueError(f"{task}: {key} of the test rows must be equal, got {found}")


def write(folder: Path, name: str, board: Board, rows: Sequence[Row]) -> Path:
    """Writes `leaderboard_<name>.md`, `.csv` and, where costs are known, `.svg`; returns the first.

    Args:
        folder: of the files.
        name: of the board.
        board: what was to be trained.
        rows: those that are finished.
    """
    check_same_rows(rows)
    # In whatever order they were finished.
    rows = sorted(rows, key=lambda row: board.rows.index((row.entry, row.stack)))
    file = folder / f"leaderboard_{name}"
    record.write(file.with_suffix(".csv"), rows, board.rows)
    ours = [row for row in rows if row.stack == OURS]
    plotted = [row for row in ours if row.cost]
    if plotted:
        from benchmarks.leaderboard.plot import draw

        tasks = {task: of_task(plotted, task) for task in tasks_of(plotted)}
        draw(file.with_suffix(".svg"), board.title, tasks)
    return write_text(file.with_suffix(".md"), "\n".join(_page(name, board, rows)) + "\n")


def table(board: Board, rows: Sequence[Row], task: str) -> list[str]:
    """The lines of the table of a task, the best AUC first."""
    published = {entry.name: entry.published for entry in board.entries if entry.published}
    head = ["model", "AUC", "GAUC", "log loss", "parameters", "samples/s"]
    head += ["MFLOPs folded", "row-wise", *["published AUC"] * bool(published)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in of_task(rows, task):
        cells = [f"`{row.entry}`", *(plus_minus(row.values(task, each)) for each in METRICS)]
        rate, cost = row.samples_per_second, row.cost
        cells += [f"{row.runs[0].facts['parameters']:,}", f"{rate:,.0f}" if rate else ""]
        cells += [f"{cost[key] / 1e6:.4f}" if cost else "" for key in ("folded", "row_wise")]
        if published:
            cells += [f"{published[row.entry]:.4f}" if row.entry in published else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _page(name: str, board: Board, rows: Sequence[Row]) -> list[str]:
    ours = [row for row in rows if row.stack == OURS]
    seeds = max((len(row.runs) for row in rows), default=0)
    runs = [run for row in rows for run in row.runs]
    versions = {each for run in runs for each in run.facts["versions"].items()}
    machines = sorted({run.facts["machine"] for run in runs})
    tuned = ", each at the point of the grid with the best AUC on the validation split"
    lines = [
        f"# {board.title}",
        "",
        f"`python -m benchmarks.leaderboard --boards {name}`; `benchmarks/README.md` says what the "
        f"columns are. Mean ± standard deviation of {seeds} seeds on the test split"
        f"{tuned * (len(board.points) > 1)}.",
        "",
        "; ".join(machines)
        + "; "
        + ", ".join(f"{key} {value}" for key, value in sorted(versions))
        + ".",
    ]
    for task in tasks_of(ours):
        run = of_task(ours, task)[0].runs[0]
        lines += ["", f"## {task}", "", _counts(run.test[task]), "", *table(board, ours, task)]
    unfinished = [
        f"`{entry}` ({STACKS[stack]})"
        for entry, stack in board.rows
        if (entry, stack) not in [(row.entry, row.stack) for row in rows]
    ]
    lines += ["", f"Not finished: {', '.join(unfinished)}."] if unfinished else []
    lines += _beside(rows)
    return lines + _tuning(board, rows)


def _counts(found: dict) -> str:
    text = f"{found['impressions']:,} test impressions, {found['positives']:,} positive"
    if not found["users"]:
        return f"{text}."
    one_class = f"{found['users_one_class']:,} of whom have one class and no AUC"
    return f"{text}, of {found['users']:,} users, {one_class}."


def _beside(rows: Sequence[Row]) -> list[str]:
    """The other library's runs, and whether ours are below them."""
    theirs = {row.entry: row for row in rows if row.stack == PEER}
    ours = [row for row in rows if row.stack == OURS and row.entry in theirs]
    if not ours:
        return []
    (task,) = tasks_of(ours)
    lines = [
        "",
        "## Beside FuxiCTR",
        "",
        "The same rows, grid and seeds. The difference is ours − FuxiCTR's; the spread is the "
        "larger of the two standard deviations.",
        "",
        "| model | AUC | FuxiCTR's AUC | difference | GAUC | FuxiCTR's GAUC | difference "
        "| FuxiCTR's parameters | samples/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for own in of_task(ours, task):
        peer = theirs[own.entry]
        cells = [f"`{own.entry}`"]
        for metric in ("auc", "gauc"):
            values = own.values(task, metric), peer.values(task, metric)
            cells += [*map(plus_minus, values), verdict(*values)]
        rate = peer.samples_per_second
        cells += [f"{peer.runs[0].facts['parameters']:,}", f"{rate:,.0f}" if rate else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _tuning(board: Board, rows: Sequence[Row]) -> list[str]:
    """AUC on the validation split by point of the grid."""
    points = list(dict.fromkeys(trial.point for row in rows for trial in row.trials))
    if len(points) < 2:
        return []
    lines = ["", "## Tuning", "", "AUC on the validation split, first seed, by point of the grid."]
    lines += ["", f"| model | stack | {' | '.join(map(', '.join, points))} |"]
    lines += ["|---|---" + "|---" * len(points) + "|"]
    for row in rows:
        found = {trial.point: trial.value for trial in row.trials}
        chosen = row.runs[0].point
        cells = [f"{found[p]:.4f}" + " (best)" * (p == chosen) for p in points]
        lines.append(f"| `{row.entry}` | {STACKS[row.stack]} | {' | '.join(cells)} |")
    edge = sum(board.at_edge(row.runs[0].point) for row in rows)
    return [*lines, "", f"The best point of {edge} of {len(rows)} rows is at an edge of the grid."]
