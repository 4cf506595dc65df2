"""SplitDense, MLP and SplitMLP against dense layers over the concatenation."""

import numpy as np
import pytest

from ctr_tf.layers import MLP, SplitDense, SplitMLP, concat, per_candidate
from tests.oracles.blocks import dense, mlp
from tests.weights import activations_of, array, randomise, split_mlp_layers

PARTS = {"user": 3, "absent": 0, "item": 2}


def parts(rng):
    return rng.normal(size=(2, 3)), rng.normal(size=(2, 5, 2))


def joined(user, item):
    tiled = np.broadcast_to(user[:, None, :], (*item.shape[:2], user.shape[1]))
    return np.concatenate([tiled, item], axis=-1)


@pytest.mark.parametrize("use_bias", [True, False])
def test_split_dense_is_dense_over_the_concatenation(rng, use_bias):
    user, item = parts(rng)
    layer = randomise(SplitDense(4, PARTS, use_bias=use_bias), rng)
    product = layer.part("user", user.astype("float32"))
    assert product.shape == (2, 4)
    y = layer.join([product[:, None, :], None, layer.part("item", item.astype("float32"))])
    bias = array(layer.bias) if use_bias else None
    np.testing.assert_allclose(y, dense(joined(user, item), array(layer.kernel), bias), rtol=1e-4)
    assert layer.count_params() == 5 * 4 + 4 * use_bias


def test_split_dense_errors():
    layer = SplitDense(4, PARTS)
    assert layer.part("absent", None) is None
    with pytest.raises(ValueError, match="no part 'context'; parts: user, absent, item"):
        layer.part("context", np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match="some width"):
        SplitDense(4, {"user": 0})


@pytest.mark.parametrize(
    ("act", "batch_norm"),
    [("relu", False), ("relu", True), ("dice", False), ("prelu", True), ("tanh", False)],
)
def test_split_mlp_is_the_mlp_over_the_concatenation(rng, act, batch_norm):
    user, item = parts(rng)
    layer = SplitMLP(PARTS, [6, 4], act, batch_norm)

    def forward():
        user_product = layer.part("user", user.astype("float32"))[:, None, :]
        return layer([user_product, layer.part("item", item.astype("float32"))])

    forward()
    randomise(layer, rng)
    expected = mlp(
        joined(user, item), split_mlp_layers(layer), activations_of(layer), final_linear=False
    )
    np.testing.assert_allclose(forward(), expected, rtol=1e-4, atol=1e-5)
    extra = {"dice": 3, "prelu": 1}.get(act, 0) + 4 * batch_norm
    assert layer.count_params() == 5 * 6 + 6 + 6 * 4 + 4 + extra * (6 + 4)


def test_mlp_equals_split_mlp_of_one_part(rng):
    x = rng.normal(size=(3, 4, 5)).astype("float32")
    plain, split = MLP([6, 2], "relu"), SplitMLP({"x": 5}, [6, 2], "relu")
    plain(x)
    split([split.part("x", x)])
    randomise(plain, rng)
    split.set_weights(plain.get_weights())
    np.testing.assert_allclose(plain(x), split([split.part("x", x)]), rtol=1e-5)


def test_dropout_is_of_training_alone():
    layer = MLP([50], "linear", dropout=0.5)
    x = np.ones((4, 3), "float32")
    np.testing.assert_array_equal(layer(x), layer(x))
    dropped = layer(x, training=True).numpy()
    kept = dropped != 0
    assert 0 < kept.mean() < 1
    np.testing.assert_allclose(dropped[kept], 2 * layer(x).numpy()[kept], rtol=1e-5)


def test_concat_and_per_candidate():
    assert concat([None]) is None
    a, b = np.ones((2, 1), "float32"), np.zeros((2, 2), "float32")
    np.testing.assert_array_equal(concat([a, None, b]), [[1, 0, 0], [1, 0, 0]])
    value = np.array([[1.0], [2.0]], "float32")
    tiled = per_candidate(value, np.ones((2, 3), bool))
    np.testing.assert_array_equal(tiled[..., 0], [[1, 1, 1], [2, 2, 2]])
