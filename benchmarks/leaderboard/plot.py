"""AUC and the cost of a candidate, model by model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

from benchmarks.files import write_figure
from benchmarks.leaderboard.scores import spread

if TYPE_CHECKING:
    from benchmarks.leaderboard.page import Row


def draw(path: Path, title: str, tasks: Mapping[str, Sequence[Row]]) -> Path:
    """Draws a line for each model: its AUC with deviation, beside its FLOPs folded and row-wise.

    Args:
        path: of the SVG.
        title: of the plot.
        tasks: the rows of each, with costs, the best first.
    """
    matplotlib.use("svg")
    from matplotlib import pyplot

    heights = [len(rows) for rows in tasks.values()]
    figure, found = pyplot.subplots(
        len(tasks),
        2,
        figsize=(10, 1.2 * len(tasks) + 0.24 * sum(heights)),
        height_ratios=heights,
        sharey="row",
        layout="constrained",
        squeeze=False,
    )
    for (quality, cost), (task, rows) in zip(found, tasks.items()):
        lines = range(len(rows))
        means, deviations = zip(*(spread(row.values(task, "auc")) for row in rows))
        quality.errorbar(means, lines, xerr=deviations, fmt="o", color="C0", markersize=4)
        quality.set_yticks(lines, [row.entry for row in rows])
        quality.invert_yaxis()
        quality.locator_params(axis="x", nbins=6)
        quality.set_xlabel(f"AUC of {task} on the test split")
        ends = [[row.cost[key] for row in rows] for key in ("folded", "row_wise")]
        cost.hlines(lines, *ends, color="0.8", zorder=1)
        for values, colour in zip(ends, ("C0", "0.6")):
            cost.plot(values, lines, "o", color=colour, markersize=4)
        cost.set_xscale("log")
        cost.set_xlabel("FLOPs of a candidate: folded (blue), row-wise (grey)")
        for axes in (quality, cost):
            axes.grid(color="0.92")
            axes.set_axisbelow(True)
    figure.suptitle(title)
    return write_figure(path, figure)
