"""MaskedBatchNorm and Dice against moments taken by hand and by the oracles."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import Dice, MaskedBatchNorm
from ctr_tf.layers.activation import activation
from tests.oracles.blocks import batch_norm_inference, dice, masked_moments, prelu
from tests.weights import array, randomise


@pytest.mark.parametrize("shape", [(6, 3), (4, 5, 3), (2, 3, 4, 3)])
def test_training_moments_are_weighted(rng, shape):
    x = rng.normal(2.0, 3.0, shape).astype("float32")
    weights = rng.integers(0, 4, shape[:-1]).astype("float32")
    norm = MaskedBatchNorm(momentum=0.9)
    norm.build(shape)
    randomise(norm, rng)
    before = array(norm.moving_mean), array(norm.moving_variance)
    y = norm(x, weights, training=True)
    mean, variance = masked_moments(x, weights)
    expected = batch_norm_inference(x, mean, variance, array(norm.gamma), array(norm.beta), 1e-5)
    valid = weights > 0
    np.testing.assert_allclose(y.numpy()[valid], expected[valid], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_mean, 0.9 * before[0] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, 0.9 * before[1] + 0.1 * variance, rtol=1e-5)


def test_inference_uses_the_moving_statistics(rng):
    x = rng.normal(size=(4, 2)).astype("float32")
    norm = MaskedBatchNorm()
    norm.build(x.shape)
    randomise(norm, rng)
    statistics = [array(v) for v in (norm.moving_mean, norm.moving_variance, norm.gamma, norm.beta)]
    np.testing.assert_allclose(norm(x), batch_norm_inference(x, *statistics, 1e-5), rtol=1e-5)
    np.testing.assert_array_equal(norm.moving_mean, statistics[0].astype("float32"))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -1e30])
def test_padding_is_cut_out_of_statistics(garbage):
    x = np.array([[1.0], [3.0], [garbage]], "float32")
    norm = MaskedBatchNorm(momentum=0.0)
    y = norm(x, np.array([1.0, 1.0, 0.0]), training=True)
    np.testing.assert_allclose(y[:2], [[-1.0], [1.0]], atol=1e-5)
    np.testing.assert_allclose(norm.moving_mean, [2.0])
    np.testing.assert_allclose(norm.moving_variance, [1.0], rtol=1e-5)


def test_gradients_are_those_of_differences(rng):
    x = rng.normal(1.0, 2.0, (6, 3)).astype("float32")
    weights = np.array([1.0, 2.0, 0.0, 1.0, 3.0, 1.0])
    upstream = rng.normal(size=(6, 3)) * (weights > 0)[:, None]

    def loss(x):
        y = batch_norm_inference(x, *masked_moments(x, weights), 1.0, 0.0, 1e-5)
        return (y * upstream).sum()

    norm = MaskedBatchNorm(center=False, scale=False)
    norm.build(x.shape)
    given = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(given)
        y = norm(given, weights, training=True)
        objective = tf.reduce_sum(y * upstream.astype("float32"))
    found = tape.gradient(objective, given)
    for place in np.ndindex(6, 3):
        moved = np.zeros((6, 3))
        moved[place] = 1e-5
        expected = (loss(x + moved) - loss(x - moved)) / 2e-5
        np.testing.assert_allclose(found[place], expected, atol=1e-4)


def test_padding_is_cut_out_of_gradients():
    x = tf.constant([[1.0], [3.0], [-1e30]])
    norm = MaskedBatchNorm()
    norm.build(x.shape)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = norm(x, np.array([1.0, 1.0, 0.0]), training=True)[:2]
        loss = tf.reduce_sum(y * np.array([[1.0], [3.0]], "float32"))
    gamma, beta, of_x = tape.gradient(loss, [*norm.trainable_variables, x])
    # d loss / d gamma = -1 + 3, d loss / d beta = 1 + 3; a pair's y is -1, 1 whatever x is.
    np.testing.assert_allclose(gamma, [2.0], atol=1e-4)
    np.testing.assert_allclose(beta, [4.0], atol=1e-4)
    np.testing.assert_allclose(of_x, np.zeros((3, 1)), atol=1e-4)


def test_user_side_weighted_by_impressions_equals_repeated_rows(rng):
    x = rng.normal(size=(3, 4)).astype("float32")
    counts = np.array([2, 0, 5])
    request, rows = MaskedBatchNorm(), MaskedBatchNorm()
    y = request(x, counts, training=True)
    repeated = rows(np.repeat(x, counts, axis=0), training=True)
    np.testing.assert_allclose(np.repeat(y, counts, axis=0), repeated, atol=1e-5)
    np.testing.assert_allclose(request.moving_mean, rows.moving_mean, atol=1e-6)
    np.testing.assert_allclose(request.moving_variance, rows.moving_variance, atol=1e-6)


def test_nothing_valid_leaves_the_moving_statistics(rng):
    norm = MaskedBatchNorm()
    y = norm(rng.normal(size=(3, 2)), np.zeros(3), training=True)
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(norm.moving_mean, [0.0, 0.0])
    np.testing.assert_array_equal(norm.moving_variance, [1.0, 1.0])


def test_large_offset_keeps_the_variance():
    # Around the mean; E[x^2] - E[x]^2 of the raw values would lose all digits here.
    x = np.array([[10_000.0], [10_002.0]], "float32")
    norm = MaskedBatchNorm(momentum=0.0)
    norm(x, training=True)
    np.testing.assert_allclose(norm.moving_variance, [1.0], rtol=1e-3)


def test_half_precision_does_not_overflow():
    # The factor is 1 / sqrt(1e-8) = 10^4: times the mean it is beyond float16.
    norm = MaskedBatchNorm(epsilon=1e-8, center=False, scale=False, dtype="mixed_float16")
    y = norm(tf.constant(20.0, "float16", shape=(3, 1)), training=True)
    assert y.dtype == "float16"
    np.testing.assert_array_equal(y, np.zeros((3, 1)))


def test_dice_in_training_and_inference(rng):
    x = rng.normal(size=(2, 4, 3)).astype("float32")
    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], bool)
    layer = Dice(momentum=0.5)
    layer.build(x.shape)
    randomise(layer, rng)
    alpha = array(layer.alpha)
    moving = array(layer.norm.moving_mean), array(layer.norm.moving_variance)
    np.testing.assert_allclose(layer(x), dice(x, alpha, *moving, 1e-8), rtol=1e-4, atol=1e-5)
    moments = masked_moments(x, mask)
    y = layer(x, mask, training=True)
    expected = dice(x, alpha, *moments, 1e-8)
    np.testing.assert_allclose(y.numpy()[mask], expected[mask], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.norm.moving_mean, (moving[0] + moments[0]) / 2, rtol=1e-5)


@pytest.mark.parametrize("weights", [None, [1.0] * 6, [1.0, 2.0, 0.0, 1.0, 3.0, 1.0]])
def test_dice_s_gradients_are_those_of_differences(rng, weights):
    x = rng.normal(1.0, 2.0, (6, 3)).astype("float32")
    counts = np.ones(6) if weights is None else np.array(weights)
    upstream = rng.normal(size=(6, 3)) * (counts > 0)[:, None]
    layer = Dice()
    layer.build(x.shape)
    randomise(layer, rng)
    alpha = array(layer.alpha)

    def loss(x, alpha):
        return (dice(x, alpha, *masked_moments(x, counts), 1e-8) * upstream).sum()

    given = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(given)
        y = layer(given, weights and np.array(weights), training=True)
        objective = tf.reduce_sum(y * upstream.astype("float32"))
    of_x, of_alpha = tape.gradient(objective, [given, layer.alpha.value])
    for place in np.ndindex(6, 3):
        moved = np.zeros((6, 3))
        moved[place] = 1e-5
        expected = (loss(x + moved, alpha) - loss(x - moved, alpha)) / 2e-5
        np.testing.assert_allclose(of_x[place], expected, atol=2e-4)
    for i in range(3):
        moved = 1e-5 * np.eye(3)[i]
        expected = (loss(x, alpha + moved) - loss(x, alpha - moved)) / 2e-5
        np.testing.assert_allclose(of_alpha[i], expected, atol=2e-4)


def test_dice_with_alpha_one_is_the_identity(rng):
    x = rng.normal(size=(5, 2)).astype("float32")
    layer = Dice()
    layer.build(x.shape)
    layer.alpha.assign([1.0, 1.0])
    np.testing.assert_allclose(layer(x, training=True), x, rtol=1e-6)


def test_plain_activations():
    x = np.array([[-2.0, 0.0, 3.0]], "float32")
    np.testing.assert_array_equal(activation("relu")(x), [[0, 0, 3]])
    np.testing.assert_array_equal(activation("linear")(x), x)
    np.testing.assert_allclose(activation("tanh")(x), np.tanh(x), rtol=1e-6)
    np.testing.assert_allclose(activation("sigmoid")(x), 1 / (1 + np.exp(-x)), rtol=1e-6)
    np.testing.assert_allclose(activation("prelu")(x), prelu(x, 0.25))
    with pytest.raises(ValueError, match="'gelu'"):
        activation("gelu")
