"""The plots of a report, each as an SVG in a data URI."""

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from ctr_tf.evaluation.curves import Curves, Series

# Okabe and Ito's colours, told apart by colour-blind readers, too.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6b7280"
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.8,
    "xtick.color": "#374151",
    "ytick.color": "#374151",
    "legend.frameon": False,
    # A fixed salt keeps the page the same for the same report.
    "svg.hashsalt": "ctr_tf",
}


def learning_curves(curves: Curves) -> str | None:
    """Losses, and AUC and GAUC of every task or metrics of the next item, over the training step.

    None without records.
    """
    losses = _labelled(curves, ["loss", *curves.names_ending("_loss")])
    rankings = [*curves.names_ending("_auc"), *curves.names_ending("_gauc")]
    title = "AUC and GAUC" if rankings else "Next item"
    rankings = rankings or [name for name in ("hr", "ndcg", "mrr") if curves.series(name)]
    if not losses and not rankings:
        return None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        panels = figure.subplots(1, 2 if losses and rankings else 1, squeeze=False)[0]
        if losses:
            for (label, series), colour in zip(losses, _cycle() * len(losses), strict=False):
                _line(panels[0], *series, label, colour)
            _finish(panels[0], "Loss", "training step", "loss")
        if rankings:
            lines = _labelled(curves, rankings)
            for (label, series), colour in zip(lines, _cycle() * len(lines), strict=False):
                _line(panels[-1], *series, label, colour)
            _finish(panels[-1], title, "training step", "")
        for panel in panels:
            panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return _data_uri(figure)


def _labelled(curves: Curves, names: Sequence[str]) -> list[tuple[str, Series]]:
    """A line for each metric and split."""
    return [
        (f"{name}, {split}", series)
        for name in names
        for split, series in curves.series(name).items()
    ]


def calibration(bins: list[dict[str, Any]]) -> str | None:
    """Click-through rate over mean score with Wilson intervals, above the impressions by bin."""
    filled = [b for b in bins if b["impressions"]]
    if not filled:
        return None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        scores = [b["mean_score"] for b in filled]
        rates = [b["positive_rate"] for b in filled]
        ends = [_wilson(b["positive_rate"], b["impressions"]) for b in filled]
        errors = [
            [max(0.0, rate - low) for rate, (low, _) in zip(rates, ends, strict=True)],
            [max(0.0, high - rate) for rate, (_, high) in zip(rates, ends, strict=True)],
        ]
        span = [min(scores), max(scores)]
        upper.plot(span, span, color=GREY, linestyle="--", linewidth=1, label="calibrated")
        upper.errorbar(
            scores,
            rates,
            errors,
            color=BLUE,
            marker="o",
            markersize=4,
            linewidth=1.2,
            elinewidth=1,
            capsize=2,
            label="observed",
        )
        _finish(upper, "Calibration", "", "click-through rate")
        widths = [max(b["high"] - b["low"], 1e-3) for b in filled]
        lower.bar(
            [b["low"] for b in filled],
            [b["impressions"] for b in filled],
            widths,
            align="edge",
            color=BLUE,
            alpha=0.5,
            edgecolor="white",
            linewidth=0.5,
        )
        _count_scale(lower, [b["impressions"] for b in filled])
        _finish(lower, "", "mean score", "impressions")
        return _data_uri(figure)


def score_histogram(bins: list[dict[str, Any]]) -> str | None:
    """Share of each class by score; None without rows."""
    positives = sum(b["positives"] for b in bins)
    negatives = sum(b["impressions"] for b in bins) - positives
    if not bins:
        return None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.subplots()
        edges = [bins[0]["low"], *(b["high"] for b in bins)]
        if edges[0] == edges[-1]:
            edges = [edges[0] - 5e-4, edges[0] + 5e-4]
        classes = (
            (
                f"negatives ({negatives:,})",
                [b["impressions"] - b["positives"] for b in bins],
                negatives,
                ORANGE,
            ),
            (f"positives ({positives:,})", [b["positives"] for b in bins], positives, BLUE),
        )
        for label, counts, total, colour in classes:
            shares = [count / total if total else 0.0 for count in counts]
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.25)
            axes.stairs(shares, edges, color=colour, linewidth=1.4, label=label)
        _finish(axes, "Scores by class", "score", "share of the class")
        return _data_uri(figure)


def auc_by_bucket(
    buckets: list[dict[str, Any]], overall: float | None, title: str, axis: str
) -> str | None:
    """AUC by bucket with its 95 % intervals, above the impressions; None without a value."""
    filled = [b for b in buckets if b["impressions"]]
    if overall is None or not any(b["auc"]["value"] is not None for b in filled):
        return None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 4.0), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        for position, bucket in enumerate(filled):
            _point(upper, position, bucket["auc"], overall)
        upper.axhline(overall, color=GREY, linestyle="--", linewidth=1)
        upper.set_title(f"dashed: all, {overall:.4f}", loc="right", fontsize=9, color=GREY)
        _finish(upper, title, "", "AUC")
        positions = range(len(filled))
        lower.bar(positions, [b["impressions"] for b in filled], color=BLUE, alpha=0.5, width=0.6)
        _count_scale(lower, [b["impressions"] for b in filled])
        lower.set_xticks(positions, [b["bucket"] for b in filled])
        lower.set_xlim(-0.6, len(filled) - 0.4)
        _finish(lower, "", axis, "impressions")
        return _data_uri(figure)


def _count_scale(axes: Axes, counts: list[int]) -> None:
    """A log scale over whole decades, labelled at the decades alone."""
    low, high = (math.log10(count) for count in (min(counts), max(counts)))
    # Half a decade below the least count, so that its bar can be seen.
    axes.set(yscale="log", ylim=(10 ** math.floor(low - 0.5), 10 ** max(math.ceil(high), 1)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _point(axes: Axes, position: int, metric: dict[str, Any], overall: float) -> None:
    if metric["value"] is None:
        axes.annotate(
            "undefined", (position, overall), ha="center", va="bottom", fontsize=8, color=GREY
        )
        return
    if metric["low"] is not None:
        axes.vlines(position, metric["low"], metric["high"], color=BLUE, linewidth=1.4)
    axes.plot([position], [metric["value"]], color=BLUE, marker="o", markersize=5)


def _line(axes: Axes, steps: list[int], values: list[float], label: str, colour: str) -> None:
    marker = "o" if len(steps) <= 30 else None
    axes.plot(
        steps,
        values,
        color=colour,
        linewidth=1.5,
        marker=marker,
        markersize=3,
        label=label.replace("_", " "),
    )


def _finish(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=9)


def _cycle() -> list[str]:
    return [BLUE, ORANGE, GREEN, PURPLE, GREY]


def _wilson(rate: float, rows: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate, which stays in [0, 1] at rates near 0."""
    z = 1.96
    centre = (rate + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(rate * (1 - rate) / rows + (z / (2 * rows)) ** 2)
    return centre - half, centre + half


def _data_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
