"""Pairs of field-aware vectors, split between the sides, against the oracle."""

import pytest

from ctr_tf.layers import FieldAwarePairs
from tests.layers.sides import COUNTS, assert_each, ids, random_sides, summed
from tests.oracles.interaction import ffm_forward


@pytest.mark.parametrize("counts", COUNTS, ids=ids)
def test_field_aware_pairs(rng, counts):
    count, width = sum(counts.values()), 2
    pairs = FieldAwarePairs(counts, width)
    widths = {side: [count * width] * own for side, own in counts.items()}
    sides = random_sides(rng, widths)
    user, context, candidates = sides
    state = {} if user is None else pairs.state(user)
    found = summed(pairs.sums(state, context, candidates))
    assert_each(found, sides, lambda x: ffm_forward(x.reshape(1, count, count, width)))
