"""Multi-head attention against its equation, bucketed against padded, and where padding goes."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import CrossAttention, Packing, SelfAttention
from ctr_tf.layers.attention.buckets import Buckets, bucketed
from ctr_tf.layers.attention.multi_head import attend
from ctr_tf.layers.packing import padded
from tests.oracles.transformer import attention, multi_head
from tests.weights import array, layer_pair, randomise

LENGTHS = [8, 1, 2, 0, 7, 5, 3]
MASK = np.arange(9) < np.array(LENGTHS)[:, None]


def self_attention(rng, **given):
    layer = SelfAttention(6, 2, **given)
    layer.build((None, 5))
    return randomise(layer, rng), rng.normal(size=(7, 9, 5)).astype("float32")


def cross_attention(rng, **given):
    layer = CrossAttention(6, 3, **given)
    queries = rng.normal(size=(7, 2, 4)).astype("float32")
    keys_values = rng.normal(size=(7, 9, 12)).astype("float32")
    layer(queries, keys_values, MASK)
    return randomise(layer, rng), queries, keys_values


def run(layer, x, mask=MASK):
    """(B, L, W) of a self-attention."""
    packing = Packing.of(tf.convert_to_tensor(mask))
    return packing.unpack(layer(packing.pack(tf.convert_to_tensor(x)), packing=packing))


def test_attend_is_the_equation(rng):
    queries, keys, values = (rng.normal(size=(2, 3, n, 4)).astype("float32") for n in (5, 6, 6))
    mask = np.array([[1, 1, 0, 1, 0, 1], [0, 1, 0, 0, 0, 0]], bool)
    y = attend(tf.constant(queries / 2), tf.constant(keys), tf.constant(values), mask)
    for b, h in np.ndindex(2, 3):
        expected = attention(queries[b, h], keys[b, h], values[b, h], mask[b])
        np.testing.assert_allclose(y[b, h], expected, atol=1e-5)


@pytest.mark.parametrize("dropout", [False, True])
def test_the_written_gradient_is_that_of_the_parts(rng, dropout):
    given = [tf.constant(rng.normal(size=(2, 3, n, 4)), tf.float32) for n in (5, 6, 6)]
    mask = tf.constant(np.array([[1, 1, 0, 1, 0, 1], [0, 1, 0, 0, 0, 0]], bool))
    keep = tf.constant(2.0 * rng.integers(0, 2, (2, 3, 5, 6)), tf.float32)
    up = rng.normal(size=(2, 3, 5, 4)).astype("float32")

    def parts(queries, keys, values):
        scores = tf.where(mask[:, None, None], tf.matmul(queries, keys, transpose_b=True), -1e9)
        weights = tf.nn.softmax(scores)
        return tf.matmul(weights * keep if dropout else weights, values)

    def ours(queries, keys, values):
        return attend(queries, keys, values, mask, (lambda ones: keep) if dropout else None)

    found = []
    for function in (ours, parts):
        with tf.GradientTape() as tape:
            tape.watch(given)
            y = function(*given)
            loss = tf.reduce_sum(y * up)
        found.append([y, *tape.gradient(loss, given)])
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("use_bias", [False, True])
def test_self_attention_is_that_of_each_row(rng, use_bias):
    layer, x = self_attention(rng, use_bias=use_bias)
    kernel, bias = array(layer.kernel), array(layer.bias) if use_bias else 0.0
    y = run(layer, x)
    for b, length in enumerate(LENGTHS):
        own = np.split(x[b] @ kernel + bias, 3, axis=1)
        expected = multi_head(*own, MASK[b], 2, layer_pair(layer.output_projection))
        np.testing.assert_allclose(y[b, :length], expected[:length], atol=1e-5)
        np.testing.assert_array_equal(y[b, length:], np.zeros((9 - length, 6)))


@pytest.mark.parametrize("use_bias", [False, True])
def test_cross_attention_is_that_of_each_row(rng, use_bias):
    layer, queries, keys_values = cross_attention(rng, use_bias=use_bias)
    y = layer(queries, keys_values, MASK)
    kernel, bias = layer_pair(layer.query)
    for b in range(len(LENGTHS)):
        own = queries[b] @ kernel + bias, *np.split(keys_values[b], 2, axis=1)
        expected = multi_head(*own, MASK[b], 3, layer_pair(layer.output_projection))
        np.testing.assert_allclose(y[b], expected, atol=1e-5)


def everything(rng, graph=False):
    """Values and all gradients of both layers; keys beyond a row's length are NaN where asked."""
    one, x = self_attention(rng)
    other, queries, keys_values = cross_attention(rng, use_bias=True)
    up = rng.normal(size=(7, 9, 6)).astype("float32")

    def form(mask, x, queries, keys_values):
        packing = Packing.of(mask)
        with tf.GradientTape() as tape:
            tape.watch([x, queries, keys_values])
            y = packing.unpack(one(packing.pack(x), packing=packing))
            z = other(queries, keys_values, mask)
            loss = tf.reduce_sum(y * up) + tf.reduce_sum(z * up[:, :2])
        weights = [v.value for v in one.trainable_variables + other.trainable_variables]
        found = tape.gradient(loss, [x, queries, keys_values, *weights])
        return y, z, *map(tf.convert_to_tensor, found)

    call = tf.function(form) if graph else form
    return call(*map(tf.constant, (MASK, x, queries, keys_values)))


def test_bucketed_and_padded_forms_agree():
    found = everything(np.random.default_rng(1))
    with padded():
        expected = everything(np.random.default_rng(1))
        compiled = everything(np.random.default_rng(1), graph=True)
    graph = everything(np.random.default_rng(1), graph=True)
    for other in (found, compiled, graph):
        for one, value in zip(other, expected):
            np.testing.assert_allclose(one, value, atol=1e-5)


def test_xla_compiles_the_padded_form(rng):
    layer, x = self_attention(rng)
    expected = run(layer, x)
    with padded():
        compiled = tf.function(lambda x, mask: run(layer, x, mask), jit_compile=True)
        np.testing.assert_allclose(compiled(x, MASK), expected, atol=1e-5)


@pytest.mark.parametrize("whole", [False, True])
def test_nan_at_padded_keys_reaches_nothing(rng, whole):
    layer, queries, keys_values = cross_attention(rng)
    poisoned = tf.constant(np.where(MASK[..., None], keys_values, np.float32(np.nan)))

    def form(keys_values):
        mask = tf.constant(MASK)
        with tf.GradientTape() as tape:
            y = layer(queries, keys_values, mask)
            loss = tf.reduce_sum(tf.square(y))
        return y, *tape.gradient(loss, [v.value for v in layer.trainable_variables])

    expected = form(tf.constant(keys_values))
    if whole:
        with padded():
            found = form(poisoned)
    else:
        found = form(poisoned)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_attention_to_nothing_is_zero(rng):
    layer, queries, keys_values = cross_attention(rng)
    for mask in (MASK, np.zeros_like(MASK)):
        np.testing.assert_array_equal(layer(queries, keys_values, mask)[3], np.zeros((2, 6)))
    one, x = self_attention(rng)
    np.testing.assert_array_equal(run(one, x, np.zeros_like(MASK)), np.zeros((7, 9, 6)))


def test_equal_keys_give_the_mean_of_the_values(rng):
    keys = tf.zeros((1, 1, 4, 2))
    values = tf.constant(rng.normal(size=(1, 1, 4, 3)), tf.float32)
    y = attend(keys, keys, values, np.array([[1, 0, 1, 1]], bool))
    expected = values.numpy()[0, 0, [0, 2, 3]].mean(0)
    np.testing.assert_allclose(y[0, 0], np.broadcast_to(expected, (4, 3)), rtol=1e-5)


@pytest.mark.parametrize("whole", [False, True])
def test_dropout_keeps_the_mean(rng, whole):
    """Over many draws the mean of a dropped attention is the attention."""
    layer, x = self_attention(rng, dropout=0.5)
    packing = Packing(tf.constant(MASK))
    packed, expected = packing.pack(tf.constant(x)), run(layer, x)
    drawn = [packing.unpack(layer(packed, packing=packing, training=True)) for _ in range(400)]
    assert np.abs(drawn[0] - drawn[1]).max() > 0.1
    scale = np.std(drawn, axis=0) / np.sqrt(400)
    assert (np.abs(np.mean(drawn, axis=0) - expected) < 5 * scale + 1e-5).all()


def test_heads_that_do_not_divide_the_width():
    for kind in (SelfAttention, CrossAttention):
        with pytest.raises(ValueError, match="heads must divide the width, 6; got 4"):
            kind(6, 4)


def test_buckets_hold_each_sequence_once_and_little_padding(rng):
    lengths = rng.integers(0, 200, 512)
    buckets = Buckets(Packing(tf.sequence_mask(lengths)))
    rows = np.concatenate([found.numpy() for found in buckets.rows])
    assert sorted(rows) == np.flatnonzero(lengths).tolist()
    for found, mask in zip(buckets.rows, buckets.masks):
        np.testing.assert_array_equal(mask.numpy().sum(1), lengths[found])
    square = sum(mask.shape[0] * mask.shape[1] ** 2 for mask in buckets.masks)
    assert square < 0.5 * 512 * lengths.max() ** 2


@pytest.mark.parametrize("parts, heads", [(1, 1), (3, 2)])
def test_laid_out_and_collected_is_the_same(rng, parts, heads):
    packing = Packing(tf.constant(MASK))
    slots = Buckets.of(packing).positions(parts, heads)
    x = tf.constant(rng.normal(size=(sum(LENGTHS), parts * heads * 2)), tf.float32)
    laid = slots.lay_out(x)
    assert [tuple(own[0].shape) for own in laid] == [
        (2, heads, 2, 2), (1, heads, 4, 2), (1, heads, 6, 2), (2, heads, 8, 2)
    ]  # fmt: skip
    np.testing.assert_array_equal(slots.collect([part for own in laid for part in own]), x)


@pytest.mark.parametrize(("count", "products"), [(1, 2), (4, 8)])
def test_a_graph_has_the_products_of_its_buckets_alone(rng, count, products):
    """A serving signature, whose calls are of few requests, is traced with one."""
    layer = SelfAttention(6, heads=2)
    x, mask = rng.normal(size=(9, 6)).astype("float32"), tf.sequence_mask([5, 0, 1, 3])
    expected = layer(x, packing=Packing.of(mask))

    @tf.function(input_signature=[tf.TensorSpec((None, 6)), tf.TensorSpec((None, None), tf.bool)])
    def attend(x, mask):
        return layer(x, packing=Packing.of(mask))

    with bucketed(count):
        graph = attend.get_concrete_function()
    kinds = [op.type for op in graph.graph.get_operations()]
    assert kinds.count("BatchMatMulV2") == products
    np.testing.assert_allclose(graph(tf.constant(x), mask), expected, atol=1e-6)
