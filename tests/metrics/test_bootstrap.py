"""Bootstrap intervals against resampling by hand and a known standard error."""

import numpy as np
import pytest

from ctr_tf.metrics import (
    auc,
    auc_with_interval,
    gauc,
    gauc_with_interval,
    resampling_units,
    with_interval,
)


def rows_of_users(users, rows_each, seed=0):
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), rows_each)
    scores = rng.random(users * rows_each)
    labels = (rng.random(users * rows_each) < scores).astype(float)
    return labels, scores, user


def replicated(metric, labels, scores, users, replicates, seed):
    """The metric on rows drawn literally, user by user, with the same draws."""
    rng = np.random.default_rng(seed)
    count = users.max() + 1
    values = []
    for _ in range(replicates):
        drawn = rng.integers(0, count, size=count)
        rows = [np.flatnonzero(users == user) for user in drawn]
        again = np.repeat(np.arange(count), [len(r) for r in rows])
        rows = np.concatenate(rows)
        values.append(metric(labels[rows], scores[rows], again).value)
    return np.percentile(values, [2.5, 97.5])


def test_auc_interval_is_that_of_rows_drawn_by_user():
    labels, scores, users = rows_of_users(40, 6)
    value = auc_with_interval(labels, scores, users, replicates=30, seed=9)
    expected = replicated(lambda y, s, _: auc(y, s), labels, scores, users, 30, 9)
    assert value.value == auc(labels, scores).value
    assert (value.low, value.high) == pytest.approx(tuple(expected), abs=1e-12)
    assert value.low < value.value < value.high


@pytest.mark.parametrize("weighting", ["impressions", "clicks"])
def test_gauc_interval_is_that_of_rows_drawn_by_user(weighting):
    labels, scores, users = rows_of_users(40, 6)
    value = gauc_with_interval(labels, scores, users, weighting=weighting, replicates=30, seed=9)
    expected = replicated(
        lambda y, s, u: gauc(y, s, u, weighting=weighting), labels, scores, users, 30, 9
    )
    assert value.value == gauc(labels, scores, users, weighting=weighting).value
    assert (value.low, value.high) == pytest.approx(tuple(expected), abs=1e-12)


def test_interval_width_follows_the_standard_error_of_auc():
    labels, scores, rows = rows_of_users(4000, 1)
    value = auc_with_interval(labels, scores, rows, replicates=400)
    # Hanley and McNeil's standard error, with the two probabilities counted from the rows.
    positives, negatives = scores[labels == 1], scores[labels == 0]
    wins_of_positive = np.searchsorted(np.sort(negatives), positives) / len(negatives)
    wins_of_negative = 1 - np.searchsorted(np.sort(positives), negatives) / len(positives)
    variance = wins_of_positive.var() / len(positives) + wins_of_negative.var() / len(negatives)
    assert value.high - value.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.15)


def test_same_seed_same_interval_and_another_seed_another():
    arrays = rows_of_users(30, 4)
    first, again, other = (
        auc_with_interval(*arrays, replicates=20, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_no_interval_without_replicates_or_with_one_unit():
    assert auc_with_interval([0, 1], [0.1, 0.2], [0, 1], replicates=0).low is None
    alone = auc_with_interval([0, 1], [0.1, 0.2], [5, 5])
    assert (alone.value, alone.low, alone.details["resampled_units"]) == (1.0, None, 1)
    assert auc_with_interval([1, 1], [0.1, 0.2], [0, 1]).reason.startswith("one class only")
    assert gauc_with_interval([1, 0], [0.1, 0.2], [-1, -1]).reason == "no user id"
    with pytest.raises(ValueError, match="`replicates` must be at least 0, received -1"):
        auc_with_interval([0, 1], [0.1, 0.2], [0, 1], replicates=-1)


def test_replicates_of_one_class_are_counted():
    # Two units of one class each: half of the draws repeat one of them and have no AUC.
    value = auc_with_interval([0, 1], [0.1, 0.2], [0, 1], replicates=400)
    assert (value.low, value.high) == (1.0, 1.0)
    assert 150 < value.details["replicates_undefined"] < 250


def test_requests_stand_in_for_missing_users():
    units = resampling_units([2, -1, 2, -1, 0, -1], [0, 1, 1, 2, 0, 1])
    same = units[:, None] == units[None, :]
    expected = np.eye(6, dtype=bool)
    expected[0, 2] = expected[2, 0] = expected[1, 5] = expected[5, 1] = True
    np.testing.assert_array_equal(same, expected)


def test_any_statistic_is_resampled_by_unit():
    """The mean of two units' values: 1, 2 or 3 with chances of 1, 2 and 1 in 4."""
    values = np.array([1.0, 1.0, 3.0, 3.0])
    found = with_interval(lambda w: w @ values / w.sum(), [7, 7, 2, 2], replicates=400, seed=1)
    assert (found.value, found.low, found.high) == (2.0, 1.0, 3.0)
    assert (found.details["resampled_units"], found.details["replicates"]) == (2, 400)
    undefined = with_interval(lambda w: np.nan, [0, 1], replicates=10)
    assert (undefined.value, undefined.reason) == (None, "the statistic is undefined")
