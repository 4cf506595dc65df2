"""One request scored folded, row by row and by its two towers, side by side.

    python benchmarks/folding.py

Folded is one call on a request with N candidates; row-wise is one call on N requests of one
candidate, the user side tiled. Either scores them all in one or in parts at the same time. A
process for each number of threads that an operation may use: all models, every way of every model
once before any of them twice. A request's tensors are made, and tiled, before the clock runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import keras
import tensorflow as tf

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.files import write_csv, write_text
from benchmarks.folding_cases import (
    MODELS,
    WAYS,
    difference,
    milliseconds,
    model_of,
    of,
    plot,
    ratio,
    request,
    spread,
    tiled,
)
from benchmarks.speed.measure import peak_mib
from benchmarks.training import bound_memory, machine
from ctr_tf.analysis.cost import model_cost
from ctr_tf.analysis.sizes import Sizes
from ctr_tf.layers.attention.buckets import bucketed
from ctr_tf.models.model import CTRModel
from ctr_tf.models.parts import in_parts, part_bounds

ROOT = Path(__file__).parents[1]
OWN_WAYS = (*WAYS, "folded_parts", "row_wise_parts")
COLUMNS = (
    "operation_threads", "parts", "model", "length", "candidates", "repeat",
    *(f"{way}_ms" for way in OWN_WAYS),
    "folded_flops", "row_wise_flops", "difference", "peak_mib", "environment",
)  # fmt: skip
# The least ratio of the times of SRP4CTR with 200 behaviours, by candidates.
BARS = {100: 30.0, 1000: 150.0}
BAR_OF = "srp4ctr"
BAR_LENGTH = 200

Features = dict[str, tf.Tensor]
Calls = Mapping[str, Callable[[], tf.Tensor | Features]]


class Scoring:
    """A model's compiled functions, each traced once for requests of any size.

    Those of the export behind its preprocessing: rows of tables in, probabilities out.

    Args:
        model: of one task.
        length: L.
        parts: of the candidates, which a further way of each kind scores at the same time.
    """

    def __init__(self, model: CTRModel, length: int, parts: int = 2):
        self.model = model
        self.length = length
        given = request(model, length, 1).items()
        specs = {name: tf.TensorSpec((None,) * len(x.shape), x.dtype) for name, x in given}
        user = {spec.name for spec in model.user_inputs}
        state = model.state_spec().items()

        def scores(outputs: Features) -> tf.Tensor:
            (found,) = model.scores(outputs).values()
            return found

        def compiled(function: Callable, *given: dict, parts: int = 1) -> Callable:
            with bucketed(1), in_parts(parts):
                return tf.function(function, input_signature=given).get_concrete_function()

        self.whole = compiled(lambda x: scores(model(x)), specs)
        self.whole_parts = compiled(lambda x: scores(model(x)), specs, parts=parts)
        self.row_parts = compiled(
            lambda x: tf.concat([scores(model(own)) for own in request_parts(x, parts)], 0), specs
        )
        self.user_specs = {name: spec for name, spec in specs.items() if name in user}
        self.user = compiled(lambda x: model.user_tower(x), self.user_specs)
        self.item_specs = {name: spec for name, spec in specs.items() if name not in user}
        self.item = compiled(
            lambda state, x: scores(model.item_tower(state, x, x)),
            {n: tf.TensorSpec(*spec) for n, spec in state},
            self.item_specs,
        )

    def calls(self, candidates: int) -> Calls:
        """What is timed of a request with N candidates, by way."""
        given = request(self.model, self.length, candidates)
        tiles = tiled(self.model.schema, given)
        whole, rows = ({n: tf.constant(x) for n, x in own.items()} for own in (given, tiles))
        user = {name: whole[name] for name in self.user_specs}
        items = {name: whole[name] for name in self.item_specs}
        state = self.user(user)
        return {
            "folded": lambda: self.whole(whole),
            "row_wise": lambda: self.whole(rows),
            "user_tower": lambda: self.user(user),
            "item_tower": lambda: self.item(state, items),
            "folded_parts": lambda: self.whole_parts(whole),
            "row_wise_parts": lambda: self.row_parts(rows),
        }


def request_parts(features: Features, parts: int) -> list[Features]:
    """Requests in parts of like size.

    Example:
        >>> [own["age"].numpy().tolist() for own in request_parts({"age": tf.range(5)}, 2)]
        [[0, 1], [2, 3, 4]]
    """
    count = tf.shape(next(iter(features.values())))[0]
    return [{n: x[a:b] for n, x in features.items()} for a, b in part_bounds(count, parts)]


def by_threads(rows: Sequence[dict]) -> dict[int, list[dict]]:
    """Rows by the threads of an operation."""
    counts = dict.fromkeys(row["operation_threads"] for row in rows)
    return {n: [row for row in rows if row["operation_threads"] == n] for n in counts}


def said(threads: int) -> str:
    """What a number of threads, 0 for all cores, is called.

    Example:
        >>> said(0), said(1), said(4)
        ('all cores an operation', 'one thread an operation', '4 threads an operation')
    """
    given = {0: "all cores", 1: "one thread"}.get(threads, f"{threads} threads")
    return f"{given} an operation"


def best(rows: Sequence[dict], model: str, candidates: int, *ways: str) -> float:
    """The least median time of these ways, each with as many threads as it is fastest with."""
    groups = by_threads(of(rows, model, candidates)).values()
    return min(median(row[f"{way}_ms"] for row in own) for own in groups for way in ways)


def page(rows: Sequence[dict]) -> list[str]:
    """The tables, a row a model and number of candidates, and the verdicts."""
    length = rows[0]["length"]
    repeats = max(row["repeat"] for row in rows)
    groups = by_threads(rows)
    lines = [
        "# Folded and row-wise scoring",
        "",
        f"{rows[0]['environment']}. One request with {length} behaviours, all valid, and N "
        "candidates; random weights, tables of MovieLens-1M's sizes. Folded is one call of the "
        "compiled model, row-wise one call with the user side tiled N times; the user tower "
        "and, on its state, the item tower are calls of their own. From rows of tables to "
        f"probabilities. In {rows[0]['parts']} parts, each part has operations of its own: folded "
        "an item tower (`export.candidate_parts`), row-wise all of them. Milliseconds, medians of "
        f"{repeats} repeats (least–most), all ways interleaved within each; scores differ by the "
        "largest difference between the ways by the largest score. Operations that do not depend "
        "on each other run at the same time on "
        "all cores; how many threads one of them may use is "
        "`tf.config.threading.set_intra_op_parallelism_threads`, a process for each number.",
        "",
        *verdicts(rows),
        "![row-wise by folded](folding.svg)",
    ]
    for threads, own in groups.items():
        lines += ["", f"## {said(threads).capitalize()}", "", *table(own)]
    peak = max(row["peak_mib"] for row in rows)
    return [*lines, "", f"A process held at most {peak:,} MiB."]


def table(rows: Sequence[dict]) -> list[str]:
    """The times of one number of threads."""
    lines = [
        "| model | N | folded | in parts | row-wise | in parts | row-wise / folded | of FLOPs "
        "| user tower | item tower | scores differ by |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model, candidates in dict.fromkeys((row["model"], row["candidates"]) for row in rows):
        own = of(rows, model, candidates)
        folded, row_wise, user, item, *parts = (
            spread([row[f"{way}_ms"] for row in own]) for way in OWN_WAYS
        )
        flops = own[0]["row_wise_flops"] / own[0]["folded_flops"]
        times = f"{ratio(rows, model, candidates):.1f} | {flops:.1f}"
        cells = [model, f"{candidates:,}", folded, parts[0], row_wise, parts[1], times]
        cells += [user, item]
        lines.append(f"| {' | '.join(cells)} | {own[0]['difference']:.1e} |")
    return lines


def verdicts(rows: Sequence[dict]) -> list[str]:
    """Against the bars: with each number of threads, and each way as it is fastest."""
    lines = []
    for candidates, bar in BARS.items():
        if rows[0]["length"] != BAR_LENGTH or not of(rows, BAR_OF, candidates):
            continue
        groups = by_threads(rows).items()
        found = {said(n): ratio(own, BAR_OF, candidates) for n, own in groups}
        for how, endings in (("in one", [""]), ("in one or in parts", ["", "_parts"])):
            row_wise, folded = (
                best(rows, BAR_OF, candidates, *(way + ending for ending in endings))
                for way in ("row_wise", "folded")
            )
            found[f"each way as it is fastest {how}"] = row_wise / folded
        each = [
            f"{times:.1f} ({how}), {'PASS' if times >= bar else 'MISS'}"
            for how, times in found.items()
        ]
        lines += [
            f"{BAR_OF}, {candidates:,} candidates: row-wise by folded time, bar {bar:g}: "
            f"{'; '.join(each)}.",
            "",
        ]
    return lines


def write(folder: Path, rows: Sequence[dict]) -> Path:
    """Writes `folding.csv`, `.svg` and `.md`; returns the latter."""
    write_csv(folder / "folding.csv", COLUMNS, rows)
    panels = {said(threads): own for threads, own in by_threads(rows).items()}
    bars = BARS if rows[0]["length"] == BAR_LENGTH else None
    plot(folder / "folding.svg", panels, bars, f"bars of {BAR_OF}")
    return write_text(folder / "folding.md", "\n".join(page(rows)) + "\n")


def measured(options: argparse.Namespace, threads: int) -> list[dict]:
    """All repeats with a number of threads an operation, which a process sets once."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    bound_memory()
    environment = f"{machine()}, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    rows, calls, facts = [], {}, {}
    for name in options.models:
        scoring = Scoring(model_of(name, options.length), options.length, options.parts)
        for n in options.candidates:
            cost = model_cost(scoring.model, Sizes(candidates=n, length=options.length))
            calls[name, n] = scoring.calls(n)
            facts[name, n] = {
                "operation_threads": threads,
                "parts": options.parts,
                "model": name,
                "length": options.length,
                "candidates": n,
                "folded_flops": cost.folded.total,
                "row_wise_flops": cost.row_wise.total,
                "difference": difference(calls[name, n]),
                "environment": environment,
            }
    for repeat in range(1, options.repeats + 1):
        for case, own in calls.items():
            found = {f"{way}_ms": milliseconds(own[way], options.seconds) for way in OWN_WAYS}
            rows.append(facts[case] | found | {"repeat": repeat, "peak_mib": peak_mib()})
            print(f"{said(threads)}, {repeat} {case[0]} N = {case[1]}: {found}", flush=True)
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--candidates", nargs="+", type=int, default=[1, 10, 100, 1000])
    parser.add_argument("--length", type=int, default=BAR_LENGTH, help="behaviours")
    parser.add_argument(
        "--operation-threads",
        nargs="+",
        type=int,
        default=[1, 0],
        help="that one operation may use, a process for each; 0 for all cores",
    )
    parser.add_argument("--parts", type=int, default=2, help="of the candidates")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each way in each repeat")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    rows = []
    for threads in options.operation_threads:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            rows += process.submit(measured, options, threads).result()
        written = write(options.output, rows)
    print(written.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
