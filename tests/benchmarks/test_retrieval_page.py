"""Ranks by popularity, and the page of retrieval, by hand."""

from collections import Counter

import pytest

from benchmarks.retrieval import by_popularity, page


def test_ranks_by_popularity():
    # a and c tie for the second place; e was never liked in training, d is not in the catalogue.
    before = Counter({"b": 5, "a": 2, "c": 2, "d": 9})
    found = by_popularity(["a", "b", "c", "e"], before, ["b", "c", "d", "e"], 2)
    assert found["hr"] == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert found["mrr"] == pytest.approx((1 + (1 / 2 + 1 / 3) / 2 + 0 + 1 / 4) / 4)


def test_the_page():
    row = {"form": "with log Q", "learning_rate": 0.002, "seed": 1, "split": "test", "cutoff": 10}
    rows = [{**row, "hr": 0.2, "ndcg": 0.1, "mrr": 0.05}]
    rows += [{**row, "seed": 2, "hr": 0.4, "ndcg": 0.1, "mrr": 0.05}]
    rows += [{**row, "split": "validation", "cutoff": 100, "hr": 0.5, "ndcg": 0.25, "mrr": 0.05}]
    text = page(rows, "the command", "a machine")
    assert "| with log Q | 0.002 | 0.3000 ± 0.1414 | 0.1000 ± 0.0000 | 0.0500 ± 0.0000 |" in text
    assert "| with log Q | 0.002 | 0.2500 |" in text
