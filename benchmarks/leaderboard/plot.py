"""AUC against the cost of a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

from benchmarks.leaderboard.scores import spread

if TYPE_CHECKING:
    from benchmarks.leaderboard.page import Row


def draw(path: Path, title: str, rows: Sequence[Row]) -> Path:
    """Draws each model's AUC, with its deviation, over FLOPs of a candidate, folded and row-wise.

    Args:
        path: of the SVG.
        title: of the plot.
        rows: with costs.
    """
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6), layout="constrained")
    (task, *_) = rows[0].runs[0].test
    for row in rows:
        mean, deviation = spread(row.values(task, "auc"))
        costs = row.cost["folded"], row.cost["row_wise"]
        axes.plot(costs, [mean, mean], color="0.8", zorder=1)
        axes.errorbar(costs[:1], [mean], [deviation], fmt="o", color="C0", markersize=4)
        axes.plot(costs[1:], [mean], "o", color="0.6", markersize=3)
        axes.annotate(row.entry, (costs[0], mean), (4, 3), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel("FLOPs of a candidate: folded (blue), row-wise (grey)")
    axes.set_ylabel(f"AUC of {task} on the test split")
    axes.set_title(title)
    partial = path.with_name(f".{path.name}")
    figure.savefig(partial, format="svg")
    pyplot.close(figure)
    partial.replace(path)
    return path
