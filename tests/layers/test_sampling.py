"""How often values are drawn, by rank or evenly, and that a draw goes on where it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers.sampling import sample_values

VALUES, SAMPLES, DRAWS = 50, 8, 4000


@pytest.mark.parametrize("ranked", [True, False])
def test_values_are_drawn_as_often_as_is_expected_of_them(ranked):
    p = np.full(VALUES, 1 / VALUES)
    if ranked:
        p = np.log((np.arange(VALUES) + 2) / (np.arange(VALUES) + 1)) / np.log(VALUES + 1)
    assert abs(p.sum() - 1) < 1e-12
    seed, counts = keras.random.SeedGenerator(3), np.zeros(VALUES)
    sample = tf.function(lambda: sample_values(tf.range(VALUES), SAMPLES, VALUES, seed, ranked))
    for _ in range(DRAWS):
        drawn, of_labels, of_drawn = (part.numpy() for part in sample())
        np.testing.assert_allclose(of_labels, SAMPLES * p, rtol=1e-5)
        np.testing.assert_allclose(of_drawn, of_labels[drawn], rtol=1e-6)
        np.add.at(counts, drawn, 1)
    total = SAMPLES * DRAWS
    assert counts.sum() == total
    # Within four standard deviations of a binomial count.
    assert (np.abs(counts - total * p) < 4 * np.sqrt(total * p * (1 - p))).all()


def test_every_value_of_a_large_vocabulary_can_be_drawn():
    """From shares in float32 each ninth of the last ones could: a ninth would come twice."""
    values, seed = 5_000_000, keras.random.SeedGenerator(3)
    drawn = sample_values(tf.range(1), 2_000_000, values, seed)[0].numpy()
    assert drawn.min() == 0 and drawn.max() < values
    # Each is drawn 0.026 times on average.
    far = drawn[drawn > 0.9 * values]
    assert len(far) > 10_000 and len(np.unique(far)) > 0.97 * len(far)


def test_draws_go_on_from_a_saved_state():
    seed = keras.random.SeedGenerator(3)
    first, saved = sample_values(tf.range(1), 9, 50, seed)[0].numpy(), seed.state.numpy()
    second = sample_values(tf.range(1), 9, 50, seed)[0].numpy()
    other = keras.random.SeedGenerator(4)
    other.state.assign(saved)
    np.testing.assert_array_equal(sample_values(tf.range(1), 9, 50, other)[0], second)
    assert (first != second).any()
