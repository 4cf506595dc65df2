"""Gates of features against the oracle's."""

import numpy as np
import pytest

from ctr_tf.layers import FeatureGate
from tests.oracles.finalmlp import feature_gate
from tests.weights import array, layer_pair, randomise


@pytest.mark.parametrize("units", [[], [4]])
@pytest.mark.parametrize("learned", [None, 3])
def test_factors_are_the_oracles(rng, units, learned):
    gate = FeatureGate(6, units, learned)
    c = rng.normal(size=(5, 3)).astype("float32")
    gate(c)
    randomise(gate, rng)
    if learned:
        c = array(gate.vector).astype("float32")
    layers = [*map(layer_pair, gate.hidden.dense), layer_pair(gate.factors)]
    expected = feature_gate(np.ones((len(c), 6)), c, layers)
    np.testing.assert_allclose(gate(c), expected, rtol=1e-4, atol=1e-5)


def test_a_learned_vector_does_not_start_at_zero():
    assert np.abs(array(FeatureGate(6, [4], learned=3).vector)).min() > 0
