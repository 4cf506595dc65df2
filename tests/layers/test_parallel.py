"""Parallel networks against one network at a time."""

import numpy as np
import pytest

from ctr_tf.layers import MLP, ParallelDense, ParallelMLP
from tests.oracles.blocks import dense, mlp
from tests.weights import array, randomise


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_parallel_dense_is_each_network_alone(rng, groups, bias):
    layer = ParallelDense(3, networks=4, use_bias=bias)
    x = rng.normal(size=(5, groups, 2)).astype("float32")
    layer(x)
    randomise(layer, rng)
    for p in range(4):
        own = array(layer.bias)[p] if bias else None
        expected = dense(x[:, p * groups // 4], array(layer.kernel)[p], own)
        np.testing.assert_allclose(layer(x)[:, p], expected, rtol=1e-4, atol=1e-5)
    assert layer.count_params() == 4 * (2 + bias) * 3


def test_each_network_is_initialised_as_a_layer_of_its_own():
    layer = ParallelDense(40, networks=50)
    layer.build((None, 1, 20))
    kernel = array(layer.kernel)
    bound = np.sqrt(6 / (20 + 40))
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    assert np.ptp(kernel, axis=0).min() > 0
    assert not array(layer.bias).any()


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_parallel_mlp_is_each_network_alone(rng, groups):
    layer = ParallelMLP([4, 3], networks=6, activation_name="tanh")
    x = rng.normal(size=(5, groups, 2)).astype("float32")
    layer(x)
    randomise(layer, rng)
    for p in range(6):
        pairs = [(array(d.kernel)[p], array(d.bias)[p]) for d in layer.dense]
        expected = mlp(x[:, p * groups // 6], pairs, "tanh", final_linear=False)
        np.testing.assert_allclose(layer(x)[:, p], expected, rtol=1e-4, atol=1e-5)


def test_batch_statistics_are_of_each_network_and_of_counted_positions(rng):
    layer = ParallelMLP([4], networks=2, activation_name="dice")
    x = rng.normal(size=(6, 1, 3)).astype("float32")
    weights = np.array([1, 1, 0, 1, 1, 0], "float32")
    layer(x)
    randomise(layer, rng)
    found = layer(x, weights, training=True).numpy()
    for p in range(2):
        alone = MLP([4], "dice")
        alone(x[:, 0])
        alone.dense[0].kernel.assign(layer.dense[0].kernel[p])
        alone.dense[0].bias.assign(layer.dense[0].bias[p])
        alone.activations[0].alpha.assign(layer.activations[0].alpha[4 * p : 4 * (p + 1)])
        expected = alone(x[:, 0], weights, training=True).numpy()
        kept = weights > 0
        np.testing.assert_allclose(found[:, p][kept], expected[kept], rtol=1e-4, atol=1e-5)


def test_no_units_leave_the_input():
    x = np.ones((2, 1, 3), "float32")
    np.testing.assert_array_equal(ParallelMLP([], networks=4)(x), x)


def test_inputs_divide_the_networks():
    with pytest.raises(ValueError, match="inputs must divide the networks, 4; got 3"):
        ParallelDense(2, networks=4)(np.ones((5, 3, 2), "float32"))
