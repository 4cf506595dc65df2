"""Tables of the runs of a comparison."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.files import write_csv, write_text

METRICS = ("auc", "gauc", "log_loss")
COLUMNS = (
    "split", "model", "stack", "seed", *METRICS, "parameters",
    "impressions", "positives", "users", "users_one_class", "users_without_training_rows",
    "epochs", "max_steps", "batch_size", "learning_rate",
)  # fmt: skip
SPLITS = {"time": "global time", "last": "last interactions"}
STACKS = {"ctr_tf": "ctr_tf", "ctr_tf_dense": "ctr_tf, dense Adam", "fuxictr": "FuxiCTR"}


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; the latter is 0 for one value.

    Example:
        >>> mean, deviation = spread([0.70, 0.71, 0.72])
        >>> round(mean, 6), round(deviation, 6)
        (0.71, 0.01)
    """
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def verdict(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Whether ours are below theirs by more than the larger of the two deviations.

    Example:
        >>> verdict([0.70, 0.71, 0.72], [0.71, 0.715, 0.72])
        '-0.0050 (spread 0.0100): within'
        >>> verdict([0.70, 0.70], [0.72, 0.72])
        '-0.0200 (spread 0.0000): below'
    """
    (mean, deviation), (their_mean, their_deviation) = spread(ours), spread(theirs)
    difference, largest = mean - their_mean, max(deviation, their_deviation)
    found = "within" if abs(difference) <= largest else "above" if difference > 0 else "below"
    return f"{difference:+.4f} (spread {largest:.4f}): {found}"


def write(folder: Path, name: str, runs: list[dict]) -> Path:
    """Writes `<name>.csv`, a row a run, and `<name>.md`, mean and deviation; returns the latter.

    Args:
        folder: of both files.
        name: of both files.
        runs: a mapping of `COLUMNS`, and `versions`, each.
    """
    write_csv(folder / f"{name}.csv", COLUMNS, runs)
    return write_text(folder / f"{name}.md", "\n".join(_page(name, runs)) + "\n")


def _page(name: str, runs: list[dict]) -> list[str]:
    first = runs[0]
    budget = f"{first['epochs']} epoch(s)"
    if first["max_steps"]:
        budget = f"{first['max_steps']} steps"
    versions = {key: value for run in runs for key, value in run["versions"].items()}
    lines = [
        f"# {name}: ctr_tf beside FuxiCTR",
        "",
        f"{budget} of about {first['batch_size']} impressions a batch, Adam, learning rate "
        f"{first['learning_rate']:g}; seeds {', '.join(map(str, _distinct(runs, 'seed')))}. "
        "Mean ± standard deviation over the seeds, of the test split.",
        "",
        f"{os.cpu_count()} CPU cores, {platform.machine()}; "
        + ", ".join(f"{key} {value}" for key, value in sorted(versions.items()))
        + ".",
    ]
    for split in _distinct(runs, "split"):
        own = [run for run in runs if run["split"] == split]
        lines += [
            "",
            f"## Split: {SPLITS[split]}",
            "",
            f"{own[0]['impressions']:,} test impressions ({own[0]['positives']:,} positive) of "
            f"{own[0]['users']:,} users; {own[0]['users_without_training_rows']:,} of them have "
            f"no training rows, {own[0]['users_one_class']:,} have one class and no AUC.",
            "",
            "| model | stack | runs | AUC | GAUC | log loss | parameters |",
            "|---|---|---|---|---|---|---|",
        ]
        compared = []
        for model in _distinct(own, "model"):
            found = {
                stack: [r for r in own if r["model"] == model and r["stack"] == stack]
                for stack in STACKS
            }
            found = {stack: group for stack, group in found.items() if group}
            lines += [_row(model, stack, group) for stack, group in found.items()]
            ours = found.pop("ctr_tf", [])
            compared += [
                f"- {model}, {metric.upper()}: ctr_tf − {STACKS[stack]} = "
                + verdict([r[metric] for r in ours], [r[metric] for r in theirs])
                for stack, theirs in found.items()
                for metric in ("auc", "gauc")
                if ours
            ]
        lines += ["", *compared] if compared else []
    return lines


def _row(model: str, stack: str, runs: list[dict]) -> str:
    cells = [model, STACKS[stack], str(len(runs))]
    cells += [
        "{:.4f} ± {:.4f}".format(*spread([run[metric] for run in runs])) for metric in METRICS
    ]
    cells.append(f"{runs[0]['parameters']:,}")
    return f"| {' | '.join(cells)} |"


def _distinct(runs: list[dict], key: str) -> list:
    return list(dict.fromkeys(run[key] for run in runs))
