"""The compressed interaction network, split, against the oracle's."""

import numpy as np
import pytest

from ctr_tf.layers import CIN
from tests.oracles.xdeepfm import cin
from tests.weights import array, randomise


@pytest.mark.parametrize("user, rest", [(2, 3), (1, 1), (0, 3), (3, 0)])
@pytest.mark.parametrize(
    "units, activation, split, bias",
    [
        ([4], "linear", False, False),
        ([4, 6, 3], "relu", True, False),
        ([4, 6, 3], "relu", True, True),
    ],
)
def test_split_is_whole(rng, user, rest, units, activation, split, bias):
    layer = randomise(CIN(user, rest, units, activation, split, bias), rng)
    of_user = rng.normal(size=(2, user, 4)).astype("float32") if user else None
    others = rng.normal(size=(2, 5, rest, 4)).astype("float32") if rest else None
    state = layer.of_user(of_user) if user else {}
    found = layer(of_user, others, state, np.ones((2, 5), bool))
    assert found.shape == (2, 5, layer.width)
    biases = [array(own) for own in layer.biases] if bias else [None] * len(units)
    kernels = [(array(kernel), own) for kernel, own in zip(layer.kernels, biases)]
    for b in range(2):
        for n in range(5):
            parts = [of_user[b]] if user else []
            parts += [others[b, n]] if rest else []
            expected = cin(np.concatenate(parts)[None], kernels, activation, split)[0]
            np.testing.assert_allclose(found[b, n], expected, rtol=1e-3, atol=1e-4)


def test_one_row_of_ones_is_the_square_of_the_sum():
    layer = CIN(1, 1, [1])
    layer.kernels[0].assign(np.ones((2, 2, 1)))
    user, rest = np.array([[[1.0, 2.0]]], "float32"), np.array([[[[3.0, -2.0]]]], "float32")
    found = layer(user, rest, layer.of_user(user), np.ones((1, 1), bool))
    np.testing.assert_allclose(found, [[[16.0 + 0.0]]])
