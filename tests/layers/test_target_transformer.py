"""A transformer with the candidate last against one over all rows; its model has more cases."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import TargetTransformer
from ctr_tf.layers.attention.multi_head import attend, attend_with_mass, with_one_more
from ctr_tf.layers.packing import Packing, padded
from tests.layers.encoder import block_weights
from tests.oracles.bst import (
    Block,
    bst_encode,
    bst_pool,
    bst_rows,
    index_positions,
    log_bucket,
    time_positions,
)
from tests.weights import array, randomise

MASK = np.arange(6) < np.array([6, 0, 3, 1])[:, None]
CANDIDATES = np.array([[1, 1], [1, 1], [1, 0], [1, 1]], bool)


KEYS = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)


def run(layer, x, target, times=None, now=None):
    packing = Packing.of(tf.constant(MASK))
    parts = layer.of_user(packing.pack(tf.constant(x)), tf.constant(MASK), times)
    return layer(parts, tf.constant(target), tf.constant(CANDIDATES), now=now)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("pool", ["mean", "target"])
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("timed", [False, True])
def test_rows_are_those_of_the_whole_transformer(rng, whole, pool, blocks, timed):
    layer = TargetTransformer(4, 2, blocks, 5, positions=5, position_width=2, pool=pool)
    randomise(layer, rng)
    x = np.where(MASK[..., None], rng.normal(size=(4, 6, 4)), 0).astype("float32")
    target = rng.normal(size=(4, 2, 3)).astype("float32")
    times = rng.integers(0, 20, MASK.shape) if timed else None
    now = np.array([25, 20, 21, 19]) if timed else None
    if whole:
        with padded():
            found = run(layer, x, target, times, now)
    else:
        found = run(layer, x, target, times, now)
    blocks = [block_weights(block) for block in layer.blocks]
    names = ("projection", "output", "feed_forward", "norms")
    blocks = [Block(*(weights[name] for name in names)) for weights in blocks]
    for b, n in np.argwhere(CANDIDATES):
        if timed:
            index = time_positions(times[b], MASK[b], now[b], 5)
        else:
            index = np.minimum(index_positions(MASK[b], "recency"), 4)
        own = np.append(target[b, n], 0)
        rows = bst_rows(x[b], own, index, array(layer.positions))
        encoded = bst_encode(rows, MASK[b], 2, blocks, 0.2)
        np.testing.assert_allclose(found[b, n], bst_pool(encoded, MASK[b], pool), atol=1e-4)


def test_buckets_are_powers_of_two_of_the_unit():
    layer = TargetTransformer(4, 2, positions=40, position_width=0, unit=60)
    since = np.array([-9, 0, 59, 60, 179, 180, 10**6, 2**31 - 2])
    now = 2_000_000_000
    found = layer._buckets(tf.constant((now - since)[None]), tf.constant([now]))
    expected = [log_bucket(d, 40, unit=60) for d in since]
    np.testing.assert_array_equal(found[0], expected)


def test_one_more_key_is_as_if_it_had_been_there(rng):
    queries, keys, values = (rng.normal(size=(3, 2, 4, 5)).astype("float32") for _ in range(3))
    more = [rng.normal(size=(3, 2, 1, 5)).astype("float32") for _ in range(2)]
    longer = [np.concatenate(pair, axis=2) for pair in zip((keys, values), more)]
    mask = np.concatenate([KEYS, np.ones((3, 1), bool)], axis=1)
    expected = attend(*map(tf.constant, [queries, *longer]), tf.constant(mask))
    attended, mass = attend_with_mass(*map(tf.constant, [queries, keys, values, KEYS]))
    score = (queries * more[0]).sum(-1)
    found = with_one_more(attended, mass, score, tf.constant(more[1]))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    alone = attend(*map(tf.constant, [queries[:2], keys[:2], values[:2], KEYS[:2]]))
    np.testing.assert_allclose(attended[:2], alone, atol=1e-5)
