"""ActivationUnit against the un-split form of the paper."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import ActivationUnit
from tests.oracles.blocks import dense, dice, masked_moments, softmax_masked
from tests.oracles.din import activation_unit_inputs, attention_pooling
from tests.weights import activations_of, array, layer_pair, randomise, split_mlp_layers

MASK = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)


def build(rng, act="dice", softmax=False, extra=0):
    unit = ActivationUnit(3, [5, 4], extra=extra, activation_name=act, softmax=softmax)
    queries = rng.normal(size=(3, 2, 3)).astype("float32")
    keys = rng.normal(size=(3, 4, 3 + extra)).astype("float32")
    apply(unit, queries, keys)
    randomise(unit, rng)
    return unit, queries, keys


def apply(unit, queries, keys, mask=MASK, **kwargs):
    return unit(queries, keys, unit.project_keys(keys), mask, keys, **kwargs)


@pytest.mark.parametrize("act", ["dice", "relu", "sigmoid", "prelu"])
@pytest.mark.parametrize("softmax", [False, True])
def test_pooling_is_that_of_the_un_split_form(rng, act, softmax):
    unit, queries, keys = build(rng, act, softmax)
    layers = [*split_mlp_layers(unit.mlp), layer_pair(unit.score)]
    y = apply(unit, queries, keys)
    for b in range(3):
        for n in range(2):
            expected = attention_pooling(
                queries[b, n], keys[b], MASK[b], layers, activations_of(unit.mlp), softmax
            )
            np.testing.assert_allclose(y[b, n], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(y[2], np.zeros((2, 3)))


@pytest.mark.parametrize("softmax", [False, True])
def test_training_moments_are_over_valid_pairs(rng, softmax):
    unit, queries, keys = build(rng, "dice", softmax)
    candidates = np.array([[1, 1], [1, 0], [1, 1]], bool)
    layers = [*split_mlp_layers(unit.mlp), layer_pair(unit.score)]
    alphas = [array(layer.alpha) for layer in unit.mlp.rest.activations]
    # (B, N, L, 4 D): every pair's input, then layer by layer with the moments of the valid ones.
    x = np.array([[activation_unit_inputs(q, keys[b]) for q in queries[b]] for b in range(3)])
    valid = candidates[:, :, None] & MASK[:, None, :]
    for (kernel, bias), alpha in zip(layers, alphas):
        x = dense(x, kernel, bias)
        x = dice(x, alpha, *masked_moments(x, valid), 1e-8)
    scores = dense(x, *layers[-1])[..., 0]
    y = apply(unit, queries, keys, weights=candidates, training=True)
    for b, n in np.argwhere(candidates):
        weights = softmax_masked(scores[b, n], MASK[b]) if softmax else scores[b, n] * MASK[b]
        np.testing.assert_allclose(y[b, n], weights @ keys[b], rtol=1e-3, atol=1e-4)


def test_extra_attributes_enter_as_keys_alone(rng):
    unit, queries, keys = build(rng, "relu", extra=2)
    layers = [*split_mlp_layers(unit.mlp), layer_pair(unit.score)]
    y = apply(unit, queries, keys)
    kernel = np.zeros((20, 5))
    given = layers[0][0]
    # In the un-split form the candidate lacks the attributes, so that only their key rows count.
    kernel[0:3], kernel[5:8], kernel[10:13], kernel[15:18] = np.split(given[:12], 4)
    kernel[8:10] = given[12:]
    for b in range(3):
        for n in range(2):
            query = np.concatenate([queries[b, n], [7.0, -7.0]])
            expected = attention_pooling(
                query, keys[b], MASK[b], [(kernel, layers[0][1]), *layers[1:]], "relu"
            )
            np.testing.assert_allclose(y[b, n], expected, rtol=1e-4, atol=1e-5)


def test_equal_keys_with_softmax_give_that_key(rng):
    unit, queries, _ = build(rng, softmax=True)
    keys = np.broadcast_to(np.array([1.0, 2.0, 3.0], "float32"), (3, 4, 3))
    y = apply(unit, queries, keys)
    np.testing.assert_allclose(y[:2], np.broadcast_to([1.0, 2.0, 3.0], (2, 2, 3)), rtol=1e-5)


def test_constant_scores_sum_the_behaviours(rng):
    unit, queries, keys = build(rng)
    unit.score.kernel.assign(tf.zeros((4, 1)))
    unit.score.bias.assign([2.0])
    y = apply(unit, queries, keys)
    sums = 2 * np.einsum("bl,bld->bd", MASK, keys)
    np.testing.assert_allclose(y, np.broadcast_to(sums[:, None], y.shape), rtol=1e-5, atol=1e-6)


def test_gradients_of_a_row_without_behaviours_are_finite(rng):
    for softmax in (False, True):
        unit, queries, keys = build(rng, softmax=softmax)
        queries, keys = tf.constant(queries), tf.constant(keys)
        with tf.GradientTape() as tape:
            tape.watch([queries, keys])
            y = apply(unit, queries, keys, np.zeros_like(MASK), training=True)
            loss = tf.reduce_sum(tf.square(y + 1))
        for gradient in tape.gradient(loss, [queries, keys]):
            np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


def test_parameter_count(rng):
    unit, _, _ = build(rng, "relu", extra=2)
    assert unit.count_params() == (4 * 3 + 2) * 5 + 5 + 5 * 4 + 4 + 4 + 1
    assert partial(build, rng, "dice")()[0].count_params() == 12 * 5 + 5 + 24 + 5 + 3 * (5 + 4)
