"""Softmax over the items of a batch, against sums by hand."""

import numpy as np
from keras import ops

from ctr_tf.losses.softmax import in_batch_softmax


def losses(scores, items, positive, log_q=None):
    log_q = None if log_q is None else ops.array(log_q, "float32")
    scores = ops.array(scores, "float32")
    return np.asarray(in_batch_softmax(scores, ops.array(items), ops.array(positive), log_q))


def test_each_positive_against_all_items():
    scores = np.log([[1.0, 2.0, 5.0], [4.0, 3.0, 1.0]])
    found = losses(scores, [5, 6, 7], [2, 0])
    np.testing.assert_allclose(found, -np.log([5 / 8, 4 / 8]), rtol=1e-6)


def test_frequent_items_count_less():
    # e^s / Q: 1 / 0.5, 2 / 0.25 and 5 / 1.
    found = losses(np.log([[1.0, 2.0, 5.0]]), [5, 6, 7], [1], np.log([0.5, 0.25, 1.0]))
    np.testing.assert_allclose(found, [-np.log(8 / 15)], rtol=1e-6)


def test_with_q_each_item_counts_once():
    # Item 6 comes twice; whichever of its scores is taken, they are the same item's.
    scores, log_q = np.log([[1.0, 2.0, 2.0, 4.0]]), np.log([1.0, 0.5, 0.5, 1.0])
    items = [5, 6, 6, 7]
    np.testing.assert_allclose(losses(scores, items, [0], log_q), [np.log(9)], rtol=1e-6)
    np.testing.assert_allclose(losses(scores, items, [2], log_q), [np.log(9 / 4)], rtol=1e-6)
    np.testing.assert_allclose(losses(scores, items, [0]), [np.log(9)], rtol=1e-6)


def test_the_same_item_is_no_negative():
    found = losses(np.log([[1.0, 2.0, 5.0]] * 2), [7, 6, 7], [0, 2])
    np.testing.assert_allclose(found, -np.log([1 / 3, 5 / 7]), rtol=1e-6)


def test_no_positive():
    assert losses(np.zeros((0, 2)), [7, 6], np.zeros(0, "int32")).shape == (0,)
