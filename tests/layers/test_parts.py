"""Attention over rows and over parts against loops."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import PartAttention, RowAttention
from tests.oracles.mian import global_interaction, item_fields, item_rows, row_attention
from tests.weights import array, randomise

MASK = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)


@pytest.mark.parametrize("own", [None, 4])
def test_rows_are_weighed_with_the_candidate_before_each(rng, own):
    layer = randomise(RowAttention(3, 2, rows=own), rng)
    target = rng.normal(size=(3, 2, 3)).astype("float32")
    rows = rng.normal(size=(3, 4, 2)).astype("float32")
    kernel, bias = array(layer.kernel), array(layer.bias)
    score = (kernel[0], bias[0]) if own is None else (kernel, bias)
    masked = layer(target, rows, layer.score(rows), MASK)
    every = layer(target, rows, layer.score(rows))
    for b, n in np.ndindex(3, 2):
        expected = row_attention(item_rows(target[b, n], rows[b]), MASK[b], score)[1]
        np.testing.assert_allclose(masked[b, n], expected, atol=1e-5)
        expected = item_fields(target[b, n], rows[b], score)
        np.testing.assert_allclose(every[b, n], expected, atol=1e-5)


@pytest.mark.parametrize("combine", ["sum", "concat"])
def test_parts_are_weighed_with_each_other(rng, combine):
    layer = randomise(PartAttention({"user": 3, "item": 2, "other": 1}, 4, combine), rng)
    x = {
        "user": rng.normal(size=(2, 3)).astype("float32"),
        "item": rng.normal(size=(2, 5, 2)).astype("float32"),
        "other": rng.normal(size=(2, 1)).astype("float32"),
    }
    found = layer({name: layer.project(name, tf.constant(value)) for name, value in x.items()})
    assert found.shape == (2, 5, layer.output_width)
    projections = [(array(layer.kernels[name]), array(layer.biases[name])) for name in x]
    scores = [(array(layer.scores[name])[:-1], array(layer.scores[name])[-1]) for name in x]
    for b, n in np.ndindex(2, 5):
        parts = [value[b, n] if value.ndim == 3 else value[b] for value in x.values()]
        expected = global_interaction(parts, scores, projections, combine)
        np.testing.assert_allclose(found[b, n], expected, atol=1e-5)
