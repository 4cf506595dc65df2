"""Mixtures of experts against the oracle's, gate by gate."""

import numpy as np
import pytest

from ctr_tf.layers import Mixture
from tests.oracles.blocks import dense
from tests.oracles.multitask import mixture
from tests.weights import array, randomise


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("own", [0, 2])
@pytest.mark.parametrize("units", [[], [4]])
def test_mixture_is_that_of_each_gate(rng, groups, own, units):
    layer = Mixture(gates=2, experts=own + 3, units=units)
    x = rng.normal(size=(5, groups, 4)).astype("float32")
    shared = rng.normal(size=(5, 3, 6)).astype("float32")
    of_gate = rng.normal(size=(5, 2, own, 6)).astype("float32") if own else None
    layer(x, shared, of_gate)
    randomise(layer, rng)
    found = layer(x, shared, of_gate)
    for k in range(2):
        read = x[:, k * groups // 2]
        if units:
            hidden = layer.hidden.dense[0]
            read = dense(read, array(hidden.kernel)[k], array(hidden.bias)[k], "relu")
        experts = [*(of_gate[:, k, i] for i in range(own)), *np.moveaxis(shared, 1, 0)]
        expected = mixture(read, np.float64(experts), (array(layer.gate.kernel)[k], None))
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-4, atol=1e-5)


def test_a_gate_of_zeros_takes_the_mean(rng):
    layer = Mixture(gates=1, experts=3)
    shared = rng.normal(size=(5, 3, 6)).astype("float32")
    x = np.ones((5, 1, 4), "float32")
    layer(x, shared)
    layer.gate.kernel.assign(np.zeros((1, 4, 3)))
    np.testing.assert_allclose(layer(x, shared)[:, 0], shared.mean(axis=1), atol=1e-6)
