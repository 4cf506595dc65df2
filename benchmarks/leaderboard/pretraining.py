"""How the pre-trainings of a board went: ranking of the next item by epoch, for each seed.

    python -m benchmarks.leaderboard.pretraining --board srp4ctr

Reads those that are finished, which entries share; one that is no more than in the page's CSV
stays there as long as the board has it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

from benchmarks.files import read_csv, write_csv, write_figure, write_text
from benchmarks.leaderboard.board import Board, boards
from benchmarks.leaderboard.options import page_parser
from benchmarks.leaderboard.runs import Trainer
from benchmarks.leaderboard.scores import plus_minus
from ctr_tf.evaluation.curves import read_curves
from ctr_tf.training.config import RANKING_METRICS

COLUMNS = ("objective", "seed", "key", "step", "epoch", *RANKING_METRICS)
MEASURE = "ndcg"
"""What ends a pre-training and chooses its weights."""


@dataclass(frozen=True)
class Pretraining:
    """One pre-training.

    Args:
        name: of its objective, and what else tells it from others of the board.
        seed: of it.
        key: of its configuration, data and seed.
        records: of the validation split, in order: step, epoch and `RANKING_METRICS`.
    """

    name: str
    seed: int
    key: str
    records: list[dict]

    @property
    def best(self) -> dict:
        """The record that its weights are of."""
        return max(self.records, key=lambda record: record[MEASURE])


def read(trainer: Trainer, board: Board, earlier: Mapping[str, list[dict]]) -> list[Pretraining]:
    """The finished pre-trainings of a board, in the board's order.

    Args:
        trainer: whose workspace has them.
        board: of the entries.
        earlier: records of pre-trainings by their key, for those that are not there.
    """
    found: dict[str, Pretraining] = {}
    for entry in board.entries:
        for seed in board.seeds:
            workspace = trainer.workspace(board, entry, trainer.seeded(board, entry, seed))
            if workspace.experiment.pretrain is None:
                break
            folder = workspace.pretrained
            records = earlier.get(folder.name, [])
            if (folder / "stages" / "pretrain.json").exists():
                curves = read_curves(folder / "history.jsonl").records
                records = [record for record in curves if record["split"] == "validation"]
            if not records:
                continue  # Not finished.
            objective = workspace.experiment.pretrain.objective.name
            attributes = workspace.experiment.model.attributes
            name = f"{objective} of {', '.join(attributes)}" if attributes else objective
            found.setdefault(folder.name, Pretraining(name, seed, folder.name, records))
    return list(found.values())


def recorded(path: Path) -> dict[str, list[dict]]:
    """The records of an earlier page by the key of their pre-training; none where it is not there.

    Raises:
        ValueError: the file has other columns, or a value does not parse; names the line.
    """
    found: dict[str, list[dict]] = {}
    for number, line in enumerate(read_csv(path, COLUMNS), start=2):
        try:
            record = {name: int(line[name]) for name in ("step", "epoch")}
            record |= {metric: float(line[metric]) for metric in RANKING_METRICS}
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
        found.setdefault(line["key"], []).append(record)
    return found


def page(name: str, board: Board, found: Sequence[Pretraining]) -> str:
    """The page, in Markdown: a row a kind of pre-training."""
    lines = [
        f"# {board.title}: pre-training",
        "",
        f"`python -m benchmarks.leaderboard.pretraining --board {name}`. Ranking, over the whole "
        "catalogue, of the item of each user's first validation request, which no pre-training "
        f"saw, at the epoch with the best {MEASURE}: mean ± standard deviation over the seeds.",
        "",
        f"![{MEASURE} by epoch](pretraining_{name}.svg)",
        "",
        f"| pre-training | seeds | best epoch of those run | {' | '.join(RANKING_METRICS)} |",
        "|---" * (3 + len(RANKING_METRICS)) + "|",
    ]
    for kind in dict.fromkeys(each.name for each in found):
        own = [each for each in found if each.name == kind]
        epochs = ", ".join(f"{each.best['epoch']} of {each.records[-1]['epoch']}" for each in own)
        values = [plus_minus([each.best[metric] for each in own]) for metric in RANKING_METRICS]
        lines.append(f"| `{kind}` | {len(own)} | {epochs} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def draw(path: Path, title: str, found: Sequence[Pretraining]) -> Path:
    """The measure by epoch, a line a pre-training, a colour a kind."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    kinds = list(dict.fromkeys(each.name for each in found))
    for each in found:
        first = next(other for other in found if other.name == each.name) is each
        epochs = [record["epoch"] for record in each.records]
        values = [record[MEASURE] for record in each.records]
        label = each.name if first else None
        axes.plot(epochs, values, color=f"C{kinds.index(each.name)}", label=label, linewidth=1)
        axes.plot(each.best["epoch"], each.best[MEASURE], "o", color=f"C{kinds.index(each.name)}")
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{MEASURE} of the next item")
    axes.grid(color="0.92")
    figure.legend(loc="outside lower center", ncols=3)
    figure.suptitle(title)
    return write_figure(path, figure)


def main() -> None:
    """The command line."""
    every = boards()
    options = page_parser("pretraining", __doc__, every).parse_args()
    board = every[options.board]
    file = options.output / f"pretraining_{options.board}.md"
    try:
        found = read(Trainer(options.workspace), board, recorded(file.with_suffix(".csv")))
        if not found:
            command = f"python -m benchmarks.leaderboard --boards {options.board}"
            raise ValueError(f"no pre-training is there: {command}")
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    records = (
        record | {"objective": each.name, "seed": each.seed, "key": each.key}
        for each in found
        for record in each.records
    )
    write_csv(file.with_suffix(".csv"), COLUMNS, records)
    draw(file.with_suffix(".svg"), f"{options.board}: pre-training", found)
    print(write_text(file, page(options.board, board, found)))


if __name__ == "__main__":
    main()
