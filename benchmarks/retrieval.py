"""How many of the films that users liked a two-tower model finds, with log-Q correction or not.

    python benchmarks/retrieval.py --workspace workspace

Each form is trained at every rate of the grid with the first seed, and at the rate with the best
validation NDCG with the others. What is liked in the test split is then ranked among all films,
beside films in the order of how often they were liked in training.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.files import write_csv, write_text
from benchmarks.leaderboard.scores import plus_minus
from benchmarks.training import machine
from ctr_tf import metrics, stages
from ctr_tf.config import load
from ctr_tf.data.catalogue import read_catalogue
from ctr_tf.data.input import Input
from ctr_tf.training.config import RANKING_METRICS
from ctr_tf.training.retrieval import RetrievalValidator
from ctr_tf.workspace import Workspace

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "movielens" / "two_tower.yaml"
FORMS = {"with log Q": "true", "without": "false"}
CUTOFFS = (10, 100)
COLUMNS = ("form", "learning_rate", "seed", "chosen", "split", "cutoff", *RANKING_METRICS)


@dataclass(frozen=True)
class Run:
    """A training.

    Args:
        form: of `FORMS`.
        rate: peak learning rate.
        seed: of everything.
    """

    form: str
    rate: float
    seed: int

    def workspace(self, root: Path) -> Workspace:
        """Where it lies."""
        changed = [
            f"model.heads={{kind: in_batch_softmax, log_q: {FORMS[self.form]}}}",
            f"train.learning_rate={self.rate}",
            f"train.seed={self.seed}",
        ]
        return Workspace(root.absolute(), load(CONFIG, changed))


def measure(run: Run, root: Path, split: str, cutoff: int) -> dict[str, float]:
    """Trains, unless that is done, and ranks the positives of a split among all items."""
    workspace = run.workspace(root)
    stages.train(workspace)
    data = stages.open_data(workspace)
    model = stages.trained_model(workspace, data)
    return RetrievalValidator(model, data, cutoff, split)().values


def by_popularity(
    keys: list[str], liked_before: Counter, liked: list[str], cutoff: int
) -> dict[str, float]:
    """The same metrics of items in the order of how often training users liked them.

    Args:
        keys: of all items.
        liked_before: how often each was liked in training.
        liked: an item for each positive.
        cutoff: k.

    Example:
        >>> found = by_popularity(["a", "b", "c"], Counter({"b": 2, "a": 1}), ["a", "b"], 1)
        >>> found["hr"], found["mrr"]
        (0.5, 0.75)
    """
    counts = np.array([liked_before[key] for key in keys])
    above, tied = [], []
    for item in liked:
        own = liked_before[item]
        known = item in keys
        above.append((counts > own).sum() if known else np.inf)
        tied.append((counts == own).sum() - 1 if known else 0)
    measured = metrics.next_item(above, tied, cutoff)
    return {name: metric.value for name, metric in measured.items()}


def positives(data: Input, split: str, task: str) -> list[str]:
    """The item of each positive candidate of a split."""
    found: list[str] = []
    for batch in data.evaluation(split):
        positive = (batch["labels"][task].numpy() > 0) & (batch["weights"][task].numpy() > 0)
        found += [item.decode() for item in batch["ids"]["items"].numpy()[positive]]
    return found


def page(rows: list[dict], command: str, device: str) -> str:
    """The tables, of `COLUMNS`."""
    lines = [
        "# Retrieval",
        "",
        "Every film that a user liked in the test period, ranked among all 3,883 films; mean ±",
        "standard deviation over seeds. One epoch of MovieLens-1M, split by global time, at the",
        "best rate of the grid by validation NDCG@100.",
        "",
        f"`{command}`, {device}.",
    ]
    for cutoff in CUTOFFS:
        lines += [
            "",
            f"| two towers | learning rate | HR@{cutoff} | NDCG@{cutoff} | MRR |",
            "|---|---|---|---|---|",
        ]
        for form in dict.fromkeys(row["form"] for row in rows):
            own = [
                row
                for row in rows
                if row["form"] == form and row["split"] == "test" and row["cutoff"] == cutoff
            ]
            if own:
                values = [plus_minus([r[name] for r in own]) for name in ("hr", "ndcg", "mrr")]
                lines.append(f"| {form} | {own[0]['learning_rate']} | {' | '.join(values)} |")
    lines += [
        "",
        "| two towers | learning rate | validation NDCG@100, first seed |",
        "|---|---|---|",
    ]
    for row in rows:
        if row["split"] == "validation" and row["seed"] == 1:
            lines.append(f"| {row['form']} | {row['learning_rate']} | {row['ndcg']:.4f} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.001, 0.002])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args(arguments)
    rows: list[dict] = []

    def add(run: Run, split: str, cutoff: int, chosen: bool) -> dict:
        found = measure(run, given.workspace, split, cutoff)
        row = {"form": run.form, "learning_rate": run.rate, "seed": run.seed}
        row |= {"chosen": int(chosen), "split": split, "cutoff": cutoff, **found}
        rows.append(row)
        print({name: row[name] for name in COLUMNS}, flush=True)
        return row

    for form in FORMS:
        tried = {rate: add(Run(form, rate, 1), "validation", 100, False) for rate in given.rates}
        best = max(tried, key=lambda rate: tried[rate]["ndcg"])
        for seed in range(1, given.seeds + 1):
            for cutoff in CUTOFFS:
                add(Run(form, best, seed), "test", cutoff, True)
    data = stages.open_data(Run("without", given.rates[0], 1).workspace(given.workspace))
    task = next(iter(data.schema.tasks))
    before = Counter(positives(data, "train", task))
    liked, keys = positives(data, "test", task), list(read_catalogue(data.folder))
    for cutoff in CUTOFFS:
        found = by_popularity(keys, before, liked, cutoff)
        popular = {"form": "by popularity", "learning_rate": "", "seed": "", "chosen": 1}
        rows.append(popular | {"split": "test", "cutoff": cutoff, **found})
    write_csv(given.output / "retrieval.csv", COLUMNS, rows)
    command = "python benchmarks/retrieval.py --workspace workspace"
    print(write_text(given.output / "retrieval.md", page(rows, command, machine())))


if __name__ == "__main__":
    main()
