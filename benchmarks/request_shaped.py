"""Request-shaped training beside row-wise training of the same model on the same impressions.

    python benchmarks/request_shaped.py --workspace workspace

Both sides take the same impressions in the same order, as many a step: (B, N) candidates of B
requests, or B N requests of one candidate, with the user side tiled. One process at a time, every
side once before any side twice; a finished run is not repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.files import write_csv, write_figure, write_text
from benchmarks.speed.workloads import W3
from benchmarks.training import Comparison, Side, command_line

SIDES = {
    "request": Side("ours", ("transformer",)),
    "row": Side("ours", ("transformer",), arguments=("--row-wise",)),
}
TITLES = {"request": "request-shaped", "row": "row-wise"}
COLUMNS = (
    "impressions", "side", "repeat", "outcome", "samples_per_second", "peak_mib",
    "cpu_us_per_sample", "loss", "parameters", "steps", "seconds", "machine",
)  # fmt: skip
# The least ratio of the rates, and the impressions of a request that it is of.
BAR = 6.0
BAR_AT = 8
# Of the first losses: float32 sums in another order.
TOLERANCE = 1e-4


def of(runs: Sequence[dict], impressions: int, side: str) -> list[dict]:
    """The finished runs of a side at that many impressions a request."""
    wanted = (f"w3_{impressions}", side, "done")
    return [run for run in runs if (run["workload"], run["side"], run["outcome"]) == wanted]


def rate(runs: Sequence[dict], impressions: int, side: str) -> float | None:
    """The median of impressions a second; None without a finished run."""
    found = [run["samples_per_second"] for run in of(runs, impressions, side)]
    return median(found) if found else None


def ratio(runs: Sequence[dict], impressions: int) -> float | None:
    """The request-shaped median rate by the row-wise one; None where a side has none."""
    own, other = (rate(runs, impressions, side) for side in ("request", "row"))
    return own / other if own and other else None


def largest_difference(runs: Sequence[dict], impressions: int) -> float | None:
    """Between the first losses of the two sides; None where a side has none."""
    first = [of(runs, impressions, side)[:1] for side in ("request", "row")]
    if not all(first):
        return None
    own, other = (np.array(run[0]["first_losses"]) for run in first)
    return float(np.abs(own - other).max())


def cost(runs: Sequence[dict]) -> tuple[float, float] | None:
    """a and b, microseconds, of a + b / n, the time of an impression where a request has n.

    b is what is paid once a request, the O(L^2) encoder above all; least squares over the medians,
    relative to them. None with fewer than two.

    Example:
        >>> of_n = {n: 1e6 / (10 + 80 / n) for n in (1, 2, 8)}
        >>> runs = [{"workload": f"w3_{n}", "side": "request", "outcome": "done",
        ...          "samples_per_second": rate} for n, rate in of_n.items()]
        >>> [round(value, 6) for value in cost(runs)]
        [10.0, 80.0]
    """
    rates = {n: rate(runs, n, "request") for n in W3}
    times = {n: 1e6 / found for n, found in rates.items() if found}
    if len(times) < 2:
        return None
    n, time = np.array(list(times)), np.array(list(times.values()))
    design = np.stack([1 / time, 1 / (n * time)], axis=1)
    a, b = np.linalg.lstsq(design, np.ones(len(n)), rcond=None)[0]
    return float(a), float(b)


def page(runs: Sequence[dict]) -> list[str]:
    """Both tables, the verdict and what the losses say."""
    fitted = cost(runs)
    lines = [
        "# Request-shaped and row-wise training",
        "",
        f"{runs[0]['machine']}. W3: 1 to 200 behaviours, two transformer layers of width 64, "
        f"{W3[BAR_AT].batch:,} impressions a step, of as many requests as they have impressions. "
        "Both sides take the same impressions in the same order from the same weights. One process "
        "at a time, sides interleaved within each repeat; rates are medians (least to most).",
        "",
        "![impressions a second](request_shaped.svg)",
        "",
        "| impressions a request, n | request-shaped, impressions/s | row-wise, impressions/s "
        "| ratio | µs an impression | a + b / n | first losses differ by | peak MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for n in W3:
        if not any(of(runs, n, side) for side in SIDES):
            continue
        own, times = rate(runs, n, "request"), ratio(runs, n)
        difference = largest_difference(runs, n)
        cells = [str(n), *(_spread(of(runs, n, side)) for side in SIDES)]
        cells.append(f"{times:.2f}" if times else "–")
        cells.append(f"{1e6 / own:,.0f}" if own else "–")
        cells.append(f"{fitted[0] + fitted[1] / n:,.0f}" if fitted else "–")
        cells.append("–" if difference is None else f"{difference:.1e}")
        peaks = [max((r["peak_mib"] for r in of(runs, n, s)), default=None) for s in SIDES]
        cells.append(" and ".join("–" if peak is None else f"{peak:,}" for peak in peaks))
        lines.append(f"| {' | '.join(cells)} |")
    lost = [run for run in runs if run["outcome"] != "done"]
    lines += [f"| {TITLES[r['side']]}, {r['workload']} | {r['outcome']} |" for r in lost]
    if fitted:
        lines += [
            "",
            f"a + b / n with a = {fitted[0]:,.0f} and b = {fitted[1]:,.0f} µs is the cost that "
            "SRP4CTR (section 1) gives: the encoder's O(L²) a request is O(L² / n) an impression.",
        ]
    times = ratio(runs, BAR_AT)
    if times:
        said = "PASS" if times >= BAR else "MISS"
        lines += ["", f"At n = {BAR_AT}: {times:.2f} times row-wise, bar {BAR:g}: {said}."]
    differences = [d for d in (largest_difference(runs, n) for n in W3) if d is not None]
    if differences:
        steps = min(len(run["first_losses"]) for run in runs if run["outcome"] == "done")
        said = "PASS" if max(differences) <= TOLERANCE else "MISS"
        lines += [
            "",
            f"The losses of the first {steps} steps differ by {max(differences):.1e} at most, "
            f"tolerance {TOLERANCE:g}: {said}.",
        ]
    return lines


def _spread(runs: Sequence[dict]) -> str:
    found = [run["samples_per_second"] for run in runs]
    return f"{median(found):,.0f} ({min(found):,.0f}–{max(found):,.0f})" if found else "–"


def plot(runs: Sequence[dict], path: Path) -> None:
    """Impressions a second of both sides and of a + b / n, over n."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for side, title in TITLES.items():
        counts = [n for n in W3 if rate(runs, n, side)]
        axis.plot(counts, [rate(runs, n, side) for n in counts], marker="o", label=title)
    fitted = cost(runs)
    if fitted:
        n = np.linspace(min(W3), max(W3), 100)
        axis.plot(n, 1e6 / (fitted[0] + fitted[1] / n), ":", color="grey", label="1 / (a + b / n)")
    axis.set(xlabel="impressions a request, n", ylabel="impressions a second", ylim=(0, None))
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(W3), list(W3))
    axis.grid(alpha=0.3)
    axis.legend()
    write_figure(path, figure)


def write(folder: Path, runs: Sequence[dict]) -> Path:
    """Writes `request_shaped.csv`, `.svg` and `.md`; returns the latter."""
    rows = [run | {"impressions": int(run["workload"].removeprefix("w3_"))} for run in runs]
    write_csv(folder / "request_shaped.csv", COLUMNS, rows)
    plot(runs, folder / "request_shaped.svg")
    return write_text(folder / "request_shaped.md", "\n".join(page(runs)) + "\n")


def main() -> None:
    """The command line."""
    parser = command_line(__doc__, repeats=3, seconds=10.0)
    parser.add_argument("--impressions", nargs="+", type=int, choices=W3, default=list(W3))
    options = parser.parse_args()
    comparison, runs = Comparison(options, SIDES), []
    for repeat in range(1, options.repeats + 1):
        for impressions in options.impressions:
            for side in SIDES:
                runs.append(comparison.run(f"w3_{impressions}", "transformer", side, repeat))
                found = write(options.output, runs)
    print(found.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
