"""The file that a run leaves: scores by split and task, and facts; its metrics.

It is read and written by the environments of both sides: NumPy alone is installed in both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.files import write_arrays

METRICS = ("auc", "gauc", "log_loss")
COUNTS = ("impressions", "positives", "users", "users_one_class")


def save(path: Path, arrays: dict[str, np.ndarray], facts: dict) -> None:
    """Writes a file that appears whole or not at all.

    Args:
        path: of the file.
        arrays: `<split>/<task>/score`, `/label` and `/user`, (M,) each: of counted impressions;
            the user is a number, negative where there is none. Ours have `/item`, alike, and
            `/frequency`, its impressions in training; and `trained_items`, those of every item
            that has some.
        facts: of the run, for JSON.
    """
    write_arrays(path, {**arrays, "facts": np.array(json.dumps(facts))}, compressed=True)


def read_facts(path: Path) -> dict:
    """The facts that a run wrote."""
    with np.load(path) as found:
        return json.loads(str(found["facts"]))


def measure(path: Path, split: str) -> dict[str, dict]:
    """Metrics of each task on a split, and counts of its rows; the same code for both sides.

    Raises:
        ValueError: a score is not finite, or the split has one class alone, and so no AUC.
    """
    from ctr_tf import metrics

    tasks: dict[str, dict] = {}
    with np.load(path) as found:
        own = [key.split("/")[1] for key in found.files if key.startswith(f"{split}/")]
        for task in dict.fromkeys(own):
            label, score, user = (
                found[f"{split}/{task}/{key}"] for key in ("label", "score", "user")
            )
            try:
                auc = metrics.auc(label, score)
            except ValueError as error:
                raise ValueError(f"{path}: {split}/{task}: {error}") from None
            if auc.value is None:
                raise ValueError(f"{path}: {split}/{task}: the AUC is {auc}")
            gauc = metrics.gauc(label, score, user)
            tasks[task] = {
                "auc": auc.value,
                "gauc": gauc.value,
                "log_loss": metrics.log_loss(label, score).value,
                "impressions": len(label),
                "positives": int(label.sum()),
                "users": len(np.unique(user[user >= 0])),
                "users_one_class": gauc.details["users_left_out"],
            }
    return tasks


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; the latter is 0 for one value.

    Example:
        >>> mean, deviation = spread([0.70, 0.71, 0.72])
        >>> round(mean, 6), round(deviation, 6)
        (0.71, 0.01)
    """
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def plus_minus(values: Sequence[float | None]) -> str:
    """Mean and deviation, as a table says them; of one value there is no deviation.

    Example:
        >>> plus_minus([0.70, 0.71, 0.72]), plus_minus([0.70, None]), plus_minus([0.70])
        ('0.7100 ± 0.0100', 'undefined', '0.7000')
    """
    if None in values:
        return "undefined"
    mean, deviation = spread(values)
    return f"{mean:.4f} ± {deviation:.4f}" if len(values) > 1 else f"{mean:.4f}"


def verdict(ours: Sequence[float | None], theirs: Sequence[float | None]) -> str:
    """Whether ours are below theirs by more than the larger of the two deviations.

    Example:
        >>> verdict([0.70, 0.71, 0.72], [0.71, 0.715, 0.72])
        '-0.0050 (spread 0.0100): within'
        >>> verdict([0.70, 0.70], [0.72, 0.72])
        '-0.0200 (spread 0.0000): below'
        >>> verdict([None], [None])
        'undefined'
    """
    if None in (*ours, *theirs):
        return "undefined"
    (mean, deviation), (their_mean, their_deviation) = spread(ours), spread(theirs)
    difference, largest = mean - their_mean, max(deviation, their_deviation)
    found = "within" if abs(difference) <= largest else "above" if difference > 0 else "below"
    return f"{difference:+.4f} (spread {largest:.4f}): {found}"
