"""The mergeable AUC: its bound holds, and any split of the rows gives the same bins."""

import numpy as np
import pytest

from ctr_tf.metrics import HistogramAuc, auc


def skewed_rows(seed, size=5000):
    rng = np.random.default_rng(seed)
    scores = rng.beta(0.6, 20, size)
    labels = (rng.random(size) < scores).astype(float)
    return labels, scores, rng.choice([0.0, 1.0, 2.5], size)


@pytest.mark.parametrize("bins", [1, 7, 64, 4096, 2**16])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_error_is_within_the_stated_bound(bins, seed):
    labels, scores, weights = skewed_rows(seed)
    exact = auc(labels, scores, weights).value
    estimate = HistogramAuc.of(labels, scores, weights, bins).auc()
    assert abs(estimate.value - exact) <= estimate.details["error_bound"] + 1e-12


def test_the_bound_is_reached_by_the_worst_case_and_falls_with_more_bins():
    worst = HistogramAuc.of([0, 1], [0.1, 0.2], bins=1).auc()
    assert (worst.value, worst.details["error_bound"]) == (0.5, 0.5)
    assert auc([0, 1], [0.1, 0.2]).value == 1.0
    labels, scores, _ = skewed_rows(0)
    bounds = [
        HistogramAuc.of(labels, scores, bins=bins).auc().details["error_bound"]
        for bins in (16, 256, 4096, 2**16)
    ]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] < 1e-3


def test_merging_parts_equals_the_whole_in_any_order():
    labels, scores, weights = skewed_rows(4)
    whole = HistogramAuc.of(labels, scores, weights, 128)
    parts = [
        HistogramAuc.of(labels[part], scores[part], weights[part], 128)
        for part in np.array_split(np.random.default_rng(0).permutation(5000), 7)
    ]
    for order in (parts, parts[::-1]):
        merged = HistogramAuc.empty(128)
        for part in order:
            merged = merged.merge(part)
        np.testing.assert_array_equal(merged.positives, whole.positives)
        np.testing.assert_array_equal(merged.negatives, whole.negatives)


def test_scores_at_both_ends_are_counted():
    histogram = HistogramAuc.of([0, 1, 1], [0.0, 1.0, 1.0], bins=4)
    assert histogram.positives.tolist() == [0, 0, 0, 2]
    assert histogram.negatives.tolist() == [1, 0, 0, 0]


def test_undefined_and_bad_arguments():
    assert HistogramAuc.empty(4).auc().reason == "no rows"
    assert HistogramAuc.of([1], [0.5]).auc().reason == "one class only: 1 positives, 0 negatives"
    with pytest.raises(ValueError, match="`bins` must be at least 1, received 0"):
        HistogramAuc.empty(0)
    with pytest.raises(ValueError, match="`other` must have 4 bins, received 8"):
        HistogramAuc.empty(4).merge(HistogramAuc.empty(8))
