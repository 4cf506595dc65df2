"""The auxiliary loss against loops, and where its negatives come from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import NextBehaviourLoss, Packing
from ctr_tf.layers.packing import padded
from tests.oracles.dien import auxiliary_loss
from tests.weights import array, layer_pair, randomise

MASK = np.arange(5) < np.array([5, 0, 3, 1, 2])[:, None]


def drawn(layer, mask):
    packing = Packing.of(tf.constant(mask))
    index, others = layer._drawn(packing)
    return packing, index.numpy(), others.numpy()


@pytest.mark.parametrize("units", [[], [4]])
@pytest.mark.parametrize("whole", [False, True])
def test_the_loss_is_that_of_each_step(rng, units, whole):
    layer = randomise(NextBehaviourLoss(3, 3, units), rng)
    states, x = (rng.normal(size=(5, 5, 3)).astype("float32") for _ in range(2))

    def run():
        packing = Packing.of(tf.constant(MASK))
        state = layer.seed.state.numpy()
        index, _ = layer._drawn(packing)
        layer.seed.state.assign(state)
        packed = [packing.pack(tf.constant(value)) for value in (states, x)]
        loss = layer(*packed, packing=packing)
        return loss, packing.unpack(tf.gather(packed[1], index))

    if whole:
        with padded():
            loss, sampled = run()
    else:
        loss, sampled = run()
    # The oracle's negative of behaviour t + 1 is the one drawn at t.
    negatives = np.roll(array(sampled), 1, axis=1)
    layers = None
    if units:
        layers = [*map(layer_pair, layer.mlp.dense), layer_pair(layer.score)]
    for b in range(5):
        one = slice(b, b + 1)
        expected = auxiliary_loss(states[one], x[one], negatives[one], MASK[one], layers)
        np.testing.assert_allclose(loss[b], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("whole", [False, True])
def test_negatives_are_valid_behaviours_of_other_sequences_evenly(whole):
    layer = NextBehaviourLoss(3, 3)

    def run():
        counts = {}
        for _ in range(300):
            packing, index, others = drawn(layer, MASK)
            owner, weights = packing.owner.numpy(), packing.weights.numpy()
            assert others[weights > 0].all()
            assert (weights[index[weights > 0]] > 0).all()
            assert (owner[index] != owner)[weights > 0].all()
            first = index[(owner == 2) & (weights > 0)]
            for position in first:
                counts[position] = counts.get(position, 0) + 1
        return counts

    if whole:
        with padded():
            counts = run()
    else:
        counts = run()
    # Of 11 behaviours 8 are of others than sequence 2; it draws for 3, 300 times.
    assert len(counts) == 8
    assert min(counts.values()) > 70 and max(counts.values()) < 160


@pytest.mark.parametrize("mask", [MASK[:2], np.zeros((2, 3), bool)], ids=["one", "none"])
def test_without_another_sequence_there_is_no_loss(rng, mask):
    layer = NextBehaviourLoss(3, 3)
    packing = Packing.of(tf.constant(mask))
    x = tf.constant(rng.normal(size=(int(mask.sum()), 3)).astype("float32"))
    np.testing.assert_array_equal(layer(x, x, packing=packing), np.zeros(2))


def test_draws_follow_from_the_seed():
    found = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        layer = NextBehaviourLoss(3, 3)
        found.append([drawn(layer, MASK)[1].tolist() for _ in range(2)])
    assert found[0] == found[1] and found[0][0] != found[0][1]
