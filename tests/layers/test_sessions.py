"""Division into sessions against loops, and the interests of sessions."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import SessionInterests, Sessions
from ctr_tf.layers.packing import padded
from tests.layers.encoder import block_weights
from tests.oracles.dsin import Extractor, divide_sessions, session_interests, session_rows
from tests.weights import array, randomise


def log(rng, batch=6, length=12):
    mask = np.arange(length) < np.array([length, 0, 1, 7, 5, 3])[:batch, None]
    times = np.cumsum(rng.choice([0, 5, 10, 11, 40], mask.shape), axis=1) + 1_700_000_000
    x = rng.normal(size=(*mask.shape, 4)).astype("float32")
    return np.where(mask, times, 0), mask, np.where(mask[..., None], x, np.float32(0))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("sessions, length", [(3, 2), (1, 1), (20, 20), (2, 5)])
def test_division_is_that_of_each_sequence(rng, sessions, length, dtype):
    times, mask, x = log(rng)
    found = Sessions(tf.constant(times.astype(dtype)), tf.constant(mask), sessions, length, 10)
    rows = found.rows(tf.constant(x))
    for b in range(len(mask)):
        divided = divide_sessions(times[b], mask[b], sessions, length, 10)
        expected, valid = session_rows(x[b], divided, sessions, length)
        np.testing.assert_array_equal(found.mask[b], valid)
        np.testing.assert_array_equal(found.present[b], valid.any(axis=1))
        np.testing.assert_allclose(rows[b], expected)


def test_no_behaviours_at_all_are_no_session():
    found = Sessions(tf.zeros((2, 0), tf.int64), tf.zeros((2, 0), tf.bool), 3, 2, 10)
    assert not found.mask.numpy().any() and found.mask.shape == (2, 3, 2)
    np.testing.assert_array_equal(found.rows(tf.zeros((2, 0, 4))), np.zeros((2, 3, 2, 4)))


@pytest.mark.parametrize("whole", [False, True])
def test_interests_are_those_of_each_session(rng, whole):
    times, mask, x = log(rng)
    layer = randomise(SessionInterests(4, 2, 5, sessions=3, length=3), rng)
    block = block_weights(layer.block)
    weights = Extractor(
        array(layer.bias_session),
        array(layer.bias_position),
        array(layer.bias_unit),
        *(block[name] for name in ("projection", "output", "feed_forward", "norms")),
    )

    def run():
        sessions = Sessions(tf.constant(times), tf.constant(mask), 3, 3, 10)
        return layer(tf.constant(x), sessions=sessions)

    if whole:
        with padded():
            found = run()
    else:
        found = run()
    for b in range(len(mask)):
        rows, valid = session_rows(x[b], divide_sessions(times[b], mask[b], 3, 3, 10), 3, 3)
        expected, _ = session_interests(rows, valid, 2, weights, scale="head")
        np.testing.assert_allclose(found[b], expected, atol=1e-4)
