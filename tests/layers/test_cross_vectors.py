"""The cross network of DCN against its layers one by one."""

import numpy as np
import pytest

from ctr_tf.layers import CrossVectors
from tests.oracles.dcn_v2 import cross_network
from tests.oracles.interaction_deep import cross_vector
from tests.weights import array, randomise

PARTS = {"user": 2, "absent": 0, "item": 3}


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_cross_vectors_of_whole_and_of_parts(rng, layers):
    network = CrossVectors(PARTS, layers)
    x0 = rng.normal(size=(2, 4, 5)).astype("float32")
    network(x0)
    randomise(network, rng)
    y = network(x0).numpy()
    weights = list(zip(array(network.split.kernel).T, array(network.bias)))
    for b in range(2):
        for n in range(4):
            expected = cross_network(x0[b, n], weights, cross_vector)
            np.testing.assert_allclose(y[b, n], expected, rtol=1e-4, atol=1e-5)
    products = [network.part("user", x0[..., :2]), None, network.part("item", x0[..., 2:])]
    np.testing.assert_allclose(network.from_parts(x0, products), y, rtol=1e-4, atol=1e-5)
    assert network.count_params() == layers * 2 * 5
