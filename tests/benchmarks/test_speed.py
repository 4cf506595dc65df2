"""The speed comparison: clock, batches, verdicts, tables, resumption; the peers are not needed."""

import argparse
import csv
import doctest
import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import training
from benchmarks.speed import measure, summary, workloads
from benchmarks.speed.workloads import W2, make


def run(side, rate, workload="w1", model="deepfm", **given):
    """A finished run."""
    found = dict.fromkeys(summary.COLUMNS, 1)
    found |= {"workload": workload, "model": model, "side": side, "outcome": "done"}
    found |= {
        "samples_per_second": rate,
        "loss": 0.56,
        "cpu_us_per_sample": 800.0,
        "machine": "2 cores",
        "versions": {"x": 1},
    }
    return found | given


@pytest.mark.parametrize("module", [training, measure, summary, workloads])
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_clock_times_what_follows_the_warm_up():
    times = iter([0.0, 5.0, 7.0, 9.0, 12.0])
    clock = measure.Clock(2, 3, seconds=5, now=lambda: next(times), cpu=lambda: 0.0)
    assert clock.more(2) and clock.warm and clock.timed == 0
    # After 2 of 3 steps, after 4 steps but 4 of 5 seconds, after both.
    assert [clock.more(2) for _ in range(3)] == [True, True, False]
    assert (clock.timed, clock.seconds_taken) == (6, 7.0)


def test_epochs_are_permutations_in_another_order():
    batches = measure.shuffled(7, 3)
    first, second = (np.concatenate([next(batches), next(batches)]) for _ in range(2))
    assert len(set(first)) == len(set(second)) == 6
    assert first.tolist() != second.tolist()


def test_arrays_have_no_behaviour_behind_the_length():
    small = replace(W2, rows=50, fields={name: 20 for name in W2.fields}, length=5)
    arrays = make(small)
    valid = np.arange(5) < arrays["length"][:, None]
    assert ((arrays["history_item"] > 0) == valid).all()


def test_report_is_one_line_of_json(capsys):
    clock = measure.Clock(0, 2)
    assert [clock.more() for _ in range(2)] == [True, False]
    measure.report(clock, 8, 0.5, 7, {"x": "1"})
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 2 and found["parameters"] == 7 and found["peak_mib"] > 0


def test_verdict_is_of_the_medians():
    bar = summary.Bar("w1", "deepfm", "ours", "keras", 1.4)
    runs = [run("ours", rate) for rate in (14.0, 15.0, 99.0)] + [run("keras", 10.0)]
    assert summary.verdict(runs, bar) == "1.50 | PASS"
    runs += [run("keras", 11.0), run("keras", 12.0)]
    assert summary.verdict(runs, bar) == "1.36 | MISS"


def test_a_run_out_of_memory_is_told():
    bar = summary.Bar("w1", "deepfm", "ours", "keras", 1.4)
    failed = {**run("keras", None, outcome="out of memory"), "versions": None}
    assert summary.verdict([run("ours", 9.0), failed], bar) == "none | keras: out of memory"
    assert summary.verdict([run("ours", 9.0)], bar) == "none | keras: not run"


def test_bars_are_of_what_is_run():
    for bar in summary.BARS:
        assert (bar.workload, bar.model) in summary.CASES
        for side in (bar.ours, bar.peer):
            assert bar.model in training.SIDES[side].models
    assert set(training.SIDES) == set(summary.SIDES)
    assert set(summary.DIFFERENCES) == set(summary.CASES)


def test_tables(tmp_path):
    runs = [run("ours", rate, peak_mib=mib) for rate, mib in ((3e3, 10), (1e3, 30), (2e3, 20))]
    runs += [run("keras", 1e3), run("keras", None, outcome="out of time", repeat=2)]
    page = summary.write(tmp_path, runs).read_text(encoding="utf-8")
    assert "| ctr_tf, lazy Adam | 3 | 2,000 | 1,000–3,000 | 1.6 | 30 | 1.00 | 0.560 | 1 |" in page
    assert "| Keras `fit`, Adam | 1, 1 out of time | 1,000 | 1,000–1,000 | 0.8 |" in page
    assert "| W1, DeepFM | ctr_tf, lazy Adam | Keras `fit`, Adam | 1.4 | 2.00 | PASS |" in page
    assert "W2" not in page and "TorchRec, fused row-wise Adagrad |" not in page
    with (tmp_path / "training.csv").open(encoding="utf-8") as file:
        assert [row["outcome"] for row in csv.DictReader(file)] == ["done"] * 4 + ["out of time"]


def options(tmp_path, **given):
    found = {"workspace": tmp_path, "seconds": 1.0, "limit": 9.0, "repeats": 2}
    found |= {"sides": ["ours", "keras"], "workloads": ["w1", "w2"], "models": ["deepfm", "din"]}
    return argparse.Namespace(**found | given)


def test_repeats_are_interleaved(tmp_path):
    assert training.wanted(options(tmp_path)) == [
        (workload, model, side, repeat)
        for repeat in (1, 2)
        for workload, model, side in (
            ("w1", "deepfm", "ours"),
            ("w1", "deepfm", "keras"),
            ("w2", "din", "ours"),
        )
    ]


def test_finished_runs_are_not_repeated(tmp_path, monkeypatch):
    trained = []

    def train(self, title, side, settings):
        trained.append(title)
        return {"outcome": "out of time"}

    monkeypatch.setattr(training.Comparison, "_train", train)
    first = training.Comparison(options(tmp_path)).run("w1", "deepfm", "keras", 1)
    assert training.Comparison(options(tmp_path)).run("w1", "deepfm", "keras", 1) == first
    assert trained == ["w1-deepfm-keras-1"]
    # Another length of run is another run, and so is other code.
    training.Comparison(options(tmp_path, seconds=2.0)).run("w1", "deepfm", "keras", 1)
    monkeypatch.setattr(training, "digest", lambda files: "other")
    training.Comparison(options(tmp_path, seconds=2.0)).run("w1", "deepfm", "keras", 1)
    assert len(trained) == 3


@pytest.mark.parametrize(
    "said, found",
    [
        ('print("note"); print(\'{"samples_per_second": 1.0}\')', "done"),
        ("raise MemoryError", "out of memory"),
        ("import os; os.kill(os.getpid(), 9)", "out of memory"),
        ("import time; time.sleep(60)", "out of time"),
    ],
)
def test_how_a_process_ends(tmp_path, monkeypatch, said, found):
    package = tmp_path / "benchmarks" / "speed"
    package.mkdir(parents=True)
    (package / "told.py").write_text(said, encoding="utf-8")
    monkeypatch.setattr(training, "ROOT", tmp_path)
    monkeypatch.setattr(training, "path", lambda folder, workload: folder)
    settings = {"workload": "w1", "model": "deepfm", "arguments": []}
    comparison = training.Comparison(options(tmp_path, limit=9.0 if "sleep" not in said else 0.5))
    assert comparison._train("x", training.Side("told", ()), settings)["outcome"] == found


def test_a_mistake_stops_the_comparison(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "path", lambda folder, workload: folder)
    settings = {"workload": "w1", "model": "deepfm", "arguments": []}
    with pytest.raises(SystemExit, match="x: nothing failed with exit code 1"):
        training.Comparison(options(tmp_path))._train("x", training.Side("nothing", ()), settings)
