"""The server under mixed load: what is made of the figures, and a run of some seconds."""

import csv
import doctest
import threading
from collections import Counter

import grpc
import numpy as np
import pytest

from benchmarks.serving_load import __main__ as command
from benchmarks.serving_load import caller as calling
from benchmarks.serving_load import figures, messages, page
from benchmarks.serving_load.caller import Caller, Tally
from benchmarks.serving_load.figures import Load, Sample
from ctr_tf.data.raw_inputs import request_inputs
from serving.asking import ITEM_TOWER, SERVING, USER_TOWER

CALLS, RECEIVED = "ctr_tf_calls_total", "ctr_tf_received_calls_total"


def made(memory, answers=(), **given):
    """A run of 2 s a period, with memory read each second and two swaps."""
    samples = [Sample(float(n), mib, 2 + n // 4) for n, mib in enumerate(memory)]
    statuses = Counter({("folded", "OK"): len(answers)})
    counts = Counter({
        (CALLS, SERVING, "OK"): len(answers),
        (RECEIVED, "", ""): len(answers),
        ("ctr_tf_swaps_total", "", ""): 2,
    })  # fmt: skip
    load = {
        "seconds": float(len(memory)), "period": 2.0, "tally": Tally(statuses, list(answers)),
        "samples": samples, "swaps": [4.1, 8.1], "counts": counts, "exit_status": 0,
    }  # fmt: skip
    return Load(**load | given)


def verdict(load, rule):
    (found,) = [each for each in figures.verdicts(load) if each[0] == rule]
    return found[1:]


def test_examples():
    found = doctest.testmod(figures)
    assert found.attempted and not found.failed


def test_periods_have_rates_latencies_and_least_memory():
    answers = [("folded", second, 0.01) for second in (0.5, 1.0, 3.9)]
    answers += [("folded", 1.5, 0.03), ("late", 1.9, 2.0), ("label", 2.0, 0.05)]
    first, second = figures.by_period(made([7.0, 5.0, 6.0, 9.0, 1.0], answers))
    # The fifth second is of no whole period; what is late on purpose is not timed.
    assert first == {
        "first": 0.0, "answered": 4, "p50_ms": 10.0, "p99_ms": pytest.approx(29.6),
        "newest": [2], "least_mib": 5.0, "most_mib": 7.0,
    }  # fmt: skip
    assert (second["answered"], second["p50_ms"], second["least_mib"]) == (2, 30.0, 6.0)


def test_memory_is_flat_by_equal_phases():
    # A saw-tooth of swaps over a warm-up of one period.
    load = made([50.0, 90.0, *[100.0, 130.0] * 5])
    # Least of the six periods: 50, then 100; 12 s leave fifths of 2 s.
    assert figures.memory(load) == pytest.approx((0.0, 0.0, 1.0), abs=1e-9)
    assert verdict(load, "memory flat")[0] is True


def test_memory_that_grows_is_told():
    # The least of the second half: 103, 104, 105; the most of the fifths: 131 and 135.
    saw = [each + n for n in range(6) for each in (100.0, 130.0)]
    load = made(saw)
    assert figures.memory(load) == pytest.approx((1.0, 1 / 104, 135 / 131))
    kept, said = verdict(load, "memory flat")
    assert kept is False and "+1.00 MiB a period" in said and "(+0.96%" in said
    assert "is 1.031 of that" in said
    # A jump between the fifths, after which nothing grows.
    assert verdict(made([100.0] * 4 + [110.0] * 8), "memory flat")[0] is False
    assert verdict(made([100.0] * 9), "memory flat")[0] is None


def test_counts_agree_up_to_calls_that_were_not_waited_for():
    statuses = Counter({
        ("folded", "OK"): 5, ("folded", "RESOURCE_EXHAUSTED"): 1, ("user state", "OK"): 2,
        ("its items", "OK"): 3, ("its items", "NOT_FOUND"): 1, ("deadline", "DEADLINE_EXCEEDED"): 2,
        ("vanish", calling.GONE): 1, ("malformed", "INVALID_ARGUMENT"): 4,
        ("oversized", "RESOURCE_EXHAUSTED"): 6,
    })  # fmt: skip
    counts = Counter({
        (CALLS, SERVING, "OK"): 6, (CALLS, USER_TOWER, "OK"): 2, (CALLS, ITEM_TOWER, "OK"): 3,
        (CALLS, SERVING, "RESOURCE_EXHAUSTED"): 1, (CALLS, "unknown", "NOT_FOUND"): 1,
        (CALLS, SERVING, "DEADLINE_EXCEEDED"): 1, (CALLS, SERVING, "INVALID_ARGUMENT"): 1,
        (CALLS, "unknown", "INVALID_ARGUMENT"): 3, (RECEIVED, "", ""): 25,
    })  # fmt: skip
    rows = {name: rest for name, *rest in figures.agreement(statuses, counts)}
    # Two gave up and one vanished: three more may have been answered.
    assert rows["OK, serving_default"] == [5, 8, 6]
    assert rows["OK, user_tower"] == [2, 2, 2] and rows["OK, item_tower"] == [3, 3, 3]
    assert rows["INVALID_ARGUMENT"] == [4, 4, 4] and rows["NOT_FOUND"] == [1, 1, 1]
    assert rows["RESOURCE_EXHAUSTED"] == [1, 4, 1]
    assert rows["all that ended"] == [16, 19, 18]
    # Of the six oversized calls the headers came in.
    assert rows["all that began"] == [18, 25, 25]
    rule = "the server's counts are the clients'"
    tally = Tally(statuses)
    assert verdict(made([1.0], tally=tally, counts=counts), rule) == (True, "apart: none")
    counts[CALLS, USER_TOWER, "OK"] += 1
    counts[CALLS, SERVING, "INTERNAL"] += 1
    told = "apart: INTERNAL, OK, user_tower, all that ended"
    assert verdict(made([1.0], tally=tally, counts=counts), rule) == (False, told)


class Refusal(grpc.RpcError):
    def __init__(self, code):
        self.code, self.details = lambda: grpc.StatusCode[code], lambda: "why"


@pytest.fixture
def caller(monkeypatch):
    monkeypatch.setattr(calling, "PAUSES", (0.0, 0.0))
    values = messages.random_values(np.random.default_rng(0), 3, 2)
    inputs = messages.message(request_inputs(messages.EXPERIMENT.log, values))
    scores = [np.array([[0.2, 0.3, 0.4]]), np.array([[0.5, 0.6, 0.7]])]
    prepared = [messages.Prepared(values, inputs, scores)] * 2
    return Caller(0, None, prepared, 0, threading.Event()), prepared[0]


def test_an_answer_is_of_an_allowed_version_and_its_scores(caller):
    caller, prepared = caller
    even, odd = prepared.scores
    caller.judge("folded", prepared, 4, even + 5e-6, range(3, 5))
    caller.judge("folded", prepared, 3, odd, range(3, 5))
    assert [kind for kind, *_ in caller.tally.answers] == ["folded"] * 2 and not caller.tally.wrong
    assert caller.tally.worst == pytest.approx(5e-6)
    for version, scores in ((4, odd), (2, even), (4, even[:, :2]), (4, even * np.nan)):
        caller.judge("folded", prepared, version, scores, range(3, 5))
    assert len(caller.tally.answers) == 2 and len(caller.tally.wrong) == 4
    assert "folded: version 4, of [3, 4]; scores differ by 3.0e-01" in caller.tally.wrong


def test_a_good_request_is_made_again_or_lost(caller):
    caller, _ = caller
    ends = [Refusal("RESOURCE_EXHAUSTED"), None]

    def ask():
        end = ends.pop(0)
        if end is not None:
            raise end
        return "scores"

    assert caller.answered("folded", ask) == "scores" and not caller.tally.lost
    ends += [Refusal("UNAVAILABLE"), Refusal("RESOURCE_EXHAUSTED")]
    assert caller.answered("folded", ask) is None
    # What may not be made again is not.
    ends += [Refusal("INTERNAL"), None]
    assert caller.answered("large", ask) is None and len(ends) == 1
    assert caller.tally.lost == ["folded: RESOURCE_EXHAUSTED: why", "large: INTERNAL: why"]
    assert caller.tally.statuses["folded", "RESOURCE_EXHAUSTED"] == 2


def test_the_page_says_what_went_wrong(tmp_path):
    answers = [("folded", n + 0.5, 0.02) for n in range(11)]
    written = page.write(tmp_path, made([100.0] * 12, answers), "python it").read_text()
    assert "    python it\n" in written and "MISSED" not in written and written.count("PASS") == 7
    assert "| folded | 11 | OK 11 |" in written
    assert "| 4 | 1.0 | 20.0 | 20.0 | 3 | 100 | 100 |" in written
    assert "| OK, serving_default | 11 | 11 | 11 |" in written
    with (tmp_path / "serving_load.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["answered"] for row in rows] == ["0"] + ["1"] * 11
    assert rows[5]["rss_mib"] == "100.0" and rows[5]["newest"] == "3"
    assert "dotted: swaps" in (tmp_path / "serving_load.svg").read_text()
    tally = Tally(wrong=["label: version 9"], lost=["late: INTERNAL"], unclean=["vanish: reset"])
    load = made([1.0], tally=tally, swaps=[], exit_status=1)
    written = "\n".join(page.text(load, "python it"))
    assert written.count("| MISSED |") == 5
    for each in ("## Wrong\n\n- label", "## Lost\n\n- late", "## Not clean\n\n- vanish"):
        assert each in written


def test_some_seconds_of_load(tmp_path, monkeypatch):
    monkeypatch.setattr(messages, "SIZES", [(1, 0), (20, 7), (200, 50)])
    load = command.run(tmp_path, seconds=3.0, period=1.5, clients=4)
    assert load.swaps and len(load.tally.answers) > 20
    kept = {rule: (found, said) for rule, found, said in figures.verdicts(load)}
    assert kept.pop("memory flat")[0] is None
    assert all(found for found, _ in kept.values()), (kept, load.tally.lost, load.tally.unclean)
    assert list(tmp_path.iterdir()) == []
