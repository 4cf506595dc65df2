"""What of a validation request is the next item, and its place among all."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.schema import CANDIDATES_MASK
from ctr_tf.training import next_item
from ctr_tf.training.next_item import NextItemValidator

# Scores of values 1 to 4; candidates, which of them are there, and whether they are liked.
SCORES = [[4, 3, 2, 1], [1, 2, 2, 2], [1, 2, 3, 4], [9, 8, 7, 6], [4, 3, 2, 1]]
ITEMS = [[2, 1], [3, 4], [5, 1], [0, 1], [4, 9]]
THERE = [[1, 1], [1, 1], [1, 1], [1, 1], [1, 0]]
LIKED = [[0, 1], [0, 1], [1, 0], [0, 0], [0, 1]]


def validator(scores=SCORES, positive=None):
    features = {
        "item": np.array(ITEMS),
        CANDIDATES_MASK: np.array(THERE, bool),
        "scores": np.array(scores, "float32"),
    }
    labels = {"like": np.array(LIKED, "float32")}
    batches = tf.data.Dataset.from_tensor_slices({"features": features, "labels": labels})
    sequence = SimpleNamespace(positive=positive)
    data = SimpleNamespace(
        schema=SimpleNamespace(sequences={"history": sequence}),
        evaluation=lambda split: {"next": batches.batch(3)}[split],
    )
    model = SimpleNamespace(
        sequence="history",
        items=["item"],
        values={"item": 4},
        next_item=lambda features: features["scores"],
    )
    return NextItemValidator(model, data, cutoff=2)


def test_the_first_candidate_is_ranked_among_all_values():
    """Places 2; 1, 2 or 3; none, since 5 and 0 are no values; 4."""
    found = validator()().values
    assert found["hr"] == pytest.approx((1 + 2 / 3 + 0 + 0 + 0) / 5)
    assert found["mrr"] == pytest.approx((1 / 2 + (1 + 1 / 2 + 1 / 3) / 3 + 0 + 0 + 1 / 4) / 5)
    second = 1 / np.log2(3)
    assert found["ndcg"] == pytest.approx((second + (1 + second) / 3) / 5)


def test_of_a_sequence_of_positives_it_is_the_first_positive_one():
    """The last two requests have none: of one all are disliked, the other's is padding."""
    found = validator(positive="like")().values
    # Item 1 first; item 4 tied with two others; 5 no value.
    assert found["hr"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found["mrr"] == pytest.approx((1 + (1 + 1 / 2 + 1 / 3) / 3 + 0) / 3)


@pytest.mark.parametrize("at_once", [1, 8, 9])
def test_so_many_scores_at_once_change_nothing(monkeypatch, at_once):
    whole = validator()().values
    monkeypatch.setattr(next_item, "SCORES_AT_ONCE", at_once)
    assert validator()().values == whole


def test_a_score_that_is_no_number_ends_the_run():
    with pytest.raises(FloatingPointError, match="not finite"):
        validator([*SCORES[:4], [1, np.nan, 2, 3]])()
