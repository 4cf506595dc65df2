"""The page, the CSV and the plot of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

from benchmarks.files import write_csv, write_figure, write_text
from benchmarks.serving_load.figures import TIMED, Load, agreement, by_period, by_second, verdicts
from benchmarks.serving_load.messages import MOST_BEHAVIOURS, MOST_CANDIDATES, ROWS
from benchmarks.training import machine

COLUMNS = ("second", "rss_mib", "newest", "answered", "p50_ms", "p99_ms")


def write(folder: Path, load: Load, command: str) -> Path:
    """Writes `serving_load.csv`, `.svg` and `.md`; returns the latter."""
    rows = by_second(load)
    write_csv(folder / "serving_load.csv", COLUMNS, rows)
    plot(rows, load.swaps, folder / "serving_load.svg")
    return write_text(folder / "serving_load.md", "\n".join(text(load, command)) + "\n")


def text(load: Load, command: str) -> list[str]:
    """The verdicts, the tables, and what went wrong."""
    said = {True: "PASS", False: "MISSED", None: "–"}
    statuses, tally = load.tally.statuses, load.tally
    lines = [
        "# The local server under mixed load",
        "",
        f"{machine()}, which the server and its clients share. DIN with random weights, "
        f"{MOST_BEHAVIOURS} behaviours, {ROWS['item_id']:,} rows of films; requests of 1 to 500 "
        f"candidates, large ones of {MOST_CANDIDATES:,}. Two versions stay loaded; every "
        f"{load.period:g} s another one appears, labels move, and the oldest is taken away. "
        f"{load.seconds:g} s, {len(tally.answers) / load.seconds:.0f} answers a second.",
        "",
        f"    {command}",
        "",
        "![memory and latency](serving_load.svg)",
        "",
        "| rule | | |",
        "|---|---|---|",
        *(f"| {rule} | {said[kept]} | {figures} |" for rule, kept, figures in verdicts(load)),
        "",
        "## By kind of call",
        "",
        "A good call that is refused with RESOURCE_EXHAUSTED or UNAVAILABLE is made again; its "
        "items are asked for again where NOT_FOUND says that the state's version is gone.",
        "",
        "| kind | calls | statuses |",
        "|---|---|---|",
    ]
    for kind in sorted({kind for kind, _ in statuses}):
        own = {code: n for (each, code), n in sorted(statuses.items()) if each == kind}
        told = ", ".join(f"{code} {n:,}" for code, n in own.items())
        lines.append(f"| {kind} | {sum(own.values()):,} | {told} |")
    lines += [
        "",
        f"## By {load.period:g} s",
        "",
        f"Latencies are of {', '.join(TIMED)}, from the first try to the answer's being read, by "
        "the client's clock.",
        "",
        "| from, s | answers / s | p50 ms | p99 ms | versions | least MiB | most MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in by_period(load):
        latencies = " | ".join(
            "–" if row[name] is None else f"{row[name]:.1f}" for name in ("p50_ms", "p99_ms")
        )
        lines.append(
            f"| {row['first']:g} | {row['answered'] / load.period:.1f} | {latencies} | "
            f"{', '.join(map(str, row['newest']))} | {row['least_mib']:,.0f} | "
            f"{row['most_mib']:,.0f} |"
        )
    lines += [
        "",
        "## The server's counts",
        "",
        "Least and most are what the clients saw without and with the calls whose callers did not "
        "wait. Oversized messages never reach what counts ends.",
        "",
        "| ended as | least | most | counted |",
        "|---|---|---|---|",
    ]
    for name, *numbers in agreement(statuses, load.counts):
        lines.append(f"| {name} | {' | '.join(f'{n:,}' for n in numbers)} |")
    for title, wrong in (
        ("Wrong", tally.wrong),
        ("Lost", tally.lost),
        ("Not clean", tally.unclean),
    ):
        if wrong:
            lines += ["", f"## {title}", "", *(f"- {each}" for each in wrong[:20])]
    return lines


def plot(rows: Sequence[dict], swaps: Sequence[float], path: Path) -> None:
    """Memory and p99 over time, with the swaps."""
    figure, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
    for axis, key, unit in ((axes[0], "rss_mib", "MiB"), (axes[1], "p99_ms", "p99, ms")):
        own = [row for row in rows if row[key] is not None]
        axis.plot([row["second"] for row in own], [row[key] for row in own], linewidth=1)
        axis.set(ylabel=unit, ylim=(0, None))
        axis.grid(alpha=0.3)
        for swap in swaps:
            axis.axvline(swap, linestyle=":", color="grey")
    axes[0].set_title("resident memory of the server; dotted: swaps")
    axes[1].set(xlabel="seconds")
    write_figure(path, figure)
