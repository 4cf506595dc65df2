"""Requests through gRPC: the ways of asking agree; percentiles, lines, bars, page and plot."""

import csv
import doctest
import threading

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import folding_cases, serving, serving_page
from serving.client import Client
from serving.config import ServeConfig
from serving.server import Server


def row(model, candidates, way, p50=1.0, rate=1.0, length=200, flops=(10, 634)):
    return {
        "model": model, "length": length, "candidates": candidates, "way": way, "p50_ms": p50,
        "p99_ms": 2 * p50, "requests_per_second": rate, "calls": 1234, "clients": 4,
        "folded_flops": flops[0], "row_wise_flops": flops[1], "environment": "2 cores of X",
    }  # fmt: skip


def case(model, rates, p50=(2.0, 11.0, 101.0), **given):
    """Rows at N = 100 of every way but DeepCTR's, and folded at two more N."""
    found = [
        row(model, 100, way, p50[1], rate, **given)
        for way, rate in zip(("folded", "two_step", "item_tower", "row_wise"), rates)
    ]
    more = [row(model, n, "folded", ms, **given) for n, ms in ((10, p50[0]), (1000, p50[2]))]
    return found + more


@pytest.mark.parametrize("module", [serving, serving_page])
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_the_first_call_of_a_round_is_not_timed():
    asked = []
    cell = serving.Cell("folded", 10, lambda: asked.append(1))
    for _ in range(2):
        cell.ask(0.0)
    assert len(asked) == 4 and len(cell.milliseconds) == 2


def test_percentiles_are_calls_that_were_made():
    cell = serving.Cell("folded", 10, None, [float(n) for n in range(200, 0, -1)], 30, 0.5)
    found = cell.summary()
    assert (found["p50_ms"], found["p99_ms"], found["calls"]) == (100.0, 198.0, 200)
    assert found["requests_per_second"] == pytest.approx(60)
    # Of few calls the longest.
    assert serving.Cell("folded", 10, None, [1.0] * 49 + [5.0], 1, 1.0).summary()["p99_ms"] == 5.0


@pytest.mark.parametrize("candidates, clients", [(100, 4), (1000, 1)])
def test_several_clients_ask_at_once(candidates, clients):
    together = threading.Barrier(clients)
    cell = serving.Cell("folded", candidates, lambda: together.wait(20), [1.0])
    cell.serve(0.0)
    cell.serve(0.0)
    found = cell.summary()
    assert (cell.served, found["clients"]) == (2 * clients, clients)
    assert found["requests_per_second"] == pytest.approx(cell.served / cell.seconds)


def test_a_line_that_does_not_fit():
    # 1.5 x - 0.5; residuals 0.5, -1 and 0.5, squares of 1.5 in all, of 6 about the mean.
    slope, intercept, fit = serving_page.line([0, 1, 2], [0.0, 0.0, 3.0])
    assert (slope, intercept, fit) == pytest.approx((1500.0, -0.5, 0.75))


def test_bars():
    rows = case("srp4ctr", (50.0, 30.0, 60.0, 2.5))
    # Of a bound of 1.6: 1.3 is 81 %, 1.2 is 75 %.
    rows += case("din", (13.0, 9.0, 13.0, 10.0), flops=(10, 16))
    rows += case("bst", (12.0, 9.0, 13.0, 10.0), p50=(1.0, 9.0, 2.0), flops=(10, 16))
    found = serving_page.bars(rows)
    size = "N = 100, L = 200"
    assert found[:3] == [
        f"- PASS: srp4ctr, {size}: requests of folded by those of row-wise 20.00, bar 20.",
        f"- PASS: din, {size}: folded serves 1.30 times the requests of row-wise, FLOPs bound "
        "1.60; share of the bound 0.81, bar 0.8.",
        f"- MISSED: bst, {size}: folded serves 1.20 times the requests of row-wise, FLOPs bound "
        "1.60; share of the bound 0.75, bar 0.8.",
    ]
    exact = "L = 200: folded takes 100.0 µs a candidate; R² of the line 1.0000, bar 0.99."
    assert found[3:5] == [f"- PASS: {model}, {exact}" for model in ("srp4ctr", "din")]
    assert found[5].startswith("- MISSED: bst, L = 200") and len(found) == 6


def test_ratios_have_bars_at_one_size_alone():
    found = serving_page.bars(case("srp4ctr", (50.0, 30.0, 60.0, 2.5), length=50))
    assert len(found) == 1 and "R² of the line" in found[0]


def test_page_csv_and_plot(tmp_path):
    rows = case("din", (12.0, 8.0, 15.0, 10.0), flops=(10, 16))
    rows += [row("din", 100, "deepctr", rate=6.0, flops=(10, 16))]
    rows += case("dcn_v2", (12.0, 8.0, 15.0, 10.0), length=50, flops=(10, 12))
    page = serving_page.write(tmp_path, rows).read_text(encoding="utf-8")
    assert "2 cores of X.\n\nRandom weights" in page
    assert "| din | 200 | 1,000 | folded | 101.00 | 202.00 | 1.00 | 1,234 |" in page
    assert "| din | 200 | 100 | 1.20 | 1.60 | 0.75 | 1.50 | 2.00 |" in page
    assert "| dcn_v2 | 50 | 100 | 1.20 | 1.20 | 1.00 | 1.50 | – |" in page
    assert "| dcn_v2 | 50 | 100.00 | 1.00 | 1.0000 |" in page
    plot = (tmp_path / "serving.svg").read_text(encoding="utf-8")
    shown = ("din", "dcn_v2", "deepctr, L = 200", "two_step, L = 50", "row_wise, L = 200")
    assert all(f"<!-- {text} -->" in plot for text in shown)
    with (tmp_path / "serving.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 13 and found[0]["row_wise_flops"] == "16"
    assert not list(tmp_path.glob(".*"))


class Peer:
    """Keeps what it is asked."""

    def predict(self, signature, inputs, timeout):
        self.inputs = inputs
        return {"prediction_layer": np.full((5, 1), 0.5, "float32")}


def test_every_way_asks_for_the_same_scores(tmp_path):
    model = serving.exported("din", 6, tmp_path / "din")
    server = Server("din", tmp_path / "din", ServeConfig(port=0))
    server.start()
    with Client(f"127.0.0.1:{server.port}", "din") as client:
        own = serving.calls(client, model, 6, 5)
        scores = {way: call() for way, call in own.items()}
    server.stop()
    folded = scores["folded"]
    assert folded.shape == (1, 5) and scores["row_wise"].shape == (5, 1)
    assert len(np.unique(folded.round(3))) == 5
    for way in ("two_step", "item_tower", "row_wise"):
        np.testing.assert_allclose(scores[way].ravel(), folded[0], rtol=folding_cases.TOLERANCE)
    # The export's preprocessing finds the rows of tables that the request was made of.
    features = folding_cases.request(model, 6, 5)
    direct = model.scores(model(features))["like"]
    np.testing.assert_allclose(folded, direct, rtol=folding_cases.TOLERANCE)

    peer = Peer()
    assert serving.peer_call(peer, model, 6, 5)().shape == (5, 1)
    shapes = {name: np.shape(value) for name, value in peer.inputs.items()}
    single = ("user_id", "gender", "age", "occupation", "item_id", "genres")
    history = ("hist_item_id", "hist_genres", "hist_rating")
    assert shapes == dict.fromkeys(single, (5, 1)) | dict.fromkeys(history, (5, 6))
    assert {value.dtype for value in peer.inputs.values()} == {np.dtype("int32")}
    np.testing.assert_array_equal(peer.inputs["item_id"][:, 0], features["item_id"][0])
    assert tf.reduce_all(peer.inputs["hist_rating"] == features["history_rating"])
