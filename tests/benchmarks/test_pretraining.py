"""The page of a board's pre-trainings."""

import csv
import json
import re
import shutil
import sys
from types import SimpleNamespace

import pytest

from benchmarks.leaderboard import pretraining
from benchmarks.leaderboard.board import Board

BOARD = Board(title="A board", configs="c", seeds=[1, 2, 3], entries=["din", "bert", "bert_mp"])


class Trainer:
    """Workspaces with histories: of seed 3 the pre-training has not ended."""

    def __init__(self, root):
        self.root = root

    def seeded(self, board, entry, seed):
        return [seed]

    def workspace(self, board, entry, overrides):
        objective = SimpleNamespace(objective=SimpleNamespace(name="fg_bert"))
        experiment = SimpleNamespace(
            pretrain=None if entry.name == "din" else objective,
            model=SimpleNamespace(attributes=["item_id"]),
        )
        return SimpleNamespace(experiment=experiment, pretrained=self.root / str(overrides[0]))


def write(folder, values, ended=True):
    records = [
        {"step": 10 * n, "epoch": n, "split": "validation", "ndcg": x, "hr": 2 * x, "mrr": x / 2}
        for n, x in enumerate(values, 1)
    ]
    records.insert(1, {"step": 12, "epoch": 1, "split": "train", "loss": 0.5})
    (folder / "stages").mkdir(parents=True)
    (folder / "history.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    if ended:
        (folder / "stages" / "pretrain.json").write_text("{}")


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "boards", lambda: {"small": BOARD})
    monkeypatch.setattr(pretraining, "Trainer", lambda root: Trainer(tmp_path / "workspace"))
    arguments = ["pretraining", "--board", "small", "--output", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", arguments)
    return pretraining.main


def test_the_best_epochs_of_those_that_ended(command, tmp_path, capsys):
    write(tmp_path / "workspace" / "1", [0.125, 0.5, 0.25])
    write(tmp_path / "workspace" / "2", [0.25, 0.125])
    write(tmp_path / "workspace" / "3", [0.75], ended=False)
    command()
    page = tmp_path / "results" / "pretraining_small.md"
    assert str(page) in capsys.readouterr().out
    (row,) = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    # Two entries share each: 0.5 and 0.25, with a deviation of 0.25 / sqrt(2).
    assert row == (
        "| `fg_bert of item_id` | 2 | 2 of 3, 1 of 2 | 0.3750 ± 0.1768 | 0.7500 ± 0.3536 "
        "| 0.1875 ± 0.0884 |"
    )
    with page.with_suffix(".csv").open() as file:
        found = [(line["seed"], line["epoch"], line["ndcg"]) for line in csv.DictReader(file)]
    assert found == [
        ("1", "1", "0.125"), ("1", "2", "0.5"), ("1", "3", "0.25"),
        ("2", "1", "0.25"), ("2", "2", "0.125"),
    ]  # fmt: skip
    assert page.with_suffix(".svg").read_text().count("</svg>") == 1


def test_one_that_was_written_down_stays(command, tmp_path):
    for seed, values in (("1", [0.125, 0.5]), ("2", [0.25])):
        write(tmp_path / "workspace" / seed, values)
    command()
    page = tmp_path / "results" / "pretraining_small.md"
    before = page.read_text()
    shutil.rmtree(tmp_path / "workspace" / "2")
    command()
    assert page.read_text() == before and "| 2 | 2 of 2, 1 of 1 |" in before
    file = page.with_suffix(".csv")
    # What is there is read again.
    file.write_text(file.read_text().replace(",1,1,20,2,0.5,", ",1,1,20,2,0.75,"))
    assert "0.75" in file.read_text()
    command()
    assert page.read_text() == before
    # Of another configuration than the board's today.
    file.write_text(file.read_text().replace(",2,2,10,1,", ",2,other,10,1,"))
    command()
    assert "| 1 | 2 of 2 |" in page.read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("objective,seed", "objective,sead"), "its columns must be objective, seed, key"),
        ((",0.125,", ",much,"), "pretraining_small.csv:2: could not convert .*'much'"),
    ],
)
def test_a_csv_that_does_not_parse(command, tmp_path, capsys, change, message):
    write(tmp_path / "workspace" / "1", [0.125])
    command()
    file = tmp_path / "results" / "pretraining_small.csv"
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(SystemExit, match="^2$"):
        command()
    assert re.search(message, capsys.readouterr().err)


def test_nothing_is_there(command, capsys):
    with pytest.raises(SystemExit):
        command()
    assert "no pre-training is there" in capsys.readouterr().err
