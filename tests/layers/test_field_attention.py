"""Attention of fields against the oracle's interacting layer."""

import numpy as np
import pytest

from ctr_tf.layers import FieldAttention
from tests.oracles.autoint import interacting_layer
from tests.weights import array, randomise


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("projection", ["linear", "relu"])
@pytest.mark.parametrize("fields", [1, 5])
def test_layer_is_the_oracles(rng, residual, scaled, projection, fields):
    layer = randomise(FieldAttention(4, 2, 3, residual, scaled, projection), rng)
    x = rng.normal(size=(6, fields, 4)).astype("float32")
    q, k, v, *rest = np.split(array(layer.kernel), 3 + residual, axis=1)
    q, k, v = (np.moveaxis(kernel.reshape(4, 2, 3), 1, 0) for kernel in (q, k, v))
    expected = interacting_layer(x, q, k, v, rest[0] if rest else None, scaled, projection)
    np.testing.assert_allclose(layer(layer.project(x)), expected, rtol=1e-4, atol=1e-5)
    assert layer.count_params() == 4 * 6 * (3 + residual)


def test_each_projection_is_initialised_as_a_layer_of_its_own():
    kernel = array(FieldAttention(20, 4, 10).kernel)
    bound = np.sqrt(6 / (20 + 40))
    assert 0.99 * bound < np.abs(kernel).max() <= bound
