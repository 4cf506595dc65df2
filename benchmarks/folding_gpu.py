"""The bodies of folding.py on a GPU, by Keras's JAX backend, with more candidates and behaviours.

    python benchmarks/folding_gpu.py

Needs JAX with CUDA; no TensorFlow. Folded is one call on a request with N candidates; row-wise has
the user side tiled. What would not fit, the attention of every row over L x L behaviours, is cut
into calls of fewer candidates, one after another.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "jax"

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import keras

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.files import write_csv, write_text
from benchmarks.folding_cases import (
    MODELS,
    WAYS,
    Features,
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
from ctr_tf.models.model import CTRModel

RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    "model", "length", "candidates", "repeat", *(f"{way}_ms" for way in WAYS), "folded_calls",
    "row_wise_calls", "difference", "environment",
)  # fmt: skip
CELLS = 10**8
"""Of the attention over pairs of behaviours, the most of a call."""
ATTEND_OVER_PAIRS = ("srp4ctr", "transformer", "bst")
ATTENDS_BY_CANDIDATE = "bst"
"""The candidate is one of the sequence: folded too, each has its own attention over it."""


class Scoring:
    """A model's functions under XLA, compiled for every size of a call.

    Args:
        model: of one task.
        length: L.
    """

    def __init__(self, model: CTRModel, length: int):
        self.model, self.length = model, length
        self.most = max(1, CELLS // length**2)
        self.user_names = {spec.name for spec in model.user_inputs}

        def scores(outputs: dict[str, jax.Array]) -> jax.Array:
            (found,) = model.scores(outputs).values()
            return found

        self.whole = self._compiled(lambda x: scores(model(x)))
        self.user = self._compiled(lambda x: model.user_tower(x))
        self.item = self._compiled(lambda state, x: scores(model.item_tower(state, x, x)))

    def _compiled(self, function: Callable) -> Callable:
        """A function of arrays, whose weights are arguments and no constants."""
        variables = self.model.variables
        values = [own.value for own in variables]

        @jax.jit
        def run(values, *given):
            with keras.StatelessScope(state_mapping=list(zip(variables, values))):
                return function(*given)

        return lambda *given: run(values, *given)

    def parts(self, name: str, candidates: int) -> tuple[int, int]:
        """Candidates in a call, folded and row-wise; the last call may have fewer."""
        most = min(candidates, self.most) if name in ATTEND_OVER_PAIRS else candidates
        return most if name == ATTENDS_BY_CANDIDATE else candidates, most

    def calls(self, name: str, candidates: int) -> dict[str, Callable[[], jax.Array]]:
        """What is timed of a request with N candidates, by way; each returns once it is done."""
        whole = request(self.model, self.length, candidates)
        rows = tiled(self.model.schema, whole)
        many, row_many = self.parts(name, candidates)
        candidate = {spec.name for spec in self.model.schema.inputs if spec.side == "candidate"}

        def placed(given: Features) -> dict[str, jax.Array]:
            return {key: jax.device_put(value) for key, value in given.items()}

        starts = range(0, candidates, many)
        folded = [
            placed({n: x[:, at : at + many] if n in candidate else x for n, x in whole.items()})
            for at in starts
        ]
        row_wise = [
            placed({n: x[at : at + row_many] for n, x in rows.items()})
            for at in range(0, candidates, row_many)
        ]
        user = placed({n: x for n, x in whole.items() if n in self.user_names})
        items = [{n: x for n, x in own.items() if n not in self.user_names} for own in folded]
        state = self.user(user)

        def done(function: Callable, calls: list, axis: int = 1) -> Callable[[], jax.Array]:
            def call() -> jax.Array:
                found = [function(*own) for own in calls]
                return jax.block_until_ready(
                    found[0] if len(found) == 1 else jax.numpy.concatenate(found, axis)
                )

            return call

        return {
            "folded": done(self.whole, [(own,) for own in folded]),
            "row_wise": done(self.whole, [(own,) for own in row_wise], axis=0),
            "user_tower": lambda: jax.block_until_ready(self.user(user)),
            "item_tower": done(self.item, [(state, own) for own in items]),
        }


def page(rows: list[dict]) -> list[str]:
    """The table, a row a model, length and number of candidates."""
    repeats = max(row["repeat"] for row in rows)
    lines = [
        "# Folded and row-wise scoring on a GPU",
        "",
        f"{rows[0]['environment']}, float32. One request with L behaviours, all valid, and N "
        "candidates, its arrays on the device; random weights, tables of MovieLens-1M's sizes. "
        f"Milliseconds, medians of {repeats} repeats (least–most), until the scores are there. "
        f"A call has at most {CELLS:,} pairs of behaviours to attend over, so row-wise, and BST "
        "folded, are several calls; `calls` says how many. Scores differ by the largest "
        "difference between the ways by the largest score.",
        "",
        "![row-wise by folded](folding_gpu.svg)",
        "",
        "| model | L | N | folded | calls | row-wise | calls | row-wise / folded | user tower "
        "| item tower | scores differ by |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model, length, candidates in cases(rows):
        own = of(at_length(rows, length), model, candidates)
        folded, row_wise, user, item = (spread([row[f"{way}_ms"] for row in own]) for way in WAYS)
        times = f"{ratio(own, model, candidates):,.1f}"
        cells = [model, f"{length:,}", f"{candidates:,}", folded, f"{own[0]['folded_calls']:,}"]
        cells += [row_wise, f"{own[0]['row_wise_calls']:,}", times, user, item]
        lines.append(f"| {' | '.join(cells)} | {own[0]['difference']:.1e} |")
    return lines


def cases(rows: list[dict]) -> list[tuple[str, int, int]]:
    """Models, lengths and numbers of candidates, in order."""
    return list(dict.fromkeys((row["model"], row["length"], row["candidates"]) for row in rows))


def at_length(rows: list[dict], length: int) -> list[dict]:
    """The rows of one length."""
    return [row for row in rows if row["length"] == length]


def write(folder: Path, rows: list[dict]) -> Path:
    """Writes `folding_gpu.csv`, `.svg` and `.md`; returns the latter."""
    write_csv(folder / "folding_gpu.csv", COLUMNS, rows)
    panels = {f"L = {n:,}": at_length(rows, n) for n in sorted({row["length"] for row in rows})}
    plot(folder / "folding_gpu.svg", panels)
    return write_text(folder / "folding_gpu.md", "\n".join(page(rows)) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ["srp4ctr", "din", "bst", "dcn_v2"]
    parser.add_argument("--models", nargs="+", choices=MODELS, default=default)
    parser.add_argument("--lengths", nargs="+", type=int, default=[200, 2000], help="behaviours")
    parser.add_argument("--candidates", nargs="+", type=int, default=[100, 1000, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each way in each repeat")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    # Else a GPU multiplies in 19 bits, and the ways' scores differ by that.
    jax.config.update("jax_default_matmul_precision", "highest")
    device = jax.devices()[0].device_kind
    environment = f"{device}, JAX {jax.__version__}, Keras {keras.__version__}"
    rows: list[dict] = []
    for length in options.lengths:
        for name in options.models:
            scoring = Scoring(model_of(name, length), length)
            for n in options.candidates:
                calls = scoring.calls(name, n)
                facts = {
                    "model": name,
                    "length": length,
                    "candidates": n,
                    "difference": difference(calls),
                    "environment": environment,
                }
                for way, many in zip(WAYS, scoring.parts(name, n)):
                    facts[f"{way}_calls"] = -(-n // many)
                for repeat in range(1, options.repeats + 1):
                    found = {f"{w}_ms": milliseconds(calls[w], options.seconds) for w in WAYS}
                    rows.append(facts | found | {"repeat": repeat})
                print(rows[-1], flush=True)
                written = write(options.output, rows)
    print(written.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
