"""What is compiled from many rows on gives the numbers of what is not."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import Dice, MaskedBatchNorm
from ctr_tf.layers.compiled import FEWEST_ROWS, SIZES, Filled, compiling
from ctr_tf.layers.packing import Packing
from ctr_tf.layers.sequence.config import EncoderConfig
from ctr_tf.layers.sequence.transformer import Encoder

ROWS = FEWEST_ROWS + 5


@pytest.mark.parametrize("make", [Dice, MaskedBatchNorm])
@pytest.mark.parametrize("weighted", [False, True])
def test_values_gradients_and_statistics(rng, make, weighted):
    x = rng.normal(2.0, 3.0, (ROWS, 3)).astype("float32")
    weights = rng.integers(0, 3, ROWS).astype("float32") if weighted else None
    upstream = rng.normal(size=(ROWS, 3)).astype("float32")
    if weighted:
        upstream *= (weights > 0)[:, None]
        x[weights == 0] = np.nan
    values = rng.normal(size=3)

    def found(compiles: bool) -> list[np.ndarray]:
        layer = make()
        layer.build(x.shape)
        layer.trainable_variables[0].assign(values)
        given = tf.constant(x)

        @tf.function
        def train():
            with compiling(compiles), tf.GradientTape() as tape:
                tape.watch(given)
                y = layer(given, weights, training=True)
                counted = tf.where(tf.not_equal(upstream, 0), y * upstream, 0)
                loss = tf.reduce_sum(counted)
                sources = [given, layer.trainable_variables[0].value]
                gradients = tape.gradient(loss, sources)
            return y, *gradients

        found = [part.numpy() for part in train()]
        if weighted:
            found[0] = found[0][weights > 0]
        return [*found, *(v.numpy() for v in layer.non_trainable_variables)]

    for one, other in zip(found(True), found(False)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


def _compiled_functions(graph: tf.Graph) -> int:
    return sum(
        function.attr["_XlaMustCompile"].b for function in graph.as_graph_def().library.function
    )


def test_switch():
    layer = Dice()
    layer.build((None, 2))

    def traced(compiles: bool) -> tf.Graph:
        @tf.function(input_signature=[tf.TensorSpec((None, 2))])
        def call(x):
            with compiling(compiles):
                return layer(x, training=True)

        return call.get_concrete_function().graph

    assert _compiled_functions(traced(True)) == 1
    assert _compiled_functions(traced(False)) == 0


def test_few_numbers_of_rows():
    many = [2_047, 2_048, 2_049, 32_768, 32_769, 100_001, 999_999]
    with compiling():
        sizes = [len(Filled(rows).up(tf.zeros((rows, 1)))) for rows in many]
    assert sizes == [2_047, 2_048, 2_560, 32_768, 34_816, 102_400, 1_015_808]
    steps = np.diff(SIZES) / SIZES[:-1]
    assert steps[SIZES[:-1] < 2**13].max() == 1 / 4 and steps[SIZES[:-1] >= 2**13].max() == 1 / 16


def test_a_filled_packing_counts_valid_positions_alone(rng):
    lengths = rng.integers(0, 70, 1200)
    lengths[-3:] = 0
    mask = np.arange(70) < lengths[:, None]
    assert mask.sum() > FEWEST_ROWS
    x = np.where(mask[..., None], rng.normal(size=(1200, 70, 2)), np.nan).astype("float32")
    rows = rng.normal(size=(1200, 2)).astype("float32")
    found = []
    for compiles in (True, False):
        with compiling(compiles), tf.GradientTape() as tape:
            packing = Packing(tf.constant(mask))
            given, spread = tf.constant(x), tf.constant(rows)
            tape.watch([given, spread])
            packed = packing.pack(given) * packing.spread(spread)
            dense, sums = packing.unpack(packed), packing.sum(packed)
            loss = tf.reduce_sum(dense**2) + tf.reduce_sum(sums**3)
        gradients = [tf.convert_to_tensor(part) for part in tape.gradient(loss, [given, spread])]
        found.append([dense, sums, *gradients])
        size = SIZES[SIZES >= mask.sum()][0]
        assert packed.shape[0] == (size if compiles else mask.sum())
        assert float(tf.reduce_sum(packing.weights)) == mask.sum()
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_an_encoder_over_a_filled_packing(rng):
    lengths = rng.integers(1, 30, 200)
    mask = np.arange(30) < lengths[:, None]
    assert mask.sum() > FEWEST_ROWS and mask.sum() not in SIZES
    x = np.where(mask[..., None], rng.normal(size=(200, 30, 4)), np.nan).astype("float32")
    encoder = Encoder(EncoderConfig(width=8, heads=2, layers=2, positions=20))
    encoder.build((None, 4))
    found = []
    for compiles in (True, False):
        with compiling(compiles), tf.GradientTape() as tape:
            packing = Packing(tf.constant(mask))
            means = packing.mean(encoder(packing.pack(tf.constant(x)), packing=packing))
            loss = tf.reduce_sum(means**3)
        weights = [variable.value for variable in encoder.trainable_variables]
        found.append([means, *map(tf.convert_to_tensor, tape.gradient(loss, weights))])
    assert packing.positions.shape[0] == mask.sum()
    for one, other in zip(*found):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * scale)
