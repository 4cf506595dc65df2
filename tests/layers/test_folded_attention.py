"""Bilinear attention and its unit against loops; the softmax over valid positions."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import BilinearAttention, FoldedUnit, masked_softmax
from tests.oracles.blocks import mlp, softmax_masked
from tests.oracles.dien import attention_weights
from tests.weights import array, layer_pair, oracle_activation, randomise

MASK = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)


def tensors(rng):
    sizes = {"queries": (3, 2, 5), "keys": (3, 4, 3), "values": (3, 4, 2)}
    return {name: rng.normal(size=size).astype("float32") for name, size in sizes.items()}


@pytest.mark.parametrize("softmax", [False, True])
def test_pooling_is_that_of_each_pair(rng, softmax):
    x, layer = tensors(rng), randomise(BilinearAttention(3, 5, softmax), rng)
    keys = layer.project_keys(x["keys"])
    weights = layer.weights_of(x["queries"], keys, MASK)
    pooled = layer(x["queries"], keys, MASK, x["values"])
    kernel = array(layer.kernel)
    for b, n in np.ndindex(3, 2):
        query = x["queries"][b, n]
        expected = np.where(MASK[b], x["keys"][b] @ kernel @ query, 0.0)
        if softmax:
            expected = attention_weights(x["keys"][b], MASK[b], query, kernel)
        np.testing.assert_allclose(weights[b, n], expected, atol=1e-5)
        np.testing.assert_allclose(pooled[b, n], expected @ x["values"][b], atol=1e-5)


@pytest.mark.parametrize("act", ["dice", "relu"])
def test_a_folded_unit_is_an_mlp_and_a_product(rng, act):
    x, unit = tensors(rng), randomise(FoldedUnit(3, 5, [4, 6], act), rng)
    found = unit(x["queries"], unit.project_keys(x["keys"]), MASK, x["values"])
    layers = [layer_pair(dense) for dense in unit.mlp.dense]
    acts = [oracle_activation(layer) for layer in unit.mlp.activations]
    hidden = mlp(x["keys"], layers, acts, final_linear=False) @ array(unit.attention.kernel)
    for b, n in np.ndindex(3, 2):
        scores = np.where(MASK[b], hidden[b] @ x["queries"][b, n], 0.0)
        np.testing.assert_allclose(found[b, n], scores @ x["values"][b], atol=1e-4)


def test_softmax_of_large_scores_and_its_gradient(rng):
    scores = np.array([[1000.0, 999.0, 5000.0], [-1000.0, -1001.0, 0.0]], "float32")
    mask = np.array([[1, 1, 0]] * 2, bool)
    expected = [softmax_masked(row, own) for row, own in zip(scores, mask)]
    np.testing.assert_allclose(masked_softmax(scores, mask), expected, atol=1e-6)
    x = tf.constant(rng.normal(size=(3, 4)).astype("float32"))
    up = rng.normal(size=(3, 4)).astype("float32")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        own = tf.reduce_sum(masked_softmax(x, MASK) * up)
        plain = tf.nn.softmax(tf.where(MASK, x, -1e9)) * tf.cast(MASK, tf.float32)
        plain = tf.reduce_sum(plain * up)
    np.testing.assert_allclose(tape.gradient(own, x), tape.gradient(plain, x), atol=1e-6)
