"""Sums over pairs of fields, split between the sides, against the oracles."""

import numpy as np
import pytest

from ctr_tf.layers import (
    FieldMatrices,
    FieldWeights,
    pair_state,
    pair_sums,
)
from tests.layers.sides import COUNTS, assert_each, ids, random_sides, summed
from tests.oracles.interaction import fmfm_forward, fwfm_forward
from tests.weights import array, field_matrices, field_strengths, randomise

WIDTHS = [
    {"user": [2, 3], "context": [1, 4], "candidate": [3, 2, 1]},
    {"user": [2, 3], "context": [], "candidate": [4]},
    {"user": [2, 1, 3], "context": [2], "candidate": []},
    {"user": [], "context": [], "candidate": [1, 3]},
]


def of_pairs(pairs, sides):
    user, context, candidates = sides
    state = {} if user is None else pair_state(pairs, user)
    return summed(pair_sums(pairs, state, context, candidates))


def zeros(x):
    return np.zeros((1, x.shape[1]))


@pytest.mark.parametrize("counts", COUNTS, ids=ids)
def test_field_weights(rng, counts):
    widths = {side: [4] * count for side, count in counts.items()}
    pairs, sides = FieldWeights(counts, 4), random_sides(rng, widths)
    count = sum(counts.values())
    assert pairs.count_params() == count * (count - 1) // 2
    if count > 1:
        np.testing.assert_array_equal(array(pairs.strengths), 1)
        randomise(pairs, rng)
    strengths = field_strengths(pairs) if count > 1 else np.zeros((1, 1))

    def expected(x):
        x = x.reshape(1, count, 4)
        return fwfm_forward(x, strengths, zeros(x), 0.0)

    assert_each(of_pairs(pairs, sides), sides, expected)


@pytest.mark.parametrize("widths", WIDTHS, ids=ids)
def test_field_matrices(rng, widths):
    pairs, sides = FieldMatrices(widths), random_sides(rng, widths)
    each = [width for own in widths.values() for width in own]
    matrices = field_matrices(pairs)
    for i, j, matrix in zip(*np.triu_indices(len(each), 1), matrices, strict=True):
        assert matrix.shape == (each[i], each[j])
        # Uniform up to the limit of its own size.
        assert np.abs(matrix).max() <= np.sqrt(6 / (each[i] + each[j]))
    assert pairs.count_params() == sum(matrix.size for matrix in matrices)
    randomise(pairs, rng)

    def expected(x):
        fields = np.split(x, np.cumsum(each)[:-1], axis=1)
        return fmfm_forward(fields, field_matrices(pairs), np.zeros((1, len(each))), 0.0)

    assert_each(of_pairs(pairs, sides), sides, expected)


def test_the_users_messages_are_sums_over_its_fields():
    pairs = FieldWeights({"user": 2, "context": 0, "candidate": 2}, 2)
    # r_01, r_02, r_03, r_12, r_13, r_23
    pairs.strengths.assign([2.0, 3.0, 5.0, 7.0, 11.0, 13.0])
    user = np.array([[1.0, 0.0, 0.0, 1.0]], "float32")
    state = pair_state(pairs, user)
    assert sorted(state) == ["pairs", "to_candidate"]
    np.testing.assert_array_equal(state["to_candidate"], [[3, 7, 5, 11]])
    np.testing.assert_array_equal(state["pairs"], [[0]])
