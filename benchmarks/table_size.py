"""Step time and memory over the size of the tables, the batches being the same.

    python benchmarks/table_size.py --workspace workspace

DeepFM of W1 with tables of 1, 10 and 50 million rows, of which the same ids occur. One process at a
time, every side once before any side twice; a finished run is not repeated.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.files import write_csv, write_figure, write_text
from benchmarks.speed.summary import SIDES
from benchmarks.speed.workloads import TABLE_ROWS, WORKLOADS
from benchmarks.training import SIDES as RUNNERS
from benchmarks.training import Comparison, command_line, environment

COLUMNS = ("side", "millions", "repeat", "outcome", "step_ms", "peak_mib", "machine")


def row(run: dict) -> dict:
    """What of a run is tabulated.

    Example:
        >>> run = {"workload": "rows_10m", "side": "ours", "outcome": "done", "repeat": 1,
        ...        "samples_per_second": 40960.0, "peak_mib": 7, "machine": "x"}
        >>> row(run)["millions"], row(run)["step_ms"]
        (10, 100.0)
    """
    found = run | {"millions": int(run["workload"].removeprefix("rows_").removesuffix("m"))}
    if run["outcome"] == "done":
        found["step_ms"] = 1000 * WORKLOADS[run["workload"]].batch / run["samples_per_second"]
    return found


def lines(rows: list[dict]) -> list[str]:
    """The page: a table of medians, and by how much the largest tables slow a step."""
    sides = list(dict.fromkeys(each["side"] for each in rows))
    page = [
        "# Step time over the rows of the tables",
        "",
        f"DeepFM of W1, batches of 4,096, width 16; {rows[0]['machine']}. Medians of "
        f"{max(each['repeat'] for each in rows)} runs; the same ids occur in tables of any size.",
        "",
        "![step time and memory](table_size.svg)",
        "",
        "| side | " + " | ".join(f"{m} million rows" for m in TABLE_ROWS) + " | last / first |",
        "|---|" + "---|" * (len(TABLE_ROWS) + 1),
    ]
    for side in sides:
        cells, times = [], {}
        for millions in TABLE_ROWS:
            own = [r for r in rows if (r["side"], r["millions"]) == (side, millions)]
            done = [r for r in own if r["outcome"] == "done"]
            if done:
                times[millions] = median(r["step_ms"] for r in done)
                peak = median(r["peak_mib"] for r in done) / 1024
                cells.append(f"{times[millions]:,.0f} ms, {peak:.1f} GiB")
            else:
                cells.append(own[0]["outcome"] if own else "not run")
        ratio = f"{times[max(times)] / times[min(times)]:.2f}" if len(times) > 1 else ""
        page.append(f"| {SIDES[side]} | {' | '.join(cells)} | {ratio} |")
    return page


def plot(rows: list[dict], path: Path) -> None:
    """Both figures over the rows, one line a side; a cross where a run did not fit."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for side in dict.fromkeys(each["side"] for each in rows):
        own = [r for r in rows if r["side"] == side]
        done = [r for r in own if r["outcome"] == "done"]
        sizes = sorted({r["millions"] for r in done})
        for axis, key, scale in ((axes[0], "step_ms", 1), (axes[1], "peak_mib", 1024)):
            values = [median(r[key] for r in done if r["millions"] == m) / scale for m in sizes]
            (line,) = axis.plot(sizes, values, marker="o", label=SIDES[side])
            for lost in sorted({r["millions"] for r in own} - set(sizes)):
                axis.plot(lost, values[-1], marker="x", color=line.get_color(), markersize=10)
                axis.annotate("does not fit", (lost, values[-1]), ha="right", va="bottom")
    axes[0].set(title="step time", ylabel="milliseconds", yscale="log")
    axes[1].set(title="peak memory", ylabel="GiB", ylim=(0, None))
    for axis in axes:
        axis.set(xlabel="million rows of tables", xscale="log", xticks=TABLE_ROWS)
        axis.set_xticklabels(TABLE_ROWS)
        axis.grid(alpha=0.3)
    axes[0].legend()
    write_figure(path, figure)


def write(folder: Path, runs: list[dict]) -> Path:
    """Writes `table_size.csv`, `.svg` and `.md`; returns the latter."""
    rows = [row(run) for run in runs]
    write_csv(folder / "table_size.csv", COLUMNS, rows)
    plot(rows, folder / "table_size.svg")
    return write_text(folder / "table_size.md", "\n".join(lines(rows)) + "\n")


def main() -> None:
    """The command line."""
    parser = command_line(__doc__, repeats=3, seconds=10.0)
    parser.add_argument("--sides", nargs="+", choices=RUNNERS, default=["ours", "keras", "fuxictr"])
    options = parser.parse_args()
    for side in options.sides:
        if RUNNERS[side].peer:
            environment(RUNNERS[side].peer)
    comparison, runs = Comparison(options), []
    for repeat in range(1, options.repeats + 1):
        for millions in TABLE_ROWS:
            for side in options.sides:
                runs.append(comparison.run(f"rows_{millions}m", "deepfm", side, repeat))
                page = write(options.output, runs)
    print(page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
