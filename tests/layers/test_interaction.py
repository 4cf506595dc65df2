"""Cross layers, FM sums and pooling against the oracles."""

import numpy as np
import pytest

from ctr_tf.layers import Cross, CrossExperts, fm_second_order, fm_sums, pool
from tests.oracles.dcn_v2 import cross_full, cross_low_rank, cross_mixture
from tests.oracles.deepfm import fm_second_order as oracle_fm
from tests.weights import array, layer_pair, randomise

PARTS = {"user": 2, "absent": 0, "item": 3}


def build(rng, rank):
    layer = Cross(PARTS, rank)
    x0, x = rng.normal(size=(2, 2, 4, 5)).astype("float32")
    layer(x0, x)
    return randomise(layer, rng), x0, x


def oracle(layer, x0, x):
    if layer.up is None:
        return cross_full(x0, x, *layer_pair(layer.down))
    return cross_low_rank(x0, x, array(layer.down.kernel), *layer_pair(layer.up))


@pytest.mark.parametrize("rank", [None, 2])
def test_cross_layer_of_whole_and_of_parts(rng, rank):
    layer, x0, x = build(rng, rank)
    y = layer(x0, x).numpy()
    for b in range(2):
        for n in range(4):
            np.testing.assert_allclose(
                y[b, n], oracle(layer, x0[b, n], x[b, n]), rtol=1e-4, atol=1e-5
            )
    products = [layer.part("user", x[..., :2]), None, layer.part("item", x[..., 2:])]
    np.testing.assert_allclose(layer.from_parts(x0, x, products), y, rtol=1e-4, atol=1e-5)
    assert layer.count_params() == (5 * 5 + 5 if rank is None else 2 * 5 * rank + 5)


@pytest.mark.parametrize("rank", [None, 2])
def test_zero_cross_weights_are_the_identity(rng, rank):
    layer, x0, x = build(rng, rank)
    for variable in layer.weights:
        variable.assign(np.zeros(variable.shape))
    np.testing.assert_array_equal(layer(x0, x), x)


def test_fm_sums_of_sides_add(rng):
    fields = rng.normal(size=(6, 3, 4)).astype("float32")
    (a, squares_a), (b, squares_b) = fm_sums(list(fields[:2])), fm_sums(list(fields[2:]))
    y = fm_second_order(a + b, squares_a + squares_b)
    expected = [oracle_fm(fields[:, row]) for row in range(3)]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("combiner", "expected"), [("sum", 6.0), ("mean", 3.0), ("sqrtn", 6.0 / np.sqrt(2.0))]
)
def test_pool(combiner, expected):
    values = np.array([[[2.0], [4.0], [99.0]], [[5.0], [6.0], [7.0]]], "float32")
    mask = np.array([[True, True, False], [False, False, False]])
    np.testing.assert_allclose(pool(values, mask, combiner), [[expected], [0.0]], rtol=1e-6)


def test_mean_pooling_is_numpys_masked_mean(rng):
    values, mask = rng.normal(size=(4, 6, 3)).astype("float32"), rng.random((4, 6)) < 0.6
    mask[:, 0] = True
    where = np.broadcast_to(mask[..., None], values.shape)
    np.testing.assert_allclose(
        pool(values, mask, "mean"), np.mean(values, axis=1, where=where), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
@pytest.mark.parametrize("act", ["tanh", "linear"])
def test_cross_experts_of_whole_and_of_parts(rng, gate, act):
    layer = CrossExperts(PARTS, 2, 3, gate, act)
    x0, x = rng.normal(size=(2, 2, 4, 5)).astype("float32")
    layer(x0, x)
    randomise(layer, rng)
    y = layer(x0, x).numpy()
    down, middle, up = array(layer.down.kernel), array(layer.middle.kernel), array(layer.up)
    own = [slice(2 * i, 2 * i + 2) for i in range(3)]
    experts = [(down[:, part], middle[i], up[part]) for i, part in enumerate(own)]
    gates, bias = array(layer.gates.kernel), array(layer.bias)
    for b in range(2):
        for n in range(4):
            expected = cross_mixture(x0[b, n], x[b, n], experts, gates, bias, act, gate)
            np.testing.assert_allclose(y[b, n], expected, rtol=1e-4, atol=1e-5)
    products = [layer.part("user", x[..., :2]), None, layer.part("item", x[..., 2:])]
    np.testing.assert_allclose(layer.from_parts(x0, x, products), y, rtol=1e-4, atol=1e-5)
    assert layer.count_params() == 3 * (5 + 5 * 2 + 2 * 2 + 2 * 5) + 5


def test_one_linear_expert_is_a_cross_layer_of_low_rank(rng):
    mixture, plain = CrossExperts(PARTS, 2, 1, activation_name="linear"), Cross(PARTS, 2)
    x0, x = rng.normal(size=(2, 2, 4, 5)).astype("float32")
    for layer in (mixture, plain):
        layer(x0, x)
        randomise(layer, rng)
    plain.down.kernel.assign(array(mixture.down.kernel) @ array(mixture.middle.kernel)[0])
    plain.up.kernel.assign(array(mixture.up))
    plain.up.bias.assign(array(mixture.bias))
    np.testing.assert_allclose(mixture(x0, x), plain(x0, x), rtol=1e-4, atol=1e-5)
