"""What `benchmarks/serving.py` measured, as a page: ratios, lines over candidates, bars."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt

# A script sees its own folder alone, where a file has the name of a package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.files import write_csv, write_figure, write_text

LENGTHS = (50, 200)
ROUNDS = 5
# At once, for the requests a second: as many as the local server computes at once.
CLIENTS = 4
PEER, PEER_OF = "deepctr", "din"
WAYS = ("folded", "two_step", "item_tower", "row_wise", PEER)
COLUMNS = (
    "model", "length", "candidates", "way", "p50_ms", "p99_ms", "requests_per_second", "calls",
    "clients", "folded_flops", "row_wise_flops", "environment",
)  # fmt: skip
# The bars on ratios hold for one size.
BAR_SIZE = {"candidates": 100, "length": 200}
# The least requests of folded by those of row-wise, where the encoder of behaviours sees no
# candidate.
BAR_TIMES = {"srp4ctr": 20.0}
# The least of such a ratio by that of the FLOPs.
BAR_SHARE = dict.fromkeys(("din", "dcn_v2", "bst"), 0.8)
BAR_LINEAR = 0.99

INTRODUCTION = """\
`python benchmarks/serving.py --workspace workspace`. {environment}.

Random weights, tables of MovieLens-1M's sizes, one request with L behaviours and N candidates, all
valid, ids as integers. The local server, a process of its own on loopback with one thread an
operation (`--operation-threads 1`), is asked from the same cores: for the latency by one client,
one call at a time; for the requests a second by {clients} at once, with 1,000 candidates by one.
All ways and sizes of a model and L take turns, {rounds} rounds; p99 of under 100 calls is the
longest.

- `folded` is one call;
- `two_step` the user tower, then the item tower with the state sent back;
- `item_tower` the latter alone, as for a further page of a session;
- `row_wise` one call with the user side tiled N times;
- `deepctr` DeepCTR's DIN of the same fields and sizes, exported in its own environment (TensorFlow
  2.15) and asked on such a server, the user tiled. Its inputs are rows of tables, not ids, and it
  averages the behaviours' ratings."""


def of(rows: Sequence[dict], **asked: object) -> list[dict]:
    """The rows that have these values."""
    return [row for row in rows if all(row[key] == value for key, value in asked.items())]


def times(rows: Sequence[dict], way: str, **asked: object) -> float | None:
    """Requests a second of folded by those of another way; None where that was not measured.

    Example:
        >>> rows = [{"way": "folded", "requests_per_second": 30.0},
        ...         {"way": "row_wise", "requests_per_second": 4.0}]
        >>> times(rows, "row_wise"), times(rows, "deepctr")
        (7.5, None)
    """
    folded, other = (of(rows, way=each, **asked) for each in ("folded", way))
    if not folded or not other:
        return None
    return folded[0]["requests_per_second"] / other[0]["requests_per_second"]


def bound(rows: Sequence[dict], **asked: object) -> float:
    """The FLOPs of row-wise by those of folded."""
    first = of(rows, **asked)[0]
    return first["row_wise_flops"] / first["folded_flops"]


def line(candidates: Sequence[int], milliseconds: Sequence[float]) -> tuple[float, float, float]:
    """The least-squares line: microseconds a candidate, milliseconds a call, R^2.

    Example:
        >>> [round(each, 6) for each in line([0, 10, 20], [2.0, 3.0, 4.0])]
        [100.0, 2.0, 1.0]
    """
    x, y = np.array(candidates, float), np.array(milliseconds)
    slope, intercept = np.polyfit(x, y, 1)
    unexplained = np.square(y - (slope * x + intercept)).sum() / np.square(y - y.mean()).sum()
    return float(1000 * slope), float(intercept), float(1 - unexplained)


def lines_over_candidates(rows: Sequence[dict]) -> dict[tuple[str, int], tuple]:
    """The line through folded's medians, by model and L."""
    found = {}
    for case in dict.fromkeys((row["model"], row["length"]) for row in rows):
        own = of(rows, model=case[0], length=case[1], way="folded")
        found[case] = line([row["candidates"] for row in own], [row["p50_ms"] for row in own])
    return found


def bars(rows: Sequence[dict]) -> list[str]:
    """What is asked of the figures that are there, and whether they reach it."""
    found = []

    def judge(what: str, value: float, least: float, form: str) -> None:
        said = "PASS" if value >= least else "MISSED"
        found.append(f"- {said}: {what} {value:{form}}, bar {least:g}.")

    size = "N = {candidates}, L = {length}".format(**BAR_SIZE)
    for model in dict.fromkeys(row["model"] for row in rows):
        measured = times(rows, "row_wise", model=model, **BAR_SIZE)
        if measured is None:
            continue
        if model in BAR_TIMES:
            what = f"{model}, {size}: requests of folded by those of row-wise"
            judge(what, measured, BAR_TIMES[model], ".2f")
        if model in BAR_SHARE:
            flops = bound(rows, model=model, **BAR_SIZE)
            what = (
                f"{model}, {size}: folded serves {measured:.2f} times the requests of row-wise, "
                f"FLOPs bound {flops:.2f}; share of the bound"
            )
            judge(what, measured / flops, BAR_SHARE[model], ".2f")
    for (model, length), (slope, _, fit) in lines_over_candidates(rows).items():
        what = f"{model}, L = {length}: folded takes {slope:.1f} µs a candidate; R² of the line"
        judge(what, fit, BAR_LINEAR, ".4f")
    return found


def page(rows: Sequence[dict]) -> list[str]:
    """The bars, then a table each for the ways, their ratios and the lines."""
    lines = [
        "# Serving",
        "",
        INTRODUCTION.format(environment=rows[0]["environment"], clients=CLIENTS, rounds=ROUNDS),
        "",
        "![latency over candidates](serving.svg)",
        "",
        "## Bars",
        "",
        *bars(rows),
        "",
        "## Latency and requests",
        "",
        "| model | L | N | way | p50, ms | p99, ms | requests/s | calls |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["model"], str(row["length"]), f"{row['candidates']:,}", row["way"]]
        cells += [f"{row[key]:,.2f}" for key in ("p50_ms", "p99_ms", "requests_per_second")]
        lines.append(f"| {' | '.join(cells)} | {row['calls']:,} |")
    lines += [
        "",
        "## Requests of folded by those of other ways",
        "",
        "The bound is the FLOPs of row-wise by those of folded, as `ctr-tf models --flops` counts "
        "them; what is not of FLOPs, such as reading and checking a request, may exceed it.",
        "",
        "| model | L | N | row-wise | FLOPs bound | share of the bound | two-step | DeepCTR |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in of(rows, way="row_wise"):
        case = {key: row[key] for key in ("model", "length", "candidates")}
        measured, flops = times(rows, "row_wise", **case), bound(rows, **case)
        steps, peer = (times(rows, way, **case) for way in ("two_step", PEER))
        cells = [row["model"], str(row["length"]), f"{row['candidates']:,}", f"{measured:.2f}"]
        cells += [f"{flops:.2f}", f"{measured / flops:.2f}", f"{steps:.2f}"]
        lines.append(f"| {' | '.join(cells)} | {f'{peer:.2f}' if peer else '–'} |")
    lines += [
        "",
        "## Folded latency over N",
        "",
        "Least squares through the medians.",
        "",
        "| model | L | µs a candidate | ms a call | R² |",
        "|---|---|---|---|---|",
    ]
    for (model, length), (slope, intercept, fit) in lines_over_candidates(rows).items():
        lines.append(f"| {model} | {length} | {slope:.2f} | {intercept:.2f} | {fit:.4f} |")
    return lines


def plot(rows: Sequence[dict], path: Path) -> None:
    """Median latency over N by way, a panel a model; L by the style of the line."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure, panels = plt.subplots(
        1, len(models), figsize=(1 + 3.2 * len(models), 4.2), layout="constrained", squeeze=False,
        sharey=True,
    )  # fmt: skip
    handles = {}
    for axis, model in zip(panels[0], models):
        for index, way in enumerate(WAYS):
            for length, style in zip(LENGTHS, ("--", "-")):
                own = of(rows, model=model, way=way, length=length)
                if own:
                    x, y = ([row[key] for row in own] for key in ("candidates", "p50_ms"))
                    label = f"{way}, L = {length}"
                    (handles[label],) = axis.plot(x, y, style, color=f"C{index}", marker=".")
        axis.set(title=model, xlabel="candidates, N", xscale="log", yscale="log")
        axis.grid(alpha=0.3)
    panels[0, 0].set_ylabel("median latency, ms")
    figure.legend(handles.values(), handles, loc="outside right center")
    write_figure(path, figure)


def write(folder: Path, rows: Sequence[dict]) -> Path:
    """Writes `serving.csv`, `.svg` and `.md`; returns the latter."""
    write_csv(folder / "serving.csv", COLUMNS, rows)
    plot(rows, folder / "serving.svg")
    return write_text(folder / "serving.md", "\n".join(page(rows)) + "\n")
