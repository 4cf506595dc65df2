"""How much worse models rank the long tail, and whose gap is narrower: Han et al. 2024, table 2.

    python -m benchmarks.leaderboard.long_tail --board srp4ctr --models din can fg_bert_mp srp4ctr

Reads the scores of trainings that are finished, of the best point of each model and every seed. All
are compared with the references: users are resampled, for both models and all seeds alike.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.files import write_csv, write_figure, write_text
from benchmarks.leaderboard import record
from benchmarks.leaderboard.board import OURS, Board, boards
from benchmarks.leaderboard.options import page_parser
from benchmarks.leaderboard.runs import TEST, Trainer
from benchmarks.leaderboard.scores import plus_minus, spread
from benchmarks.leaderboard.tuning import train_row
from ctr_tf import metrics
from ctr_tf.config_base import check_known
from ctr_tf.metrics import MetricValue, frequency_groups, long_tail, with_interval
from ctr_tf.metrics.auc import RankedScores

ALL = "all"
TAILS = {
    "items": "the least frequent fifth of the items",
    "occurrences": "the least frequent items that have a fifth of the training occurrences",
}
TRAINED = "trained_items"
GROUPS = 10
COLUMNS = ("model", "seed", "part", "impressions", "auc")


@dataclass(frozen=True)
class Rows:
    """The counted impressions of a test split, and what scores them.

    Args:
        labels: 0 or 1, (M,).
        users: codes, (M,).
        parts: masks of `ALL` and of each of `TAILS`, (M,).
        groups: masks of ten groups by frequency, the rarest items first, by number, (M,).
        scores: of each model, a row a seed, (seeds, M).
    """

    labels: np.ndarray
    users: np.ndarray
    parts: dict[str, np.ndarray]
    groups: dict[int, np.ndarray]
    scores: dict[str, np.ndarray]

    def aucs(self, model: str, mask: np.ndarray) -> list[float | None]:
        """AUC of the rows of a mask, a value a seed; None where they are of one class."""
        return [metrics.auc(self.labels[mask], own[mask]).value for own in self.scores[model]]

    def gaps(self, model: str, tail: str) -> np.ndarray:
        """AUC of a tail less that of all, a value a seed."""
        return np.subtract(*(self.aucs(model, self.parts[part]) for part in (tail, ALL)))

    def gap_less_that_of(
        self, reference: str, model: str, tail: str, replicates: int
    ) -> MetricValue:
        """The mean gap of a model less that of a reference, with its interval over users."""
        terms = []
        for name, sign in ((model, 1), (reference, -1)):
            for part, side in ((tail, 1), (ALL, -1)):
                mask = self.parts[part]
                terms += [
                    (
                        sign * side / len(self.scores[name]),
                        mask,
                        RankedScores(self.labels[mask], own[mask]),
                    )
                    for own in self.scores[name]
                ]

        def statistic(weights: np.ndarray) -> float:
            return sum(c * own.pair_sums(weights[mask]).auc[0] for c, mask, own in terms)

        return with_interval(statistic, self.users, replicates)


def read(files: Mapping[str, Sequence[Path]], task: str) -> Rows:
    """The rows of the score files of each model, one a seed.

    Raises:
        ValueError: files of other impressions, or without their items; names the file.
    """
    common: dict[str, np.ndarray] = {}
    scores: dict[str, list[np.ndarray]] = {}
    of_rows = [f"{TEST}/{task}/{name}" for name in ("label", "user", "item", "frequency")]
    for model, paths in files.items():
        for path in paths:
            with np.load(path) as found:
                for key in (*of_rows, TRAINED):
                    if key not in found.files:
                        raise ValueError(f"{path}: no {key}: train it anew")
                    if not np.array_equal(common.setdefault(key, found[key]), found[key]):
                        raise ValueError(f"{path}: {key} differs from that of the first model")
                scores.setdefault(model, []).append(found[f"{TEST}/{task}/score"])
    labels, users, items, frequencies = (common[key] for key in of_rows)
    if (users < 0).any():
        raise ValueError(f"{TEST}/{task}: users are resampled, and some rows have none")
    parts = {ALL: np.ones(len(items), bool)}
    for tail in TAILS:
        parts[tail], _ = long_tail(items, frequencies, of=tail, trained=common[TRAINED])
        if len(set(labels[parts[tail]])) < 2:
            raise ValueError(
                f"{TEST}/{task}: the tail of {tail} has no impressions of both classes"
            )
    group = frequency_groups(items, frequencies, GROUPS)
    groups = {int(number) + 1: group == number for number in np.unique(group[group >= 0])}
    stacked = {model: np.stack(own) for model, own in scores.items()}
    return Rows(labels, users, parts, groups, stacked)


def page(name: str, board: Board, rows: Rows, references: Sequence[str], replicates: int) -> str:
    """The page, in Markdown: a table for each tail, then the groups."""
    command = f"python -m benchmarks.leaderboard.long_tail --board {name} --models"
    given = f"--references {' '.join(references)}"
    lines = [
        f"# {board.title}: the long tail",
        "",
        f"`{command} {' '.join(rows.scores)} {given}`. Mean ± standard deviation over the seeds on "
        "the test split. Gap: AUC of the tail less that of all; beside it that less the gap of a "
        f"reference, with a 95 % interval over {replicates:,} resamplings of users. Narrower: the "
        "interval lies above zero, and the gap is smaller than that of the reference. Items are "
        "all that training or the test split has, ordered by their impressions in training.",
    ]
    for tail, said in TAILS.items():
        mask = rows.parts[tail]
        positives = int(rows.labels[mask].sum())
        counts = f"{mask.sum():,} of {len(mask):,} impressions, {positives:,} positive"
        lines += ["", f"## {said[0].upper()}{said[1:]}", "", f"{counts}.", ""]
        head = ["model", "AUC", "AUC of the tail", "gap"]
        head += [f"less that of `{reference}`" for reference in references]
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for model in rows.scores:
            aucs = [rows.aucs(model, rows.parts[part]) for part in (ALL, tail)]
            cells = [f"`{model}`", *map(plus_minus, (*aucs, rows.gaps(model, tail)))]
            cells += [
                compared(rows, reference, model, tail, replicates) for reference in references
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## By training frequency", ""]
    lines += ["AUC of ten groups of test impressions, the rarest items first, mean over the seeds."]
    lines += ["", f"| group | impressions | {' | '.join(f'`{model}`' for model in rows.scores)} |"]
    lines += ["|---|---|" + "---|" * len(rows.scores)]
    for number, mask in rows.groups.items():
        found = [rows.aucs(model, mask) for model in rows.scores]
        values = ["undefined" if None in own else f"{np.mean(own):.4f}" for own in found]
        lines.append(f"| {number} | {mask.sum():,} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def compared(rows: Rows, reference: str, model: str, tail: str, replicates: int) -> str:
    """A model's gap less that of a reference, and whether it is narrower."""
    if model == reference:
        return ""
    found = rows.gap_less_that_of(reference, model, tail, replicates)
    own, other = (abs(rows.gaps(name, tail).mean()) for name in (model, reference))
    return f"{found}{', narrower' if (found.low or 0) > 0 and own < other else ''}"


def draw(path: Path, title: str, rows: Rows) -> Path:
    """AUC by group, a line a model, with the deviation over the seeds."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for model in rows.scores:
        found = {number: rows.aucs(model, mask) for number, mask in rows.groups.items()}
        found = {number: spread(own) for number, own in found.items() if None not in own}
        means, deviations = zip(*found.values())
        axes.errorbar(list(found), means, yerr=deviations, marker="o", markersize=4, label=model)
    axes.set_xlabel("tenth of the test impressions, by the item's training frequency")
    axes.set_ylabel("AUC")
    axes.grid(color="0.92")
    axes.legend()
    figure.suptitle(title)
    return write_figure(path, figure)


def main() -> None:
    """The command line."""
    every = boards()
    parser = page_parser("long_tail", __doc__, every)
    parser.add_argument("--models", nargs="+", required=True, help="rows of the board")
    parser.add_argument("--references", nargs="+", help="of the models; the first by default")
    parser.add_argument("--replicates", type=int, default=1000)
    options = parser.parse_args()
    board, trainer = every[options.board], Trainer(options.workspace)
    try:
        # Tuning may be no more than recorded; scores may not.
        trainer.remember(record.read(options.output / f"leaderboard_{options.board}.csv"))
        files, tasks = {}, set()
        references = options.references or options.models[:1]
        for name in references:
            check_known((options.board, "references"), "model", name, options.models)
        for name in options.models:
            check_known((options.board, "models"), "row", name, [e.name for e in board.entries])
            row = train_row(trainer, board, board.entry(name), OURS, start=False)
            files[name] = [run.path for run in row.runs] if row else [None]
            if None in files[name]:
                raise ValueError(
                    f"{name} has not all of its scores here: python -m benchmarks.leaderboard "
                    f"--boards {options.board} --entries {name}"
                )
            tasks |= set(row.runs[0].test)
        if len(tasks) > 1:
            raise ValueError(f"the models must have one task, got {', '.join(sorted(tasks))}")
        rows = read(files, tasks.pop())
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    file = options.output / f"long_tail_{options.board}.md"
    parts = rows.parts | {f"group {number}": mask for number, mask in rows.groups.items()}
    records = (
        {"model": model, "seed": seed, "part": part, "impressions": mask.sum(), "auc": auc}
        for model in rows.scores
        for part, mask in parts.items()
        for seed, auc in zip(board.seeds, rows.aucs(model, mask))
    )
    write_csv(file.with_suffix(".csv"), COLUMNS, records)
    draw(file.with_suffix(".svg"), f"{options.board}: AUC by frequency", rows)
    text = page(options.board, board, rows, references, options.replicates)
    print(write_text(file, text))


if __name__ == "__main__":
    main()
