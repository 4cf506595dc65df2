"""AUC against the cost of a candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

from benchmarks.leaderboard.scores import spread

if TYPE_CHECKING:
    from benchmarks.leaderboard.page import Row


def draw(path: Path, title: str, tasks: Mapping[str, Sequence[Row]]) -> Path:
    """Draws each model's AUC, with its deviation, over FLOPs of a candidate, folded and row-wise.

    Args:
        path: of the SVG.
        title: of the plot.
        tasks: the rows of each, with costs.
    """
    matplotlib.use("svg")
    from matplotlib import pyplot

    size = (9, 6 * len(tasks))
    figure, found = pyplot.subplots(len(tasks), figsize=size, layout="constrained", squeeze=False)
    for axes, (task, rows) in zip(found[:, 0], tasks.items()):
        for row in rows:
            mean, deviation = spread(row.values(task, "auc"))
            costs = row.cost["folded"], row.cost["row_wise"]
            axes.plot(costs, [mean, mean], color="0.8", zorder=1)
            axes.errorbar(costs[:1], [mean], [deviation], fmt="o", color="C0", markersize=4)
            axes.plot(costs[1:], [mean], "o", color="0.6", markersize=3)
            at = (costs[0], mean)
            axes.annotate(row.entry, at, (4, 3), textcoords="offset points", fontsize=7)
        axes.set_xscale("log")
        axes.set_xlabel("FLOPs of a candidate: folded (blue), row-wise (grey)")
        axes.set_ylabel(f"AUC of {task} on the test split")
    figure.suptitle(title)
    partial = path.with_name(f".{path.name}")
    figure.savefig(partial, format="svg")
    pyplot.close(figure)
    partial.replace(path)
    return path
