"""Folded beside row-wise: the ways of scoring agree; the table, the verdict, the plot."""

import csv
import doctest

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import folding, folding_cases
from ctr_tf.analysis.sizes import NOW


def row(candidates, folded, row_wise, repeat=1, **given):
    found = dict.fromkeys(folding.COLUMNS, 1.0) | {"model": "srp4ctr", "length": 200}
    found |= {"operation_threads": 1, "parts": 2}
    found |= {"folded_parts_ms": folded, "row_wise_parts_ms": row_wise}
    found |= {"candidates": candidates, "repeat": repeat, "environment": "2 cores of X"}
    found |= {"folded_ms": folded, "row_wise_ms": row_wise, "difference": 2e-7, "peak_mib": 1234}
    return found | {"folded_flops": 10, "row_wise_flops": 632} | given


def test_examples():
    for module in (folding, folding_cases):
        found = doctest.testmod(module)
        assert found.attempted and not found.failed


@pytest.mark.parametrize("name", ["srp4ctr", "bst"])
def test_ways_agree_on_scores_that_differ(name):
    scoring = folding.Scoring(folding_cases.model_of(name, 6), 6)
    # A row for a missing value, and one for unknown ones.
    assert scoring.model.rows["item_id"] == 3706 + 2
    calls = scoring.calls(5)
    assert tuple(calls) == folding.OWN_WAYS
    assert folding_cases.difference(calls) <= folding_cases.TOLERANCE
    scores = calls["folded"]().numpy()
    assert scores.shape == (1, 5) and len(np.unique(scores.round(3))) == 5
    assert calls["row_wise"]().shape == (5, 1)
    (state,) = {part.shape[0] for part in calls["user_tower"]().values()}
    assert state == 1


def test_a_request_is_full_and_of_known_values():
    model = folding_cases.model_of("bst", 6)
    features = folding_cases.request(model, 6, 5)
    assert features["history_mask"].shape == (1, 6) and features["history_mask"].all()
    assert features["candidates_mask"].shape == (1, 5) and features["candidates_mask"].all()
    assert (np.diff(features["history_time"]) > 0).all() and features["history_time"].max() < NOW
    assert all(features[name].min() > 0 for name in ("item_id", "genres", "history_rating"))
    assert features["history_genres"].shape == (1, 6) and features["genres"].max() < 303


def test_the_difference_is_by_the_largest_score():
    calls = {way: lambda: tf.constant([[0.2, 0.5]]) for way in folding.OWN_WAYS}
    assert folding_cases.difference(calls) == 0
    calls["row_wise"] = lambda: tf.constant([[0.2], [0.50001]])
    assert folding_cases.difference(calls) == pytest.approx(2e-5, rel=1e-2)
    for wrong in (0.51, float("nan")):
        calls["item_tower"] = lambda wrong=wrong: tf.constant([[0.2, wrong]])
        with pytest.raises(SystemExit, match="scores differ by .*tolerance 0.0001"):
            folding_cases.difference(calls)


def test_the_first_call_is_not_timed():
    called = []
    assert folding_cases.milliseconds(lambda: called.append(1), seconds=0.0) >= 0
    assert len(called) == 2


def test_medians_ratios_and_verdict(tmp_path):
    rows = [row(100, own, 120.0, i) for i, own in enumerate((3.0, 5.0, 4.0), 1)]
    rows += [row(1000, 10.0, 1400.0, user_tower_ms=2.5), row(1, 2.0, 2.0, model="din")]
    page = folding.write(tmp_path, rows).read_text(encoding="utf-8")
    assert "2 cores of X. One request with 200 behaviours" in page and "of 3 repeats" in page
    times = "4.00 (3.00–5.00) | 4.00 (3.00–5.00) | 120.00 (120.00–120.00) | 120.00 (120.00–120.00)"
    own = f"| srp4ctr | 100 | {times} | 30.0 | 63.2 |"
    assert own in page and "| 2.50 (2.50–2.50) | 1.00 (1.00–1.00) | 2.0e-07 |" in page
    assert "A process held at most 1,234 MiB." in page
    said = "candidates: row-wise by folded time, bar"
    assert f"100 {said} 30: 30.0 (one thread an operation), PASS; 30.0 (each way" in page
    assert f"1,000 {said} 150: 140.0 (one thread an operation), MISS; 140.0 (each way" in page
    plot = (tmp_path / "folding.svg").read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->" in plot for name in ("srp4ctr", "din", "bars of srp4ctr"))
    with (tmp_path / "folding.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [each["candidates"] for each in found] == ["100"] * 3 + ["1000", "1"]
    assert found[0]["row_wise_flops"] == "632"


def test_each_way_is_also_judged_by_the_threads_that_it_is_fastest_with(tmp_path):
    rows = [row(100, 2.0, 120.0), row(100, 4.0, 90.0, 1, operation_threads=0)]
    rows += [row(100, 4.0, 50.0, 2, operation_threads=0)]
    page = folding.write(tmp_path, rows).read_text(encoding="utf-8")
    ways = "60.0 (one thread an operation), PASS; 17.5 (all cores an operation), MISS; "
    assert f"bar 30: {ways}35.0 (each way as it is fastest in one), PASS; 35.0" in page
    rows[0] |= {"folded_parts_ms": 1.4, "row_wise_parts_ms": 70.0}
    page = folding.write(tmp_path, rows).read_text(encoding="utf-8")
    assert f"{ways}35.0 (each way as it is fastest in one), PASS; 50.0 (each way as" in page
    assert "50.0 (each way as it is fastest in one or in parts), PASS.\n" in page
    first, second = page.split("\n## ")[1:]
    assert first.startswith("One thread an operation\n") and "| 60.0 |" in first
    assert second.startswith("All cores an operation\n") and "| 17.5 |" in second
    plot = (tmp_path / "folding.svg").read_text(encoding="utf-8")
    assert "<!-- all cores an operation -->" in plot


def test_bars_are_of_200_behaviours(tmp_path):
    page = folding.write(tmp_path, [row(100, 4.0, 120.0, length=50)]).read_text(encoding="utf-8")
    assert "One request with 50 behaviours" in page and "bar" not in page
    assert "bars" not in (tmp_path / "folding.svg").read_text(encoding="utf-8")
