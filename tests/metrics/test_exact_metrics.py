"""Exact metrics against scikit-learn, plain loops and values found by hand."""

import math
from collections import defaultdict

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from ctr_tf.metrics import (
    MetricValue,
    auc,
    calibration_ratio,
    gauc,
    log_loss,
    normalised_entropy,
    precision_at_n,
)


@pytest.fixture(name="rows", params=["tied", "continuous"])
def make_rows(request):
    rng = np.random.default_rng(3)
    scores = rng.random(3000)
    if request.param == "tied":
        scores = np.round(scores, 1)
    labels = (rng.random(3000) < 0.1 + 0.5 * scores).astype(float)
    return {
        "labels": labels,
        "scores": scores,
        "weights": rng.choice([0.0, 0.5, 1.0, 3.7], 3000),
        "groups": rng.zipf(1.5, 3000) % 300,
    }


def test_auc_equals_scikit_learn_with_ties_and_weights(rows):
    labels, scores, weights = rows["labels"], rows["scores"], rows["weights"]
    assert auc(labels, scores).value == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12
    )
    assert auc(labels, scores, weights).value == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12
    )


def test_auc_of_all_ties_is_a_half_and_of_reversed_scores_zero():
    assert auc([0, 1, 1], [0.3, 0.3, 0.3]).value == 0.5
    assert auc([0, 0, 1], [0.3, 0.4, 0.2]).value == 0.0


@pytest.mark.parametrize("weighting", ["impressions", "clicks"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gauc_equals_a_loop_over_users(rows, weighting, weighted):
    weights = rows["weights"] if weighted else np.ones(3000)
    numerator = denominator = 0.0
    users = left_out = impressions_left_out = 0
    for user in np.unique(rows["groups"]):
        mine = (rows["groups"] == user) & (weights > 0)
        labels, scores, own = rows["labels"][mine], rows["scores"][mine], weights[mine]
        if not mine.any():
            continue
        if len(np.unique(labels)) < 2:
            left_out += 1
            impressions_left_out += mine.sum()
            continue
        users += 1
        share = own.sum() if weighting == "impressions" else own @ labels
        numerator += share * sklearn_metrics.roc_auc_score(labels, scores, sample_weight=own)
        denominator += share
    result = gauc(rows["labels"], rows["scores"], rows["groups"], weights, weighting)
    assert result.value == pytest.approx(numerator / denominator, abs=1e-12)
    assert left_out > 0
    assert result.details == {
        "users": users,
        "users_left_out": left_out,
        "impressions_left_out": impressions_left_out,
        "impressions_without_user": 0,
    }


def test_gauc_weightings_differ_as_computed_by_hand():
    # User 0: AUC 1 of 2 impressions, 1 click; user 1: AUC 0 of 4 impressions, 3 clicks.
    labels, users = [1, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]
    scores = [0.9, 0.1, 0.1, 0.2, 0.3, 0.4]
    assert gauc(labels, scores, users).value == pytest.approx(2 / 6)
    assert gauc(labels, scores, users, weighting="clicks").value == pytest.approx(1 / 4)


def test_gauc_leaves_out_rows_without_user():
    result = gauc([1, 0, 0], [0.9, 0.1, 1.0], [4, 4, -1])
    assert result.value == 1.0
    assert result.details["impressions_without_user"] == 1
    assert gauc([1, 0], [0.9, 0.1], [-1, -1]).reason == "no user id"
    assert gauc([1, 0], [0.9, 0.1], [0, 1]).reason == "no user has both classes"


def test_log_loss_and_normalised_entropy_equal_scikit_learn(rows):
    labels, weights = rows["labels"], rows["weights"]
    scores = np.clip(rows["scores"], 0.01, 0.99)
    expected = sklearn_metrics.log_loss(labels, scores, sample_weight=weights)
    assert log_loss(labels, scores, weights).value == pytest.approx(expected, abs=1e-12)
    rate = np.average(labels, weights=weights)
    entropy = sklearn_metrics.log_loss(labels, np.full(3000, rate), sample_weight=weights)
    ratio = normalised_entropy(labels, scores, weights)
    assert ratio.value == pytest.approx(expected / entropy, abs=1e-12)


def test_log_loss_counts_the_scores_it_clips():
    result = log_loss([0, 1], [1.0, 0.5])
    assert result.value == pytest.approx((-math.log(1e-7) + math.log(2)) / 2)
    assert result.details == {"clipped": 1}


def test_normalised_entropy_takes_a_base_rate():
    result = normalised_entropy([1, 1], [0.5, 0.5], base_rate=0.5)
    assert result.value == pytest.approx(1.0)
    with pytest.raises(ValueError, match="`base_rate` must be between 0 and 1.*received 1.0"):
        normalised_entropy([1, 0], [0.5, 0.5], base_rate=1.0)


def test_calibration_ratio_by_hand():
    assert calibration_ratio([1, 0, 1], [0.5, 0.1, 0.9], [1, 2, 0]).value == pytest.approx(0.7)


@pytest.mark.parametrize("n", [1, 3, 10])
def test_precision_equals_a_loop_over_requests(n):
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 800).astype(float)
    scores = rng.permutation(800) / 800
    requests = rng.integers(0, 150, 800)
    weights = rng.choice([0.0, 2.0], 800)
    by_request = defaultdict(list)
    for request, score, label, weight in zip(requests, scores, labels, weights, strict=True):
        if weight > 0:
            by_request[request].append((score, label))
    values = []
    for candidates in by_request.values():
        best = sorted(candidates, reverse=True)[:n]
        values.append(sum(label for _, label in best) / len(best))
    result = precision_at_n(labels, scores, requests, n, weights)
    assert result.value == pytest.approx(np.mean(values), abs=1e-12)
    assert result.details["requests"] == len(by_request)
    short = sum(len(candidates) < n for candidates in by_request.values())
    assert result.details["requests_shorter_than_n"] == short


def test_precision_shares_the_last_places_among_ties():
    # One sure positive, then one place for three tied candidates of which one is positive.
    result = precision_at_n([1, 1, 0, 0], [0.9, 0.5, 0.5, 0.5], [7, 7, 7, 7], 2)
    assert result.value == pytest.approx((1 + 1 / 3) / 2)
    with pytest.raises(ValueError, match="`n` must be at least 1, received 0"):
        precision_at_n([1], [0.5], [0], 0)


@pytest.mark.parametrize("metric", [auc, normalised_entropy])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_undefined_with_its_reason(metric, label):
    result = metric([label, label], [0.1, 0.9])
    assert result.value is None
    assert result.reason.startswith("one class only: ")


def test_no_rows_are_undefined_with_their_reason():
    for result in (
        auc([], []),
        gauc([], [], []),
        log_loss([], []),
        normalised_entropy([1], [0.5], [0]),
        calibration_ratio([1], [0.5], [0]),
        precision_at_n([], [], [], 1),
    ):
        assert (result.value, result.reason) == (None, "no rows")
    assert calibration_ratio([0], [0.5]).reason == "no positives"


def test_masked_rows_change_nothing(rows):
    labels = np.append(rows["labels"], np.nan)
    scores = np.append(rows["scores"], np.nan)
    weights = np.append(np.ones(3000), 0.0)
    assert auc(labels, scores, weights) == auc(rows["labels"], rows["scores"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 0], [0.1]), r"`scores` must have the shape of `labels`, \(2,\), received \(1,\)"),
        (([1, 2], [0.1, 0.2]), "`labels` must be 0 or 1 .* received 2.0 in row 1"),
        (([1, 0], [math.nan, 0.2]), "`scores` must be finite .* received nan in row 0"),
        (([1, 0], [0.1, 0.2], [1, -1]), "`weights` must be .* received -1.0 in row 1"),
        (([[1, 0]], [[0.1, 0.2]]), r"`labels` must have one axis, received shape \(1, 2\)"),
    ],
)
def test_bad_arrays_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        auc(*arguments)


def test_other_bad_arguments_are_named():
    with pytest.raises(
        ValueError, match=r"`scores` must be probabilities .* received 1.5 in row 1"
    ):
        log_loss([0, 0, 1], [math.nan, 1.5, 0.5], [0, 1, 1])
    with pytest.raises(ValueError, match="`users` must be integer codes, received dtype"):
        gauc([1, 0], [0.1, 0.2], ["a", "b"])
    with pytest.raises(ValueError, match="`users` must have the shape of the labels"):
        gauc([1, 0], [0.1, 0.2], [1])
    with pytest.raises(ValueError, match="`weighting` must be .* received 'users'"):
        gauc([1, 0], [0.1, 0.2], [1, 1], weighting="users")


def test_metric_value_is_a_number_or_a_reason():
    with pytest.raises(ValueError, match="either `value` or `reason`"):
        MetricValue()
    with pytest.raises(ValueError, match="either `value` or `reason`"):
        MetricValue(0.5, "both")
    with pytest.raises(ValueError, match="`value` must be finite, received nan"):
        MetricValue(math.nan)
