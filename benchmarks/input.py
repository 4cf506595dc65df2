"""Times training from memory and from TFRecords of the same rows, and the input alone.

    python benchmarks/input.py --workspace workspace

One process at a time, every source once before any source twice. A finished run is a JSON file
below `<workspace>/input` and is not repeated. The bytes of request records and of row-wise ones
are tabulated too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.files import read_result, write_csv, write_text
from benchmarks.speed import records
from benchmarks.speed.workloads import WORKLOADS, Workload, path
from benchmarks.training import ROOT, digest, machine
from ctr_tf.schema import Schema

CASES = {
    ("w1", "deepfm"): "W1, DeepFM",
    ("w1", "dcn_v2"): "W1, DCN-v2",
    ("w2", "din"): "W2, DIN, L = 50",
    ("w2_200", "din"): "W2, DIN, L = 200",
}
COLUMNS = (
    "workload", "model", "source", "repeat", "samples_per_second", "cpu_us_per_sample", "loss",
    "steps", "seconds", "machine",
)  # fmt: skip
SIZE_COLUMNS = ("compression", "form", "impressions", "bytes", "bytes_per_impression")
IMPRESSIONS = 8
REQUESTS = 1024


def run(options: argparse.Namespace, workload: str, model: str, source: str, repeat: int) -> dict:
    """The result of one run, of the file where it is there."""
    folder = options.workspace.absolute() / "input"
    parts = ("records", "ours", "tf_loop", "measure", "workloads")
    sources = [ROOT / "benchmarks" / "speed" / f"{part}.py" for part in parts]
    settings = {
        "workload": workload,
        "model": model,
        "source": source,
        "repeat": repeat,
        "rows": options.rows,
        "seconds_wanted": options.seconds,
        "machine": machine(),
        "code": digest([*sources, *(ROOT / "ctr_tf").rglob("*.py")]),
    }
    title = f"{workload}-{model}-{source}-{repeat}"
    file = folder / f"{title}.json"
    found = read_result(file, settings)
    if found:
        return found
    prepared = folder / f"{workload}-{options.rows}-{digest((ROOT / 'ctr_tf/data').glob('*.py'))}"
    arrays = path(options.workspace / "speed" / "arrays", WORKLOADS[workload])
    command = [sys.executable, "-m", "benchmarks.speed.records", workload, model, arrays]
    command += ["--folder", prepared, "--from", source, "--rows", options.rows]
    command += ["--steps", 10, "--warm-up", 10 if workload == "w2_200" else 20]
    command += ["--seconds", options.seconds]
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result = settings | json.loads(done.stdout.splitlines()[-1])
    write_text(file, json.dumps(result, indent=2))
    print(f"{title}: {result['samples_per_second']:,.0f} samples/s", flush=True)
    return result


def sizes(workspace: Path) -> list[dict]:
    """Bytes of the same impressions as requests and row by row, in files plain and gzipped."""
    from benchmarks.speed.ours import schema_of

    workload = WORKLOADS["w2_200"]
    with np.load(path(workspace / "speed" / "arrays", workload)) as file:
        arrays = {name: file[name] for name in file.files}
    # The users of long histories; the other candidates are those of any rows.
    full = np.flatnonzero(arrays["length"] > workload.length * 0.9)
    rng = np.random.default_rng(1)
    rows = rng.integers(0, workload.rows, (REQUESTS, IMPRESSIONS))
    rows[:, 0] = rng.choice(full, REQUESTS)
    return sizes_of(workspace / "input" / "sizes", workload, schema_of(workload), arrays, rows)


def sizes_of(
    folder: Path,
    workload: Workload,
    schema: Schema,
    arrays: dict[str, np.ndarray],
    rows: np.ndarray,
) -> list[dict]:
    """A row of the table for each compression and form.

    Args:
        folder: of temporary files.
        workload, schema, arrays, rows: as of `records.requests`.
    """
    first = np.repeat(rows[:, 0], rows.shape[1])
    # Row by row an impression has its own candidate and a copy of the request's user side, in an
    # order that mixes requests, as the preparation job writes them.
    order = np.random.default_rng(2).permutation(rows.size)
    candidate = [n for n, f in schema.features.items() if f.side == "candidate"]
    single = {name: value[first[order]] for name, value in arrays.items()}
    for name in (*candidate, "label"):
        single[name] = arrays[name][rows.ravel()[order]]
    found = []
    for compression in ("none", "gzip"):
        for form in ("row-wise", "requests"):
            shutil.rmtree(folder, ignore_errors=True)
            held, own = (arrays, rows) if form == "requests" else (single, None)
            own = np.arange(rows.size)[:, None] if own is None else own
            size = records.write(folder, workload, schema, held, own, compression)
            found.append(
                {
                    "compression": compression,
                    "form": form,
                    "impressions": rows.size,
                    "bytes": size,
                    "bytes_per_impression": size / rows.size,
                }
            )
    shutil.rmtree(folder)
    return found


def page(runs: list[dict], table: list[dict]) -> list[str]:
    """Medians, the share that training from records keeps, and the bytes."""
    lines = [
        "# Training from TFRecords",
        "",
        f"{runs[0]['machine']}; medians of {max(run['repeat'] for run in runs)} runs. Gzipped "
        "records, an impression a request, in 8 files; `Input` with its defaults; samples/s, and "
        "the input's processor time a sample.",
        "",
        "| | from memory | from records | kept | input alone | by memory's | its CPU, µs |",
        "|---|---|---|---|---|---|---|",
    ]
    for (workload, model), title in CASES.items():
        own = [r for r in runs if (r["workload"], r["model"]) == (workload, model)]
        rates = {
            source: median(r["samples_per_second"] for r in own if r["source"] == source)
            for source in records.SOURCES
            if any(r["source"] == source for r in own)
        }
        if len(rates) < len(records.SOURCES):
            continue
        memory, stored, alone = (rates[source] for source in records.SOURCES)
        cpu = median(r["cpu_us_per_sample"] for r in own if r["source"] == "alone")
        lines.append(
            f"| {title} | {memory:,.0f} | {stored:,.0f} | {stored / memory:.1%} | {alone:,.0f} | "
            f"{alone / memory:.1f} | {cpu:.1f} |"
        )
    lines += [
        "",
        f"Bytes an impression, {IMPRESSIONS} impressions a request, histories of 181 to 200 "
        "behaviours:",
        "",
        "| | row-wise | requests | ratio |",
        "|---|---|---|---|",
    ]
    for compression, title in (("none", "plain"), ("gzip", "gzipped")):
        row, request = (
            next(r for r in table if (r["compression"], r["form"]) == (compression, form))
            for form in ("row-wise", "requests")
        )
        row, request = row["bytes_per_impression"], request["bytes_per_impression"]
        lines.append(f"| {title} | {row:,.0f} | {request:,.0f} | {request / row:.3f} |")
    return lines


def write(folder: Path, runs: list[dict], table: list[dict]) -> Path:
    """Writes `input.csv`, `record_sizes.csv` and `input.md`; returns the latter."""
    write_csv(folder / "input.csv", COLUMNS, runs)
    write_csv(folder / "record_sizes.csv", SIZE_COLUMNS, table)
    return write_text(folder / "input.md", "\n".join(page(runs, table)) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--workspace", type=Path, default=Path("workspace"))
    workloads = list(dict.fromkeys(workload for workload, _ in CASES))
    found.add_argument("--workloads", nargs="+", choices=workloads, default=workloads)
    found.add_argument("--repeats", type=int, default=3)
    found.add_argument("--rows", type=int, default=262_144, help="the most rows of a workload")
    found.add_argument("--seconds", type=float, default=10.0, help="the least time of a run")
    found.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return found


def main() -> None:
    """Runs what is not there yet and writes the tables after each run."""
    options = parser().parse_args()
    table, runs = sizes(options.workspace), []
    for repeat in range(1, options.repeats + 1):
        for workload, model in CASES:
            for source in records.SOURCES if workload in options.workloads else ():
                runs.append(run(options, workload, model, source, repeat))
                found = write(options.output, runs, table)
    print(found.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
