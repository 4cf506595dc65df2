"""How often items come up, against counts by hand and known probabilities."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf import layers


def estimates(batches, rate=0.01, rows=5):
    layer = layers.ItemFrequency(rows, rate)
    return layer, [layer(tf.constant(items, tf.int32)).numpy() for items in batches]


def test_gaps_are_averaged():
    # Item 3 comes in batches 2, 3 and 7: gaps of 2, 1 and 4, whose mean is 7 / 3.
    _, found = estimates([[1], [3], [3, 3, 2], [1], [2], [4], [3, 1]])
    np.testing.assert_allclose(found[1], [1 / 2])
    np.testing.assert_allclose(found[2], [2 / 3, 2 / 3, 1 / 3])
    np.testing.assert_allclose(found[6], [3 / 7, 3 / 7])


def test_old_gaps_are_forgotten():
    # With a rate of a half, gaps of 1, 1 and 4: 1, then 1, then 1 + (4 - 1) / 2.
    _, found = estimates([[2], [2], [0], [0], [0], [2]], rate=0.5)
    np.testing.assert_allclose(found[-1], [1 / 2.5])


def test_an_empty_batch_counts_as_one():
    layer, found = estimates([[], [1]])
    assert found[0].shape == (0,) and layer.batch.numpy() == 2
    np.testing.assert_allclose(found[1], [0.5])


@pytest.mark.parametrize("probability", [0.5, 0.02])
def test_it_is_not_biased(probability, rng):
    # Gaps are geometric, so that their mean is 1 / p; the standard error of some 0.02 T of them.
    layer, steps = layers.ItemFrequency(400, rate=1e-6), 3000
    step = tf.function(layer, input_signature=[tf.TensorSpec([None], tf.int32)])
    for _ in range(steps):
        step(tf.constant(np.flatnonzero(rng.random(400) < probability), tf.int32))
    gaps = layer.mean_gap.numpy()
    error = np.sqrt((1 - probability) / probability**2 / (steps * probability * 400))
    assert abs(gaps.mean() - 1 / probability) < 4 * error + 0.05 / probability**0.5 / 10
