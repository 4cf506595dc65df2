"""Next-item metrics against the oracle over scores, ties included."""

import numpy as np
import pytest

from ctr_tf.metrics import next_item
from tests.oracles.srp4ctr.ranking import next_item_metrics


def ranks(scores, targets):
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    return (scores > own).sum(axis=1), (scores == own).sum(axis=1) - 1


@pytest.mark.parametrize("decimals", [1, 8])
@pytest.mark.parametrize("k", [1, 5])
def test_metrics_are_those_of_the_oracle(rng, decimals, k):
    scores, targets = np.round(rng.random((40, 25)), decimals), rng.integers(0, 25, 40)
    found = next_item(*ranks(scores, targets), k)
    expected = next_item_metrics(scores, targets, k)
    assert {name: value.value for name, value in found.items()} == pytest.approx(expected)


def test_a_target_outside_the_catalogue_is_a_miss():
    found = next_item([0, np.inf], [0, 0], 10)
    assert {name: value.value for name, value in found.items()} == dict.fromkeys(found, 0.5)
    assert found["hr"].details == {"rows": 2, "outside": 1}


def test_equal_scores_are_worth_a_random_order():
    found = next_item([0], [99], 10)
    assert found["hr"].value == pytest.approx(0.1)


def test_without_rows_there_is_a_reason():
    assert next_item([], [], 1)["mrr"].reason == "no rows"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([0], [0], 0), "`k` must be at least 1, received 0"),
        (([0], [0, 1], 1), r"of one shape \(B,\), received \(1,\) and \(2,\)"),
        (([-1], [0], 1), "must not be negative"),
    ],
)
def test_errors(given, message):
    with pytest.raises(ValueError, match=message):
        next_item(*given)
