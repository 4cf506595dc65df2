"""The report's numbers against the metrics themselves, and counts by hand."""

import json

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from ctr_tf.evaluation.config import EvaluationConfig
from ctr_tf.evaluation.evaluate import evaluate
from ctr_tf.evaluation.predictions import Predictions


def synthetic(size=2000, seed=1):
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 60, size)
    items = rng.integers(0, 50, size)
    scores = rng.random(size)
    return {
        "request_id": [f"{u}-{r}" for u, r in zip(users, rng.integers(0, 9, size), strict=True)],
        "user_id": [f"u{u}" for u in users],
        "time": rng.integers(0, 86_400, size),
        "item_id": [f"i{i:02d}" for i in items],
        "item_frequency": (np.arange(50) ** 2 // 10)[items],
        "history_length": users,
        "label.click": (rng.random(size) < scores).astype(float),
        "weight.click": (rng.random(size) < 0.9).astype(float),
        "score.click": scores,
    }


@pytest.fixture(name="columns", scope="module")
def make_columns():
    return synthetic()


@pytest.fixture(name="report", scope="module")
def make_report(columns):
    config = EvaluationConfig(bootstrap_replicates=20, frequency_buckets=[0, 1, 50, 1000])
    return evaluate(Predictions.from_columns(columns), config)


def test_counts_and_dates(columns, report):
    assert report["counts"] == {
        "impressions": 2000,
        "requests": len(set(columns["request_id"])),
        "users": 60,
        "items": 50,
        "impressions_without_user": 0,
    }
    assert report["dates"]["first"].startswith("1970-01-01T00:")
    valid = columns["weight.click"] > 0
    counts = report["tasks"]["click"]["counts"]
    assert counts["impressions"] == valid.sum()
    assert counts["impressions_masked"] == 2000 - valid.sum()
    assert counts["positives"] == columns["label.click"][valid].sum()


def test_report_is_json_and_holds_every_metric(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    metrics = report["tasks"]["click"]["metrics"]
    assert list(metrics) == [
        "auc",
        "gauc",
        "gauc_by_clicks",
        "auc_long_tail",
        "log_loss",
        "normalised_entropy",
        "calibration_ratio",
        "precision_at_1",
        "precision_at_5",
        "precision_at_10",
    ]
    for name in ("auc", "gauc", "gauc_by_clicks", "auc_long_tail"):
        assert metrics[name]["low"] < metrics[name]["value"] < metrics[name]["high"]


def test_auc_by_bucket_and_of_the_long_tail_are_those_of_their_rows(columns, report):
    result = report["tasks"]["click"]
    valid = columns["weight.click"] > 0
    frequency = columns["item_frequency"]
    for bucket, low, high in zip(
        result["item_frequency"]["buckets"], [0, 1, 50, 1000], [1, 50, 1000, 10**9], strict=True
    ):
        rows = valid & (frequency >= low) & (frequency < high)
        assert bucket["impressions"] == rows.sum()
        if rows.any():
            expected = roc_auc_score(columns["label.click"][rows], columns["score.click"][rows])
            assert bucket["auc"]["value"] == pytest.approx(expected, abs=1e-12)
    # Nothing was seen 1000 times: an empty bucket has a reason, not a number.
    assert result["item_frequency"]["buckets"][-1]["auc"]["reason"] == "no rows"
    # Frequency rises with the item's number, ties in order of id: the tail is i00 to i09.
    tail = valid & (np.array(columns["item_id"]) < "i10")
    expected = roc_auc_score(columns["label.click"][tail], columns["score.click"][tail])
    long_tail = result["metrics"]["auc_long_tail"]
    assert long_tail["value"] == pytest.approx(expected, abs=1e-12)
    assert long_tail["details"]["tail_items"] == 10
    assert long_tail["details"]["impressions_of_unknown_item"] == 0


def test_history_buckets_and_score_bins_hold_every_valid_row(report):
    result = report["tasks"]["click"]
    for parts in (result["history_length"]["buckets"], result["score_bins"]):
        assert sum(part["impressions"] for part in parts) == result["counts"]["impressions"]
        assert sum(part["positives"] for part in parts) == result["counts"]["positives"]
    for part in result["score_bins"]:
        assert part["low"] <= part["mean_score"] <= part["high"]
        assert part["positive_rate"] == pytest.approx(part["positives"] / part["impressions"])


def test_metrics_without_user_item_or_positive_have_their_reasons():
    predictions = Predictions.from_columns(
        {"request_id": ["a", "b"], "label.t": [0, 0], "weight.t": [1, 1], "score.t": [0.5, 0.5]}
    )
    report = evaluate(predictions)
    assert report["dates"] is None
    result = report["tasks"]["t"]
    reasons = {name: metric["reason"] for name, metric in result["metrics"].items()}
    assert reasons["auc"] == "one class only: 0 positives, 2 negatives"
    assert reasons["gauc"] == "no user id"
    assert reasons["auc_long_tail"] == "no item id with a training frequency"
    assert reasons["calibration_ratio"] == "no positives"
    assert result["item_frequency"]["impressions_unknown"] == 2
    assert len(result["score_bins"]) == 1


def test_a_task_whose_labels_are_all_masked_is_undefined():
    predictions = Predictions.from_columns(
        {
            "request_id": ["a"],
            "user_id": ["u"],
            "label.t": [None],
            "weight.t": [0],
            "score.t": [0.5],
        }
    )
    result = evaluate(predictions)["tasks"]["t"]
    assert {metric["reason"] for metric in result["metrics"].values()} == {"no rows"}
    assert result["score_bins"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"precision_at": [0]},
        {"bootstrap_replicates": -1},
        {"frequency_buckets": [1, 2]},
        {"history_buckets": [0, 3, 3]},
        {"long_tail_share": 0.0},
        {"replicates": 3},
    ],
)
def test_impossible_config_is_refused(arguments):
    with pytest.raises(ValidationError, match=next(iter(arguments))):
        EvaluationConfig(**arguments)
