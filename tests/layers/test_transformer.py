"""The transformer encoder against its equations, packed against padded."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import Encoder, EncoderBlock, LayerNorm, Packing
from ctr_tf.layers.packing import padded
from ctr_tf.layers.sequence.config import EncoderConfig
from tests.layers.encoder import encoder_oracle
from tests.oracles.transformer import gelu, layer_norm
from tests.weights import array, randomise

MASK = np.arange(7) < np.array([4, 0, 7, 1, 2])[:, None]
# Not a prefix: positions count valid ones alone.
HOLES = MASK & (np.arange(7) != 1)


def build(rng, **given):
    encoder = Encoder(EncoderConfig(**{"width": 6, "feed_forward": 5, "positions": 3, **given}))
    encoder.build((None, 4))
    return randomise(encoder, rng), rng.normal(size=(5, 7, 4)).astype("float32")


def run(encoder, x, mask, **given):
    packing = Packing.of(tf.constant(mask))
    return packing.unpack(encoder(packing.pack(tf.constant(x)), packing=packing, **given))


@pytest.mark.parametrize("mask", [MASK, HOLES], ids=["prefix", "holes"])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "given, activation",
    [
        ({"norm": "post"}, "relu"),
        ({"norm": "pre"}, "relu"),
        ({"activation": "gelu", "use_bias": True, "positions": 0}, gelu),
        ({"activation": "tanh", "layers": 1, "heads": 3}, "tanh"),
    ],
    ids=["post", "pre", "gelu", "tanh"],
)
def test_encoder_is_that_of_each_row(rng, given, activation, mask, whole):
    encoder, x = build(rng, **given)
    expected = encoder_oracle(encoder, x, mask, activation)
    if whole:
        with padded():
            found = run(encoder, x, mask)
    else:
        found = run(encoder, x, mask)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_values_and_gradients_are_those_of_the_padded_form(rng, norm):
    encoder, x = build(rng, norm=norm)
    up = rng.normal(size=(5, 7, 6)).astype("float32")

    def form(x):
        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = run(encoder, x, MASK, training=True)
            loss = tf.reduce_sum(y * up)
        weights = [v.value for v in encoder.trainable_variables]
        return y, *map(tf.convert_to_tensor, tape.gradient(loss, [x, *weights]))

    expected = form(x)
    with padded():
        whole = form(x)
        poisoned = form(np.where(MASK[..., None], x, np.float32(np.nan)))
    for found in (whole, poisoned):
        for one, other in zip(found, expected):
            scale = max(1.0, np.abs(other).max())
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * scale)


def test_nothing_of_one_sequence_reaches_another(rng):
    encoder, x = build(rng)
    changed = x.copy()
    changed[2] += 1.0
    before, after = run(encoder, x, MASK).numpy(), run(encoder, changed, MASK).numpy()
    others = np.arange(5) != 2
    np.testing.assert_allclose(after[others], before[others], atol=1e-6)
    assert np.abs(after[2] - before[2]).max() > 1e-2


def test_positions_count_from_the_latest(rng):
    encoder, x = build(rng, layers=1)
    # Older behaviours that the log no longer has leave the position of the others as it was.
    encoder.blocks[0].attention.output_projection.kernel.assign(np.zeros((6, 6)))
    cut = run(encoder, x[2:3, 3:], np.ones((1, 4), bool))
    np.testing.assert_allclose(run(encoder, x[2:3], MASK[2:3])[:, 3:], cut, atol=1e-5)


def test_without_positions_the_order_is_nothing(rng):
    encoder, x = build(rng, positions=0)
    turned = run(encoder, x[2:3, ::-1], MASK[2:3])
    np.testing.assert_allclose(turned[:, ::-1], run(encoder, x[2:3], MASK[2:3]), atol=1e-5)


def test_block_of_zero_weights_passes_its_input_on(rng):
    for norm in ("pre", "post"):
        block = EncoderBlock(6, 2, norm=norm)
        block.build((None, 6))
        for layer in (block.attention.output_projection, block.outer):
            layer.kernel.assign(np.zeros(layer.kernel.shape))
        x = tf.constant(rng.normal(size=(3, 6)), tf.float32)
        y = block(x, packing=Packing.of(tf.ones((1, 3), tf.bool)))
        expected = x if norm == "pre" else layer_norm(layer_norm(x, 1, 0, 1e-6), 1, 0, 1e-6)
        np.testing.assert_allclose(y, expected, atol=1e-5)


def test_layer_norm_and_its_gradient(rng):
    layer = LayerNorm()
    layer.build((None, 4))
    randomise(layer, rng)
    x = tf.constant(rng.normal(1.0, 3.0, size=(2, 3, 4)), tf.float32)
    up = tf.constant(rng.normal(size=(2, 3, 4)), tf.float32)
    given = [x, layer.gamma.value, layer.beta.value]

    def parts():
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return (x - mean) / tf.sqrt(variance + layer.epsilon) * layer.gamma + layer.beta

    found = []
    for function in (lambda: layer(x), parts):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function()
            loss = tf.reduce_sum(y * up)
        found.append([y, *tape.gradient(loss, given)])
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(
        found[0][0], layer_norm(x, array(layer.gamma), array(layer.beta), 1e-6), atol=1e-5
    )


def test_layer_norm_of_equal_values_is_beta():
    layer = LayerNorm()
    np.testing.assert_array_equal(layer(tf.fill((2, 3), 7.0)), np.zeros((2, 3)))


def test_parameter_count(rng):
    encoder, _ = build(rng)
    attention = 6 * 18 + 6 * 6
    feed_forward = 6 * 5 + 5 + 5 * 6 + 6
    assert encoder.count_params() == 4 * 6 + 6 + 3 * 6 + 2 * (attention + feed_forward + 24)


def test_dropout_is_of_training_alone(rng):
    encoder, x = build(rng, dropout=0.5)
    again = [run(encoder, x, MASK, training=training) for training in (False, False, True, True)]
    np.testing.assert_array_equal(again[0], again[1])
    assert np.abs(again[2] - again[3]).max() > 1e-2
