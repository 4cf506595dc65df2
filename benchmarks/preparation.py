"""Rate and memory of the Beam job over the rows of its log, on the local runner.

    python benchmarks/preparation.py --workspace workspace

The logs are MovieLens-1M's users, repeated under new ids or a share of them. Each is prepared in a
process of its own; a finished run is a JSON file below `<workspace>/preparation` and is not
repeated. `--profile` tells instead which functions take the time.
"""

from __future__ import annotations

import argparse
import cProfile
import csv
import itertools
import json
import os
import pstats
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median

import matplotlib
import psutil

matplotlib.use("svg")
from matplotlib import pyplot as plt

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.files import read_result, write_csv, write_figure, write_text
from benchmarks.training import ROOT, digest, machine
from ctr_tf import datasets
from ctr_tf.config import load
from ctr_tf.data.manifest import Manifest
from pipelines.prepare import run as prepare

CONFIG = ROOT / "configs" / "movielens" / "din.yaml"
# Paths are then relative to the folder that the job runs in.
OVERRIDES = ["dataset=null"]
COLUMNS = (
    "rows", "repeat", "requests", "rows_per_core_second", "cpu_seconds", "wall_seconds",
    "peak_mib", "machine",
)  # fmt: skip
EVERY = 0.1
"""Seconds between two readings of memory."""


def repeated(rows: Iterable[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Rows without end, users under new ids each time; each with the number of its user.

    Args:
        rows: the user's id in front, rows of one user one after the other, ids from 1.

    Example:
        >>> list(itertools.islice(repeated([["1", "a"], ["2", "b"]]), 3))
        [(1, ['1', 'a']), (2, ['2', 'b']), (3, ['3', 'a'])]
    """
    rows = list(rows)
    users = max(int(row[0]) for row in rows)
    for copy in itertools.count():
        for user, *rest in rows:
            number = int(user) + copy * users
            yield number, [str(number), *rest]


def make_log(source: Path, folder: Path, rows: int) -> int:
    """Writes a log of whole users with at least so many rows; returns how many it has.

    Args:
        source: the dataset's folder.
        folder: where the three files are written.
        rows: how many are wanted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "items.csv", folder / "items.csv")
    written, last = 0, 0

    def ratings(user: int) -> bool:
        nonlocal written, last
        if written >= rows and user != last:
            return False
        written, last = written + 1, user
        return True

    _write_repeated(source / "ratings.csv", folder / "ratings.csv", ratings)
    _write_repeated(source / "users.csv", folder / "users.csv", lambda user: user <= last)
    return written


def _write_repeated(source: Path, path: Path, wanted: Callable[[int], bool]) -> None:
    with (
        open(source, encoding="utf-8", newline="") as read,
        open(path, "w", encoding="utf-8", newline="") as written,
    ):
        header, *rows = csv.reader(read)
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(
            row for _, row in itertools.takewhile(lambda found: wanted(found[0]), repeated(rows))
        )


def measure(log: Path, workspace: Path, limit: float) -> dict:
    """Prepares a log by the command line and says what that took, of all processes together.

    Args:
        log: the folder of its files.
        workspace: where the prepared data is written, and removed.
        limit: the most seconds.

    Raises:
        SystemExit: the job failed.
    """
    command = [sys.executable, "-c", "from ctr_tf.cli import main; main()", "prepare", str(CONFIG)]
    command += ["--workspace", str(workspace), "--set", *OVERRIDES]
    before, began, peak = _cpu_seconds(), time.monotonic(), 0
    with open(log / "job.log", "w+", encoding="utf-8") as said:
        job = psutil.Popen(
            command,
            cwd=log,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        while job.poll() is None:
            if time.monotonic() - began > limit:
                for process in (*job.children(recursive=True), job):
                    process.kill()
                job.wait()
                return {"outcome": "out of time"}
            peak = max(peak, _resident(job))
            time.sleep(EVERY)
        wall = time.monotonic() - began
        if job.returncode:
            said.seek(0)
            raise SystemExit(f"{said.read()[-4000:]}\nprepare failed, exit code {job.returncode}")
    (output,) = (workspace / "prepared").iterdir()
    requests = sum(split.requests for split in Manifest.read(output).splits.values())
    return {
        "outcome": "done",
        "requests": requests,
        "cpu_seconds": _cpu_seconds() - before,
        "wall_seconds": wall,
        "peak_mib": peak // 2**20,
    }


def _cpu_seconds() -> float:
    """Of every process that this one has waited for, user and system."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident(job: psutil.Process) -> int:
    total = 0
    for process in (job, *job.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


class Runs:
    """Runs by rows and repeat, kept below `<workspace>/preparation`.

    Args:
        options: the command line.
    """

    def __init__(self, options: argparse.Namespace):
        self._options = options
        self.folder = options.workspace.absolute() / "preparation"
        self.folder.mkdir(parents=True, exist_ok=True)
        files = [*CONFIG.parent.glob("*.yaml"), Path(__file__)]
        for package in ("pipelines", "ctr_tf/data", "ctr_tf/schema"):
            files += (ROOT / package).rglob("*.py")
        self._source = digest(files)

    def log(self, rows: int) -> tuple[Path, int]:
        """The folder of a log, and its rows."""
        source = datasets.get("movielens_1m").fetch(self._options.workspace / "datasets")
        folder = self.folder / f"log-{rows}"
        return folder, make_log(source, folder, rows)

    def run(self, rows: int, repeat: int) -> dict:
        """The result of one run, of the file where it is there."""
        settings = {
            "wanted": rows,
            "repeat": repeat,
            "limit": self._options.limit,
            "machine": machine(),
            "source": self._source,
        }
        file = self.folder / f"{rows}-{repeat}.json"
        found = read_result(file, settings)
        if found:
            print(f"{file.stem}: done before")
            return found
        log, made = self.log(rows)
        scratch = self.folder / f"scratch-{rows}"
        try:
            result = settings | {"rows": made} | measure(log, scratch, self._options.limit)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.rmtree(log)
        if result["outcome"] == "done":
            result["rows_per_core_second"] = made / result["cpu_seconds"]
        write_text(file, json.dumps(result, indent=2))
        print(f"{file.stem}: {result}", flush=True)
        return result


def profile(runs: Runs, rows: int, top: int) -> Path:
    """Prepares a log in this process under cProfile, and prints the functions that take the time.

    Args:
        runs: where the log is made.
        rows: how many.
        top: functions printed, by their own time and again with what they call.

    Returns:
        The profile, as `pstats` reads it.
    """
    log, _ = runs.log(rows)
    experiment = load(CONFIG, OVERRIDES)
    scratch = runs.folder / f"scratch-{rows}"
    profiler = cProfile.Profile()
    try:
        profiler.runcall(prepare, experiment.log, experiment.prepare, log, scratch, overwrite=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(log)
    path = runs.folder / f"{rows}.prof"
    profiler.dump_stats(path)
    found = pstats.Stats(str(path))
    for order in ("tottime", "cumtime"):
        found.sort_stats(order).print_stats(top)
    return path


def lines(runs: list[dict]) -> list[str]:
    """The page: medians by rows, and what they say of the growth of time and memory."""
    done = [run for run in runs if run["outcome"] == "done"]
    page = [
        "# The Beam job over the rows of its log",
        "",
        "`ctr-tf prepare` of MovieLens-1M's users, repeated under new ids, on the local runner in "
        f"one process; {runs[0]['machine']}. Medians of {max(run['repeat'] for run in runs)} runs. "
        "A core's second is one of processor time, user and system, of all processes, start-up "
        "included; memory is their resident sets at one time.",
        "",
        "![rate and memory](preparation.svg)",
        "",
        "| rows | requests | rows / s of a core | core s | wall s | peak MiB | bytes a row |",
        "|---|---|---|---|---|---|---|",
    ]
    for rows in sorted({run["wanted"] for run in runs}):
        own = [run for run in done if run["wanted"] == rows]
        if not own:
            page.append(f"| {rows:,} | out of time | | | | | |")
            continue
        row = {key: median(run[key] for run in own) for key in ("rows", "requests", *COLUMNS[3:-1])}
        page.append(
            f"| {row['rows']:,.0f} | {row['requests']:,.0f} | {row['rows_per_core_second']:,.0f} | "
            f"{row['cpu_seconds']:.1f} | {row['wall_seconds']:.1f} | {row['peak_mib']:,.0f} | "
            f"{row['peak_mib'] * 2**20 / row['rows']:,.0f} |"
        )
    sizes = sorted({run["rows"] for run in done})
    if len(sizes) > 1:
        first, last = (
            {
                key: median(run[key] for run in done if run["rows"] == size)
                for key in ("cpu_seconds", "peak_mib")
            }
            for size in (sizes[0], sizes[-1])
        )
        more = sizes[-1] - sizes[0]
        seconds = 1e6 * (last["cpu_seconds"] - first["cpu_seconds"]) / more
        memory = 2**20 * (last["peak_mib"] - first["peak_mib"]) / more
        page += [
            "",
            f"From the least to the most, {seconds:.1f} core seconds more for a million rows, and "
            f"{memory:,.0f} bytes more memory a row.",
        ]
    return page


def plot(runs: list[dict], path: Path) -> None:
    """Rate and memory over the rows."""
    done = [run for run in runs if run["outcome"] == "done"]
    sizes = sorted({run["rows"] for run in done})
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, key, title, unit in (
        (axes[0], "rows_per_core_second", "rate", "rows a second of a core"),
        (axes[1], "peak_mib", "peak memory of the local runner", "MiB"),
    ):
        values = [median(run[key] for run in done if run["rows"] == size) for size in sizes]
        axis.plot(sizes, values, marker="o")
        axis.set(title=title, xlabel="rows", ylabel=unit, xscale="log", ylim=(0, None))
        axis.grid(alpha=0.3)
    write_figure(path, figure)


def write(folder: Path, runs: list[dict]) -> Path:
    """Writes `preparation.csv`, `.svg` and `.md`; returns the latter."""
    write_csv(folder / "preparation.csv", COLUMNS, runs)
    plot(runs, folder / "preparation.svg")
    return write_text(folder / "preparation.md", "\n".join(lines(runs)) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--rows", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--limit", type=float, default=3600.0, help="the most seconds of a run")
    parser.add_argument("--profile", action="store_true", help="profile the job on each log")
    parser.add_argument("--top", type=int, default=25, help="functions of a profile")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    runs = Runs(options)
    if options.profile:
        for rows in options.rows:
            print(profile(runs, rows, options.top))
        return
    found = []
    for repeat in range(1, options.repeats + 1):
        for rows in options.rows:
            found.append(runs.run(rows, repeat))
            page = write(options.output, found)
    print(page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
