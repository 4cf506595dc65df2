"""Bilinear interaction, split, and SENET against the oracles."""

import numpy as np
import pytest

from ctr_tf.layers import SENET, Bilinear
from tests.models.pairs import kernels_of, places
from tests.oracles.fibinet import bilinear, senet
from tests.weights import array, randomise


@pytest.mark.parametrize("user, rest", [(2, 3), (1, 1), (0, 3), (3, 0), (1, 3), (3, 1)])
@pytest.mark.parametrize("kind", ["all", "each", "interaction"])
def test_split_is_whole(rng, user, rest, kind):
    layer = randomise(Bilinear(user, rest, 4, kind), rng)
    of_user = rng.normal(size=(2, user, 4)).astype("float32")
    others = rng.normal(size=(2, 5, rest, 4)).astype("float32")
    state = layer.of_user(of_user) if user else {}
    blocks = layer(state.get("left"), others if rest else None)
    if "pairs" in state:
        pairs = np.repeat(state["pairs"].numpy()[:, None], 5, axis=1)
        blocks = [pairs, *blocks]
    found = np.concatenate(blocks, axis=2)[:, :, places(layer)]
    for b in range(2):
        fields = np.array([np.concatenate([of_user[b], others[b, n]]) for n in range(5)])
        expected = bilinear(fields, kernels_of(layer), kind)
        np.testing.assert_allclose(found[b], expected, rtol=1e-4, atol=1e-5)
    count = user + rest
    matrices = {"all": 1, "each": count - 1, "interaction": count * (count - 1) // 2}[kind]
    assert layer.count_params() == matrices * 4 * 4


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize("reduction", [2, 9])
def test_senet_of_parts_is_whole(rng, activation, reduction):
    layer = SENET({"user": 2, "rest": 3}, reduction, activation)
    user, rest = rng.normal(size=(2, 6, 2, 4)), rng.normal(size=(2, 6, 3, 4))

    def call():
        return layer([layer.part("user", user.astype("float32")),
                      layer.part("rest", rest.astype("float32"))])  # fmt: skip

    call()
    randomise(layer, rng)
    fields = np.concatenate([user, rest], axis=2).reshape(12, 5, 4)
    kernels = array(layer.reduce.kernel), array(layer.expand.kernel)
    assert kernels[0].shape == (5, max(1, 5 // reduction))
    expected = senet(fields, *kernels, activation=activation)
    found = fields * call().numpy().reshape(12, 5, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
