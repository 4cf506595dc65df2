"""Recurrent layers against their equations, step by step, and against Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import GRU, LSTM, BiLSTM
from tests.models.behaviour import gru_weights, lstm_weights
from tests.oracles.dien import gru_states
from tests.oracles.dsin import bi_lstm
from tests.weights import array, randomise

MASK = np.arange(6) < np.array([6, 0, 3, 1])[:, None]
KINDS = ["aigru", "agru", "augru", "augru_keep"]


def build(rng, kind):
    gru = randomise(GRU(3, inputs=4, kind=kind), rng)
    x = rng.normal(size=(4, 6, 4)).astype("float32")
    attention = rng.uniform(size=(4, 2, 6)).astype("float32")
    return gru, x, attention


def test_a_gru_is_that_of_each_sequence(rng):
    gru, x, _ = build(rng, "gru")
    every = gru(gru.project(x), MASK, every=True)
    expected = np.array([gru_states(x[b], MASK[b], gru_weights(gru)) for b in range(4)])
    np.testing.assert_allclose(every, expected, atol=1e-5)
    np.testing.assert_allclose(gru(gru.project(x), MASK), expected[:, -1], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_enters_each_step(rng, kind):
    gru, x, attention = build(rng, kind)
    found = gru(gru.project(x), MASK, attention)
    for b in range(4):
        for n in range(2):
            expected = gru_states(x[b], MASK[b], gru_weights(gru), attention[b, n], kind)[-1]
            np.testing.assert_allclose(found[b, n], expected, atol=1e-5)


@pytest.mark.parametrize("kind, attends", [("aigru", 1.0), ("augru", 1.0), ("augru_keep", 0.0)])
def test_attention_that_is_a_plain_gru(rng, kind, attends):
    gru, x, attention = build(rng, kind)
    plain = GRU(3, inputs=4)
    plain.set_weights(gru.get_weights())
    found = gru(gru.project(x), MASK, np.full_like(attention, attends))
    np.testing.assert_allclose(found[:, 0], plain(plain.project(x), MASK), atol=1e-6)


@pytest.mark.parametrize("kind", ["agru", "augru"])
def test_no_attention_keeps_the_state(rng, kind):
    gru, x, attention = build(rng, kind)
    none = gru(gru.project(x), MASK, np.zeros_like(attention))
    np.testing.assert_array_equal(none, np.zeros((4, 2, 3)))


@pytest.mark.parametrize("kind", ["gru", *KINDS])
def test_one_trace_serves_every_length_and_none(rng, kind):
    gru, x, attention = build(rng, kind)
    given = [] if kind == "gru" else [attention]
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None] * 2 + [4])] + [
        tf.TensorSpec([None, None], tf.bool)] + [tf.TensorSpec([None] * 3)] * len(given)
    )  # fmt: skip
    def run(x, mask, *attention):
        traces.append(1)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = gru(gru.project(x), mask, *attention)
        return y, *tape.gradient(y, [x, gru.recurrent.value])

    for length in (6, 2, 0):
        own = [x[:, :length], MASK[:, :length], *(a[..., :length] for a in given)]
        found = run(*map(tf.constant, own))
        np.testing.assert_allclose(found[0], gru(gru.project(own[0]), *own[1:]), atol=1e-6)
        assert all(np.isfinite(part).all() for part in found)
    assert len(traces) == 1


def test_gradients_are_those_of_small_changes(rng):
    gru, x, attention = build(rng, "augru")
    up = rng.normal(size=(4, 2, 3))

    def loss(x, attention):
        return tf.reduce_sum(gru(gru.project(x), MASK, attention) * up.astype("float32"))

    given = [tf.constant(x), tf.constant(attention)]
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = loss(*given)
    for i, gradient in enumerate(tape.gradient(value, given)):
        direction = rng.normal(size=given[i].shape).astype("float32")
        ahead, behind = list(given), list(given)
        ahead[i], behind[i] = given[i] + 1e-2 * direction, given[i] - 1e-2 * direction
        slope = (float(loss(*ahead)) - float(loss(*behind))) / 2e-2
        np.testing.assert_allclose(np.sum(array(gradient) * direction), slope, rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("peepholes", [False, True])
def test_a_bi_lstm_is_that_of_each_sequence(rng, merge, peepholes):
    layer = randomise(BiLSTM(3, 4, merge, peepholes), rng)
    x = rng.normal(size=(4, 6, 4)).astype("float32")
    weights = [lstm_weights(direction) for direction in layer.directions]
    expected = np.array([bi_lstm(x[b], MASK[b], *weights, merge) for b in range(4)])
    np.testing.assert_allclose(layer(x, MASK), expected, atol=1e-5)


def test_an_lstm_without_peepholes_is_that_of_keras(rng):
    layer = randomise(LSTM(3, 4, peepholes=False), rng)
    other = keras.layers.LSTM(3, return_sequences=True)
    x = rng.normal(size=(4, 6, 4)).astype("float32")
    other.build(x.shape)
    other.set_weights([array(w) for w in (layer.kernel, layer.recurrent, layer.bias)])
    np.testing.assert_allclose(layer(x, np.ones((4, 6), bool)), other(x), atol=1e-5)


def test_the_forget_gate_starts_open():
    np.testing.assert_array_equal(LSTM(2, 4).bias, [0, 0, 1, 1, 0, 0, 0, 0])
