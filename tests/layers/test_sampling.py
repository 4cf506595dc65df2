"""How often values are drawn by rank."""

import numpy as np
import tensorflow as tf

from ctr_tf.layers.sampling import log_uniform_sample


def test_samples_are_distinct_and_expectations_those_of_as_many_draws():
    tf.random.set_seed(3)
    values, samples, counts = 50, 8, np.zeros(50)
    p = np.log((np.arange(values) + 2) / (np.arange(values) + 1)) / np.log(values + 1)
    assert abs(p.sum() - 1) < 1e-12
    sample = tf.function(lambda: log_uniform_sample(tf.range(values), samples, values))
    for _ in range(300):
        drawn, of_labels, of_drawn = (part.numpy() for part in sample())
        assert len(set(drawn)) == samples
        np.testing.assert_allclose(of_drawn, of_labels[drawn])
        # n p where the first n differ; else 1 - (1 - p)^n of as many draws as it took.
        draws = np.log1p(-of_labels[20]) / np.log1p(-p[20])
        repeated = not np.allclose(of_labels, samples * p, rtol=1e-5)
        if repeated:
            assert round(draws) > samples and abs(draws - round(draws)) < 1e-2
            np.testing.assert_allclose(of_labels, 1 - (1 - p) ** round(draws), rtol=1e-4)
        counts[drawn] += 1
    # The frequent ones more often: twice the rank, about half as often.
    assert counts[:5].sum() > 1.5 * counts[5:10].sum() > 1.5 * 1.5 * counts[20:25].sum()
