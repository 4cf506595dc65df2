"""How much worse models rank the long tail, and which narrow that gap: Han et al. 2024, table 2.

    python -m benchmarks.leaderboard.long_tail --board srp4ctr --models din can fg_bert_mp srp4ctr

Reads the scores of trainings that are finished, of the best point of each model and every seed. The
others are compared with the first model: users are resampled, for both models and all seeds alike.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.files import write_csv, write_figure, write_text
from benchmarks.leaderboard.__main__ import RESULTS, train_row
from benchmarks.leaderboard.board import OURS, Board, boards
from benchmarks.leaderboard.runs import TEST, Trainer
from benchmarks.leaderboard.scores import spread
from ctr_tf.config_base import check_known
from ctr_tf.metrics import MetricValue, frequency_groups, long_tail, with_interval
from ctr_tf.metrics.auc import RankedScores

ALL = "all"
TAILS = {
    "items": "the least frequent fifth of the items",
    "occurrences": "the least frequent items that have a fifth of the training occurrences",
}
GROUPS = 10
COLUMNS = ("model", "seed", "part", "impressions", "auc")


@dataclass(frozen=True)
class Rows:
    """The counted impressions of a test split, and what scores them.

    Args:
        labels: 0 or 1, (M,).
        users: codes, (M,).
        parts: masks of `ALL`, of each of `TAILS` and of each group, (M,).
        scores: of each model, a row a seed, (seeds, M).
    """

    labels: np.ndarray
    users: np.ndarray
    parts: dict[str, np.ndarray]
    scores: dict[str, np.ndarray]

    def aucs(self, model: str, part: str) -> list[float]:
        """AUC of a part, a value a seed; NaN where it has one class."""
        mask = self.parts[part]
        return [_auc(self.labels[mask], own[mask]) for own in self.scores[model]]

    def narrowed(self, model: str, reference: str, tail: str, replicates: int) -> MetricValue:
        """How much smaller the gap of a model is than the reference's, with its interval.

        A gap is AUC of the tail - AUC of all, its mean over the seeds.
        """
        signed = [(1, own) for own in self.scores[model]]
        signed += [(-1, own) for own in self.scores[reference]]
        masks = {1: self.parts[tail], -1: self.parts[ALL]}
        ranked = [
            (sign * side / len(signed) * 2, mask, RankedScores(self.labels[mask], own[mask]))
            for sign, own in signed
            for side, mask in masks.items()
        ]

        def statistic(weights: np.ndarray) -> float:
            return sum(c * own.pair_sums(weights[mask]).auc[0] for c, mask, own in ranked)

        return with_interval(statistic, self.users, replicates)


def _auc(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(RankedScores(labels, scores).pair_sums(np.ones(len(labels))).auc[0])


def read(files: Mapping[str, Sequence[Path]], task: str) -> Rows:
    """The rows of the score files of each model, one a seed.

    Raises:
        ValueError: files of other impressions, or without their items; names the file.
    """
    common: dict[str, np.ndarray] = {}
    scores: dict[str, list[np.ndarray]] = {}
    for model, paths in files.items():
        for path in paths:
            with np.load(path) as found:
                for name in ("label", "user", "item", "frequency"):
                    key = f"{TEST}/{task}/{name}"
                    if key not in found.files:
                        raise ValueError(f"{path}: no {key}: train it anew")
                    if not np.array_equal(common.setdefault(name, found[key]), found[key]):
                        raise ValueError(f"{path}: {key} differs from that of the first model")
                scores.setdefault(model, []).append(found[f"{TEST}/{task}/score"])
    items, frequencies = common["item"], common["frequency"]
    parts = {ALL: np.ones(len(items), bool)}
    parts |= {tail: long_tail(items, frequencies, of=tail)[0] for tail in TAILS}
    group = frequency_groups(items, frequencies, GROUPS)
    for tail in TAILS:
        if len(set(common["label"][parts[tail]])) < 2:
            raise ValueError(
                f"{TEST}/{task}: the tail of {tail} has no impressions of both classes"
            )
    parts |= {f"group {number + 1}": group == number for number in np.unique(group[group >= 0])}
    stacked = {model: np.stack(own) for model, own in scores.items()}
    return Rows(common["label"], common["user"], parts, stacked)


def page(name: str, board: Board, rows: Rows, replicates: int) -> str:
    """The page, in Markdown: a table for each tail, then the groups."""
    first, *others = rows.scores
    command = f"python -m benchmarks.leaderboard.long_tail --board {name} --models"
    lines = [
        f"# {board.title}: the long tail",
        "",
        f"`{command} {' '.join(rows.scores)}`. Mean ± standard deviation over the seeds on the "
        "test split. Gap: AUC of the tail - AUC of all. Narrowed: how much smaller the gap is than "
        f"that of `{first}`, with a 95 % interval over {replicates:,} resamplings of users; it is "
        "a yes where the interval lies above zero. Items that the test split has are ordered by "
        "their impressions in training.",
    ]
    for tail, said in TAILS.items():
        mask = rows.parts[tail]
        positives = int(rows.labels[mask].sum())
        counts = f"{mask.sum():,} of {len(mask):,} impressions, {positives:,} positive"
        lines += ["", f"## {said[0].upper()}{said[1:]}", "", f"{counts}.", ""]
        lines += [
            "| model | AUC | AUC of the tail | gap | narrowed | |",
            "|---|---|---|---|---|---|",
        ]
        for model in rows.scores:
            every, own = rows.aucs(model, ALL), rows.aucs(model, tail)
            gaps = [tail - all_ for tail, all_ in zip(own, every)]
            cells = [f"`{model}`", *map(_plus_minus, (every, own, gaps)), "", ""]
            if model in others:
                found = rows.narrowed(model, first, tail, replicates)
                cells[-2:] = [str(found), "yes" if (found.low or 0) > 0 else "no"]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## By training frequency", ""]
    lines += ["AUC of ten groups of test impressions, the rarest items first, mean over the seeds."]
    lines += ["", f"| group | impressions | {' | '.join(f'`{model}`' for model in rows.scores)} |"]
    lines += ["|---|---|" + "---|" * len(rows.scores)]
    for part in _groups(rows):
        values = [f"{np.mean(rows.aucs(model, part)):.4f}" for model in rows.scores]
        size = f"{rows.parts[part].sum():,}"
        lines.append(f"| {part.removeprefix('group ')} | {size} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _groups(rows: Rows) -> list[str]:
    return [part for part in rows.parts if part.startswith("group")]


def _plus_minus(values: Sequence[float]) -> str:
    return "{:.4f} ± {:.4f}".format(*spread(values))


def draw(path: Path, title: str, rows: Rows) -> Path:
    """AUC by group, a line a model, with the deviation over the seeds."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    names = _groups(rows)
    for model in rows.scores:
        means, deviations = zip(*(spread(rows.aucs(model, part)) for part in names))
        numbers = [int(name.removeprefix("group ")) for name in names]
        axes.errorbar(numbers, means, yerr=deviations, marker="o", markersize=4, label=model)
    axes.set_xlabel("tenth of the test impressions, by the item's training frequency")
    axes.set_ylabel("AUC")
    axes.grid(color="0.92")
    axes.legend()
    figure.suptitle(title)
    return write_figure(path, figure)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.leaderboard.long_tail", description=__doc__.splitlines()[0]
    )
    every = boards()
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--board", choices=every, required=True)
    parser.add_argument("--models", nargs="+", required=True, help="the first is the reference")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    board, trainer = every[options.board], Trainer(options.workspace)
    try:
        files, tasks = {}, set()
        for name in options.models:
            check_known((options.board, "models"), "row", name, [e.name for e in board.entries])
            row = train_row(trainer, board, board.entry(name), OURS, False, lambda: None)
            if row is None:
                raise ValueError(
                    f"{name} is not finished here: python -m benchmarks.leaderboard "
                    f"--boards {options.board} --entries {name}"
                )
            files[name] = [trainer.scores(run) for run in row.runs]
            tasks |= set(row.runs[0].test)
        if len(tasks) > 1:
            raise ValueError(f"the models must have one task, got {', '.join(sorted(tasks))}")
        rows = read(files, tasks.pop())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    file = options.output / f"long_tail_{options.board}.md"
    records = (
        {"model": model, "seed": seed, "part": part, "impressions": mask.sum(), "auc": auc}
        for model in rows.scores
        for part, mask in rows.parts.items()
        for seed, auc in zip(board.seeds, rows.aucs(model, part))
    )
    write_csv(file.with_suffix(".csv"), COLUMNS, records)
    draw(file.with_suffix(".svg"), f"{board.title}: AUC by frequency", rows)
    print(write_text(file, page(options.board, board, rows, options.replicates)))


if __name__ == "__main__":
    main()
