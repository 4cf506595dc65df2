"""The leaderboard: its boards, what is trained and chosen, its pages."""

import csv
import doctest
import fcntl
import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from benchmarks.leaderboard import __main__ as command
from benchmarks.leaderboard import board, ours_run, page, record, runs, scores, tuning
from benchmarks.leaderboard.board import OURS, PEER, Board, Entry, boards
from benchmarks.leaderboard.page import Row
from benchmarks.leaderboard.runs import Run
from ctr_tf.config import load
from ctr_tf.config_base import SettingError
from ctr_tf.schema import Schema
from tests.prepared import write_prepared

BOARD = Board(
    title="A board",
    configs="configs/movielens",
    grid={"train.learning_rate": [0.1, 0.2]},
    seeds=[1, 2],
    entries=["fm", "din"],
    peers=["fm"],
)


@pytest.mark.parametrize("module", [board, scores])
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


@pytest.mark.parametrize("name", boards())
def test_every_entry_is_an_experiment(name):
    found = boards()[name]
    for entry in found.entries:
        for point in found.points:
            config = runs.ROOT / found.configs / f"{entry.config}.yaml"
            experiment = load(config, [*found.set, *entry.set, *point])
            assert [f"train.learning_rate={experiment.train.learning_rate:g}"] == point or not point


def test_what_a_board_cannot_say():
    with pytest.raises(ValueError, match="'fm' is there twice"):
        Board(title="", configs="", entries=["fm", "fm"])
    with pytest.raises(ValueError, match="peers: no row 'fn'; rows: fm"):
        Board(title="", configs="", entries=["fm"], peers=["fn"])
    with pytest.raises(SettingError, match="entries: no row 'dim'; did you mean 'din'"):
        BOARD.entry("dim")


FACTS = {"parameters": 1234, "versions": {"x": "1"}, "machine": "3 CPU cores, abacus"}


def write_run(
    path, entry="fm", stack=OURS, point=("train.learning_rate=0.1",), seed=1, wins=1, task="like"
):
    """A run whose scores win `wins` of two pairs of one user, in either split."""
    arrays = {}
    for split in ("validation", "test"):
        arrays |= {
            f"{split}/{task}/score": np.array([0.5, [0.6, 0.4, 0.3][wins], [0.7, 0.6, 0.4][wins]]),
            f"{split}/{task}/label": np.array([1, 0, 0]),
            f"{split}/{task}/user": np.array([4, 4, 4]),
        }
    facts = FACTS | {"samples_per_second": 1000.0 * seed}
    file = path / f"{entry}-{stack}-{point}-{seed}.npz"
    scores.save(file, arrays, facts)
    return run_of(file, stack, entry, point, seed)


def run_of(file, stack=OURS, entry="fm", point=(), seed=1):
    """The run whose scores a file holds."""
    return Run(
        *(stack, entry, point, seed, file.stem, scores.read_facts(file)),
        scores.measure(file, "validation"),
        lambda: scores.measure(file, "test"),
        file,
    )


def test_metrics_of_a_run(tmp_path):
    # User 0: one of two pairs won; user 1: none of one; user 2 has one class.
    arrays = {
        "test/like/label": np.array([1, 0, 0, 0, 1, 1]),
        "test/like/score": np.array([0.5, 0.4, 0.6, 0.7, 0.2, 0.9]),
        "test/like/user": np.array([0, 0, 0, 1, 1, 2]),
    }
    scores.save(tmp_path / "run.npz", arrays, {"parameters": 7})
    found = scores.measure(tmp_path / "run.npz", "test")["like"]
    assert found["gauc"] == pytest.approx((3 * 0.5 + 2 * 0.0) / 5)
    # Positives 0.5, 0.2, 0.9 win 1, 0 and 3 of their pairs with 0.4, 0.6, 0.7.
    assert found["auc"] == pytest.approx(4 / 9)
    assert (found["users"], found["users_one_class"], found["positives"]) == (3, 1, 3)
    assert scores.measure(tmp_path / "run.npz", "validation") == {}
    assert scores.read_facts(tmp_path / "run.npz") == {"parameters": 7}
    assert not list(tmp_path.glob(".*"))


def test_rows_without_a_user_have_no_gauc(tmp_path):
    columns = {"label": [1, 0, 0], "score": [0.9, 0.8, 0.1], "user": [-1, -1, -1]}
    arrays = {
        f"{split}/income/{key}": np.array(value)
        for split in ("validation", "test")
        for key, value in columns.items()
    }
    facts = FACTS | {"parameters": 7, "samples_per_second": None}
    scores.save(tmp_path / "run.npz", arrays, facts)
    run = run_of(tmp_path / "run.npz")
    row = Row("fm", OURS, [run], [run], [run])
    assert (run.test["income"]["gauc"], run.test["income"]["users"]) == (None, 0)
    text = page.write(tmp_path, "small", BOARD, [row]).read_text(encoding="utf-8")
    assert "\n3 test impressions, 1 positive.\n" in text
    assert "| `fm` | 1.0000 | undefined | " in text
    assert text.count("| 7 |  |  |  |") == 1


@pytest.mark.parametrize(
    ("label", "score", "message"),
    [
        ([1, 1], [0.5, 0.4], r"test/like: the AUC is undefined \(one class only: 2 positives"),
        ([1, 0], [0.5, np.nan], "test/like: .*scores"),
    ],
)
def test_a_run_without_an_auc_is_an_error_that_names_its_file(tmp_path, label, score, message):
    columns = {"label": label, "score": score, "user": [0, 0]}
    arrays = {f"test/like/{key}": np.array(value) for key, value in columns.items()}
    scores.save(tmp_path / "run.npz", arrays, {})
    with pytest.raises(ValueError, match=f"run.npz: {message}"):
        scores.measure(tmp_path / "run.npz", "test")


def test_the_best_point_is_that_of_validation(tmp_path):
    trials = [write_run(tmp_path, point=(f"p={wins}",), wins=wins) for wins in (0, 2, 1)]
    assert [run.value for run in trials] == [0.0, 1.0, 0.5]
    assert runs.best_point(trials) == ("p=2",)
    equal = [write_run(tmp_path, point=(name,)) for name in "ab"]
    assert runs.best_point(equal) == ("a",)


class FakeTrainer:
    """Trains by writing files."""

    def __init__(self, folder, finished=()):
        self.folder, self.finished, self.trained = folder, set(finished), []

    def train(self, board, entry, stack, point, seed, start=True, tested=False):
        key = (point[0], seed)
        if key not in self.finished:
            if not start:
                return None
            self.trained.append(key)
            self.finished.add(key)
        # The second point is the better one.
        wins = 1 + (list(point) == BOARD.points[1])
        return write_run(self.folder, entry.name, stack, tuple(point), seed, wins)

    def kept_rates(self, board, entry, stack):
        return [write_run(self.folder, entry.name, stack, (), seed) for seed in (1, 3)]

    def rate(self, board, entry, stack, repeat):
        self.trained.append((entry.name, repeat))
        return write_run(self.folder, entry.name, stack, (), repeat)


def test_the_grid_is_searched_with_the_first_seed_alone(tmp_path):
    trainer = FakeTrainer(tmp_path)
    steps = []
    row = tuning.train_row(trainer, BOARD, Entry(name="fm", config="fm"), OURS, True, steps.append)
    low, high = "train.learning_rate=0.1", "train.learning_rate=0.2"
    assert trainer.trained == [(low, 1), (high, 1), (high, 2)]
    assert len(steps) == 3
    assert [run.point for run in row.trials] == [(low,), (high,)]
    assert [(run.point, run.seed) for run in row.runs] == [((high,), 1), ((high,), 2)]


def test_an_unfinished_entry_is_left_out_unless_it_is_asked_for(tmp_path):
    entry = Entry(name="fm", config="fm")
    finished = {("train.learning_rate=0.1", 1), ("train.learning_rate=0.2", 1)}
    trainer = FakeTrainer(tmp_path, finished)
    assert tuning.train_row(trainer, BOARD, entry, OURS, False) is None
    trainer.finished.add(("train.learning_rate=0.2", 2))
    row = tuning.train_row(trainer, BOARD, entry, OURS, False)
    assert row.values("like", "auc") == [1.0, 1.0]
    assert trainer.trained == []


def test_a_training_that_fails_ends_its_row_alone(tmp_path, capsys):
    class Failing(FakeTrainer):
        def prepare(self, board, peer):
            pass

        def remember(self, recorded):
            pass

        def train(self, board, entry, stack, point, seed, start=True, tested=False):
            if start and entry.name == "fm":
                raise RuntimeError("fm: failed with exit code 1")
            return super().train(board, entry, stack, point, seed, start, tested)

    options = SimpleNamespace(
        entries=None, stacks=[OURS], jobs=1, rates=0, output=tmp_path / "results"
    )
    path, failed = command.train_board("small", BOARD, Failing(tmp_path), options)
    said = " ".join(capsys.readouterr().out.split())
    assert failed == 1 and "error: fm: failed with exit code 1" in said
    assert "din (ctr_tf): train.learning_rate=0.2, validation AUC 1.0000" in said
    text = path.read_text(encoding="utf-8")
    assert "| `din` | 1.0000 ± 0.0000 | " in text
    # Short trainings of earlier calls are on it.
    assert " | 1,234 | 2,000 |" in text
    assert "Not finished: `fm` (ctr_tf), `fm` (FuxiCTR)." in text


def test_speeds_are_measured_in_turn_where_they_are_missing(tmp_path, capsys):
    trainer = FakeTrainer(tmp_path)
    rows = [
        Row("fm", OURS),
        Row("din", OURS, rates=trainer.kept_rates(BOARD, Entry(name="din"), OURS)),
    ]
    command.measure_rates(trainer, BOARD, rows, 2)
    assert trainer.trained == [("fm", 1), ("fm", 2), ("din", 2)]
    assert "fm (ctr_tf): 2,000 samples/s" in capsys.readouterr().out
    assert [row.samples_per_second for row in rows] == [1500.0, 2000.0]


def rows_of(tmp_path):
    found = []
    for entry, stack, wins in (("fm", OURS, 1), ("din", OURS, 2), ("fm", PEER, 2)):
        row = Row(entry, stack)
        for value in (0.1, 0.2):
            point = (f"train.learning_rate={value}",)
            row.trials.append(
                write_run(tmp_path, entry, stack, point, 1, wins if value > 0.1 else 0)
            )
        second = write_run(tmp_path, entry, stack, ("train.learning_rate=0.2",), 2, wins)
        row.runs = [row.trials[1], second]
        row.rates = row.runs
        found.append(row)
    return found


def test_pages(tmp_path):
    path = page.write(tmp_path, "small", BOARD, rows_of(tmp_path))
    text = path.read_text(encoding="utf-8")
    assert path.name == "leaderboard_small.md"
    # Best first; the median of rates of 1,000 and 2,000.
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert lines[0].startswith("| `din` | 1.0000 ± 0.0000 | 1.0000 ± 0.0000 | ")
    assert lines[0].endswith(" | 1,234 | 1,500 |  |  |")
    assert lines[1].startswith("| `fm` | 0.5000 ± 0.0000 | ")
    assert "## like\n\n3 test impressions, 1 positive, of 1 users, 0 of whom have" in text
    assert "| `fm` | 0.5000 ± 0.0000 | 1.0000 ± 0.0000 | -0.5000 (spread 0.0000): below | " in text
    assert "| `din` | ctr_tf | 0.0000 | 1.0000 (best) |" in text
    assert text.endswith("\nThe best point of 3 of 3 rows is at an edge of the grid.\n")
    with path.with_suffix(".csv").open(encoding="utf-8") as file:
        records = [row for row in csv.DictReader(file) if row["task"]]
    assert len(records) == 9
    # A point that was not chosen is not measured on the test split.
    assert {(row["chosen"], row["auc"] != "") for row in records} == {("1", True), ("0", False)}
    assert "\n3 CPU cores, abacus; x 1.\n" in text


def test_published_figures_stand_beside(tmp_path):
    entries = [Entry(name="fm", published=0.6), Entry(name="din")]
    own = BOARD.model_copy(update={"entries": entries})
    din, fm = page.table(own, rows_of(tmp_path)[:2], "like")[2:]
    assert din.endswith(" |  |  |  |") and fm.endswith(" |  |  | 0.6000 |")


def test_a_csv_keeps_what_is_not_written_anew(tmp_path):
    fm, din, peer = rows_of(tmp_path)
    path = tmp_path / "leaderboard_small.csv"
    known = BOARD.rows
    record.write(path, [din, peer], known)
    # A row that is being tuned has no runs yet.
    record.write(path, [Row("fm", OURS, fm.trials[:1])], known)
    found = record.read(path)
    assert {(run.entry, run.stack) for run in found.values()} == set(known)
    assert found[fm.trials[0].key].test == {} and found[din.runs[1].key].test == din.runs[1].test
    # What was tested is not replaced by what is not, until the row has its runs again.
    before = path.read_bytes()
    record.write(path, [Row("din", OURS, din.trials[:1])], known)
    assert path.read_bytes() == before
    # The same training of another configuration takes the place of the former.
    trial = replace(din.trials[0], key="another")
    record.write(path, [Row("din", OURS, [trial])], known)
    assert din.trials[0].key not in record.read(path) and "another" in record.read(path)
    # A row that the board has no more.
    record.write(path, [], [("fm", OURS)])
    assert {run.entry for run in record.read(path).values()} == {"fm"}


def test_a_csv_is_read_as_it_was_written(tmp_path):
    rows = rows_of(tmp_path)
    for row in rows:
        # Trainings for the speed are others than those of tuning.
        row.rates = [write_run(tmp_path, row.entry, row.stack, (), seed) for seed in (1, 2)]
        for run in row.rates:
            run.validation.clear()
            run.facts["cost"] = {"folded": 2e6, "row_wise": 8e6}
    path = page.write(tmp_path, "small", BOARD, rows).with_suffix(".csv")
    found = record.read(path)
    written = {run.key: run for row in rows for run in [*row.trials, *row.runs, *row.rates]}
    assert found.keys() == written.keys()
    for row in rows:
        for run in (*row.trials, *row.runs, *row.rates):
            own = found[run.key]
            assert (own.stack, own.entry, own.point) == (run.stack, run.entry, run.point)
            assert (own.seed, own.value if own.validation else None) == (
                run.seed,
                run.value if run.validation else None,
            )
            assert own.validation.keys() == run.validation.keys()
        for run in row.runs:
            assert found[run.key].test == run.test
        for run in row.rates:
            assert found[run.key].facts == run.facts
    # A page of what was read is the same.
    again = [
        Row(row.entry, row.stack, *([found[r.key] for r in own] for own in
            (row.trials, row.runs, row.rates)))
        for row in rows
    ]  # fmt: skip
    page.write(tmp_path / "again", "small", BOARD, again)
    for suffix in (".md", ".csv"):
        name = f"leaderboard_small{suffix}"
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model,stack", "model,side"), r"leaderboard_small.csv: its columns must be model, stack"),
        ((",1234,", ",many,"), r"leaderboard_small.csv:2: invalid literal for int.*'many'"),
        ((",1234,", ","), r"leaderboard_small.csv:2: 23 columns, got another number"),
    ],
)
def test_a_csv_that_does_not_parse_names_its_line(tmp_path, change, message):
    path = page.write(tmp_path, "small", BOARD, rows_of(tmp_path)).with_suffix(".csv")
    path.write_text(path.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        record.read(path)
    assert record.read(tmp_path / "none.csv") == {}


def test_one_of_equal_points_is_the_best(tmp_path):
    points = ("p=1",), ("p=2",)
    row = Row("fm", OURS, trials=[write_run(tmp_path, point=point) for point in points])
    row.runs = row.trials[:1]
    text = page.write(tmp_path, "small", BOARD, [row]).read_text(encoding="utf-8")
    assert "| `fm` | ctr_tf | 0.5000 (best) | 0.5000 |" in text
    assert "each at the point of the grid with the best AUC" in text


def test_a_page_names_every_version_and_no_grid_where_there_is_none(tmp_path):
    row = Row("fm", OURS, runs=[write_run(tmp_path, point=(), seed=seed) for seed in (1, 2)])
    row.runs[1].facts["versions"] = {"x": "2", "w": "3"}
    board = BOARD.model_copy(update={"grid": {}})
    text = page.write(tmp_path, "small", board, [row]).read_text(encoding="utf-8")
    assert "; w 3, x 1, x 2." in text
    assert "of 2 seeds on the test split." in text and "point of the grid" not in text


def test_undefined_gauc_is_said_beside_the_peers(tmp_path):
    rows = rows_of(tmp_path)
    for row in rows:
        for run in row.runs:
            run.test["like"]["gauc"] = None
    text = page.write(tmp_path, "small", BOARD, rows).read_text(encoding="utf-8")
    assert "): below | undefined | undefined | undefined | 1,234 |" in text


def test_costs_are_drawn(tmp_path):
    rows = rows_of(tmp_path)
    for row in rows:
        for run in row.rates:
            run.facts["cost"] = {"folded": 2e6, "row_wise": 8e6}
    text = page.write(tmp_path, "small", BOARD, rows).read_text(encoding="utf-8")
    assert "| 1,500 | 2.0000 | 8.0000 |" in text
    drawn = (tmp_path / "leaderboard_small.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<?xml") and drawn.rstrip().endswith("</svg>")


def test_a_row_stands_in_the_tables_of_its_tasks(tmp_path):
    alone = Row("fm", OURS, runs=[write_run(tmp_path, "fm", wins=1, task="income")])
    other = Row("din", OURS, runs=[write_run(tmp_path, "din", wins=2, task="married")])
    rows = [alone, other]
    assert page.tasks_of(rows) == ["income", "married"]
    assert [row.entry for row in page.of_task(rows, "married")] == ["din"]
    for row in rows:
        row.rates = row.runs
        row.runs[0].facts["cost"] = {"folded": 2e6, "row_wise": 8e6}
    page.write(tmp_path, "small", BOARD, rows)
    for task, entry in (("income", "fm"), ("married", "din")):
        (line,) = page.table(BOARD, rows, task)[2:]
        assert line.startswith(f"| `{entry}` | ")
    drawn = (tmp_path / "leaderboard_small.svg").read_text(encoding="utf-8")
    assert "AUC of income" in drawn and "AUC of married" in drawn


def test_different_test_rows_are_an_error(tmp_path):
    rows = rows_of(tmp_path)
    rows[2].runs[0].test["like"] = rows[2].runs[0].test["like"] | {"positives": 5}
    with pytest.raises(ValueError, match="like: positives .*'fuxictr fm 1': 5"):
        page.check_same_rows(rows)


def test_what_is_not_finished_is_named(tmp_path):
    text = page.write(tmp_path, "small", BOARD, rows_of(tmp_path)[:1]).read_text(encoding="utf-8")
    assert "Not finished: `din` (ctr_tf), `fm` (FuxiCTR)." in text


def test_rows_are_in_the_order_of_the_board_whichever_is_finished_first(tmp_path):
    rows = rows_of(tmp_path)
    first = page.write(tmp_path / "a", "small", BOARD, rows).with_suffix(".csv")
    second = page.write(tmp_path / "b", "small", BOARD, rows[::-1]).with_suffix(".csv")
    assert first.read_text() == second.read_text()
    with first.open(encoding="utf-8") as file:
        order = [(row["model"], row["stack"]) for row in csv.DictReader(file)]
    assert list(dict.fromkeys(order)) == [("fm", OURS), ("din", OURS), ("fm", PEER)]


class Finished:
    """A process that has ended."""

    code = 0

    def __init__(self, code=0):
        self.code = code

    def wait(self):
        return self.code


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """A trainer of a small experiment, whose processes run within this one."""
    schema = {
        "keys": {"user": "user"},
        "features": {"item_id": {"kind": "categorical"}},
        "tasks": {"like": {"column": "rating", "above": 3}},
    }
    requests = [
        {"id": f"r{number}", "user": f"u{number % 3}", "features": {"item_id": ["a", "b", "c"]},
         "labels": {"like": [1.0, 0.0, 0.0]}, "weights": {"like": [1.0, 1.0, number % 2]}}
        for number in range(8)
    ]  # fmt: skip
    splits = dict.fromkeys(("train", "validation", "test"), requests)
    write_prepared(tmp_path / "prepared", Schema(**schema), splits, shards=1)
    settings = {"prepared": str(tmp_path / "prepared"), "schema": schema, "model": {"name": "fm"}}
    (tmp_path / "fm.yaml").write_text(json.dumps(settings))
    started = []

    class Process(Finished):
        def __init__(self, arguments, **options):
            started.append(arguments)
            with open(arguments[-1], encoding="utf-8") as file:
                ours_run.main(json.load(file))

    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(Popen=Process))
    found = runs.Trainer(tmp_path / "workspace")
    found.started = started
    return found


def test_a_training_is_kept(trainer, tmp_path):
    board = Board(title="", configs=str(tmp_path), entries=["fm"])
    (entry,) = board.entries
    assert trainer.train(board, entry, OURS, [], 1, start=False) is None
    run = trainer.train(board, entry, OURS, [], 1)
    # Four of the eight requests have a masked candidate.
    assert run.test["like"]["impressions"] == 20 and run.test["like"]["users"] == 3
    # Three rows of ids, one for others and one for padding, each a vector of 16 and a weight; the
    # bias.
    assert run.facts["parameters"] == 5 * 17 + 1
    assert trainer.train(board, entry, OURS, [], 1) == run
    assert len(trainer.started) == 1
    trainer.train(board, entry, OURS, ["train.learning_rate=0.1"], 1)
    assert len(trainer.started) == 2


def test_what_is_recorded_counts_where_it_is_not_asked_for_or_trusted(trainer, tmp_path):
    board = Board(title="", configs=str(tmp_path), entries=["fm"])
    (entry,) = board.entries
    run = trainer.train(board, entry, OURS, [], 1)
    assert run.test["like"]["impressions"] == 20
    run.path.unlink()
    trainer.remember({run.key: run})
    assert trainer.train(board, entry, OURS, [], 1, start=False) == run
    trainer.trust = True
    assert trainer.train(board, entry, OURS, [], 1) == run
    # By other names on another board.
    other, point = Entry(name="machine", config="fm"), ["train.learning_rate=0.001"]
    named = replace(run, entry="machine", point=tuple(point))
    assert trainer.train(board, other, OURS, point, 1) == named
    # One that was not chosen has no metrics of the test split.
    untested = replace(run, measure_test=dict)
    trainer._recorded = {}
    trainer.remember({run.key: untested})
    assert trainer.train(board, entry, OURS, [], 1, start=False) == untested
    assert trainer.train(board, entry, OURS, [], 1, start=False, tested=True) is None
    trainer.remember({run.key: run})
    assert trainer.train(board, entry, OURS, [], 1, start=False, tested=True) == run
    trainer.remember({run.key: untested})
    assert trainer.train(board, entry, OURS, [], 1, start=False, tested=True) == run
    assert trainer.train(board, entry, OURS, [], 2, start=False) is None
    assert len(trainer.started) == 1
    trainer.trust = False
    trainer.train(board, entry, OURS, [], 1)
    assert len(trainer.started) == 2


def test_a_failed_training_names_its_log(trainer, tmp_path, monkeypatch):
    failed = SimpleNamespace(Popen=lambda *_, **__: Finished(3))
    monkeypatch.setattr(runs, "subprocess", failed)
    board = Board(title="", configs=str(tmp_path), entries=["fm"])
    with pytest.raises(RuntimeError, match=r"fm-ctr_tf-\w+: failed with exit code 3; see .*\.log"):
        trainer.train(board, board.entries[0], OURS, [], 1)


def test_the_speed_is_measured_on_all_cores(trainer, tmp_path, monkeypatch):
    given = []

    def start(arguments, env, **options):
        given.append(env)
        with open(arguments[-1], encoding="utf-8") as file:
            scores.save(Path(json.load(file)["output"]), {}, FACTS)
        return Finished()

    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(Popen=start))
    board = Board(title="", configs=str(tmp_path), entries=["fm"])
    both = runs.Trainer(tmp_path / "workspace", jobs=2)
    both.train(board, board.entries[0], OURS, [], 1)
    both.rate(board, board.entries[0], OURS, 1)
    threads = [env.get("TF_NUM_INTRAOP_THREADS") for env in given]
    own = os.environ.get("TF_NUM_INTRAOP_THREADS")
    assert threads == [str(max(1, len(os.sched_getaffinity(0)) // 2)), own]


def test_what_another_process_trains_is_left_to_it(trainer, tmp_path):
    board = Board(title="", configs=str(tmp_path), entries=["fm"])
    run = trainer.train(board, board.entries[0], OURS, [], 1)
    path = tmp_path / "workspace" / "leaderboard" / f"fm-{OURS}-{run.key}.npz"
    path.unlink()
    with path.with_suffix(".log").open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        with pytest.raises(RuntimeError, match=r"fm-ctr_tf-\w+: another process trains it; see"):
            trainer.train(board, board.entries[0], OURS, [], 1)
    assert len(trainer.started) == 1


def test_the_environment_of_the_peer_is_made_where_it_is_asked_for(trainer, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(runs, "_environment", lambda: made.append(PEER))
    board = Board(title="", configs=str(tmp_path), entries=["fm"], peers=["fm"])
    trainer.prepare(board, peer=False)
    assert made == []
    trainer.prepare(board, peer=True)
    assert made == [PEER]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-steps", "3"], "--max-steps: name an --output, a trial is no result"),
        (["--jobs", "0"], "--jobs: must be at least 1, got 0"),
        (
            ["--boards", "movielens_1m", "census_income", "--entries", "fm"],
            "census_income.entries: no row 'fm'; rows: income",
        ),
    ],
)
def test_a_wrong_command_line_is_refused(tmp_path, monkeypatch, capsys, arguments, message):
    """Before anything is trained."""
    monkeypatch.setattr(command, "train_board", None)
    monkeypatch.setattr(command, "signal", Mock())
    monkeypatch.setattr("sys.argv", ["leaderboard", "--workspace", str(tmp_path), *arguments])
    with pytest.raises(SystemExit):
        command.main()
    assert message in capsys.readouterr().err


def test_stopping_ends_the_trainings_under_way_and_starts_no_more(trainer, tmp_path, monkeypatch):
    class Endless(Finished):
        def __init__(self, *_, **__):
            self.terminated = threading.Event()
            self.terminate = self.terminated.set
            threading.Timer(0.05, trainer.stop).start()

        def wait(self):
            assert self.terminated.wait(10)
            return 143

    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(Popen=Endless))
    board = Board(title="", configs=str(tmp_path), entries=["fm"])
    with pytest.raises(RuntimeError, match="failed with exit code 143"):
        trainer.train(board, board.entries[0], OURS, [], 1)
    with pytest.raises(RuntimeError, match="not started: trainings are being stopped"):
        trainer.train(board, board.entries[0], OURS, [], 2)
