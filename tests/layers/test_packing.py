"""Packing: where valid positions go, and that nothing is unpacked only to be packed again."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers.packing import Packing, padded

MASK = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)


def test_positions_and_owners():
    packing = Packing.of(tf.constant(MASK))
    assert packing.positions.numpy().tolist() == [0, 1, 6, 9, 10, 11]
    assert packing.owner.numpy().tolist() == [0, 0, 2, 3, 3, 3]
    with padded():
        packing = Packing.of(tf.constant(MASK))
    assert packing.owner.numpy().tolist() == [i for i in range(5) for _ in range(3)]
    np.testing.assert_array_equal(packing.weights, MASK.reshape(-1))


@pytest.mark.parametrize("whole", [False, True])
def test_values_and_gradients_are_those_of_the_padded_form(rng, whole):
    x = tf.constant(rng.normal(size=(5, 3, 2)), tf.float32)
    y = tf.constant(rng.normal(size=(5, 2)), tf.float32)
    up = rng.normal(size=(5, 3, 2)).astype("float32")

    def form():
        packing = Packing.of(tf.constant(MASK))
        with tf.GradientTape() as tape:
            tape.watch([x, y])
            packed = packing.pack(x) * packing.spread(y)
            dense, sums = packing.unpack(packed), packing.sum(packed)
            loss = tf.reduce_sum(dense * up) + tf.reduce_sum(sums * up[:, 0])
        return dense, sums, *map(tf.convert_to_tensor, tape.gradient(loss, [x, y]))

    if whole:
        with padded():
            found = form()
    else:
        found = form()
    valid = MASK[..., None]
    dense = x * y[:, None] * valid
    upstream = (up + up[:, :1]) * valid
    expected = [dense, dense.numpy().sum(1), upstream * y[:, None], (upstream * x).numpy().sum(1)]
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_no_position_at_all():
    packing = Packing.of(tf.zeros((2, 3), tf.bool))
    packed = packing.pack(tf.ones((2, 3, 4)))
    assert packed.shape == (0, 4)
    np.testing.assert_array_equal(packing.sum(packed), np.zeros((2, 4)))
    np.testing.assert_array_equal(packing.unpack(packed), np.zeros((2, 3, 4)))


def test_what_was_unpacked_is_not_packed_again():
    traced = []

    @tf.function
    def double(x, mask):
        packing = Packing.of(mask)
        dense = packing.unpack(2 * packing.pack(x))
        assert Packing.of(mask) is packing
        traced.append(packing.pack(dense).op.type)
        return packing.sum(packing.pack(dense))

    x = tf.reshape(tf.range(15.0), (5, 3))
    sums = double(x, tf.constant(MASK))
    np.testing.assert_array_equal(sums, [2.0, 0.0, 12.0, 60.0, 0.0])
    assert traced == ["Mul"]
    # In another graph, and eagerly, the same mask has another packing.
    mask = tf.constant(MASK)
    first = Packing.of(mask)
    np.testing.assert_array_equal(double(x, mask), sums)
    assert Packing.of(mask) is first


@pytest.mark.parametrize("length", [2, 4])
def test_values_of_another_length_than_the_mask_are_an_error(length):
    packing = Packing.of(tf.constant(MASK))
    with pytest.raises(tf.errors.InvalidArgumentError, match="requested shape"):
        packing.pack(tf.ones((5, length, 2)))
