"""Request-shaped beside row-wise: batches of the same impressions, tables, plot."""

import csv
import doctest
from dataclasses import replace

import numpy as np

from benchmarks import request_shaped, training
from benchmarks.speed.ours import batches
from benchmarks.speed.workloads import W3, WORKLOADS, make


def run(n, side, rate=None, losses=(0.5,), outcome="done", repeat=1, mib=10):
    found = dict.fromkeys(request_shaped.COLUMNS, 1) | {"workload": f"w3_{n}", "side": side}
    found |= {"outcome": outcome, "machine": "2 cores of X", "repeat": repeat}
    if rate:
        found |= {"samples_per_second": rate, "first_losses": list(losses), "peak_mib": mib}
    return found


def test_examples():
    found = doctest.testmod(request_shaped)
    assert found.attempted and not found.failed


def test_both_sides_take_the_same_impressions_in_the_same_order():
    fields = {name: 30 for name in W3[4].fields}
    small = replace(W3[4], rows=20, fields=fields, length=5, batch=32)
    arrays = make(small)
    assert arrays["item"].shape == arrays["label"].shape == (20, 4)
    one, other = (next(iter(batches(small, arrays, row_wise=w))) for w in (False, True))
    own, rows = one["features"], other["features"]
    assert own["item"].shape == (8, 4) and rows["item"].shape == (32, 1)
    for name in ("item", "category", "candidates_mask"):
        np.testing.assert_array_equal(np.reshape(own[name], (-1, 1)), rows[name])
    for name in ("u0", "history_item", "history_mask"):
        np.testing.assert_array_equal(np.repeat(own[name], 4, axis=0), rows[name])
    label = one["labels"]["click"]
    np.testing.assert_array_equal(np.reshape(label, (-1, 1)), other["labels"]["click"])


def test_every_workload_has_as_many_impressions_a_step():
    for n, workload in W3.items():
        assert WORKLOADS[workload.name] is workload and workload.impressions == n
        assert (workload.batch, workload.rows * n) == (W3[1].batch, W3[1].rows)


def test_ratio_losses_and_what_is_lost(tmp_path):
    runs = [run(8, "request", rate, (0.5, 0.4), repeat=i) for i, rate in enumerate((4e3, 7e3, 8e3))]
    runs += [run(8, "row", 1e3, (0.5, 0.40001), mib=80), run(1, "request", 1e3), run(1, "row", 1e3)]
    runs += [run(16, "row", outcome="out of memory")]
    page = request_shaped.write(tmp_path, runs).read_text(encoding="utf-8")
    assert "| 8 | 7,000 (4,000–8,000) | 1,000 (1,000–1,000) | 7.00 | 143 | 143 | 1.0e-05 |" in page
    assert "10 and 80 |" in page and "row-wise, w3_16 | out of memory" in page
    assert "At n = 8: 7.00 times row-wise, bar 6: PASS." in page
    assert "differ by 1.0e-05 at most, tolerance 0.0001: PASS." in page
    assert "request-shaped" in (tmp_path / "request_shaped.svg").read_text(encoding="utf-8")
    with (tmp_path / "request_shaped.csv").open(encoding="utf-8") as file:
        assert [row["impressions"] for row in csv.DictReader(file)] == list("888811") + ["16"]


def test_the_row_wise_side_says_so():
    found = training.arguments(request_shaped.SIDES["row"], "w3_8", 10)
    assert found[-1] == "--row-wise"
