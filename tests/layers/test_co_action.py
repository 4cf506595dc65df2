"""The co-action unit against loops."""

import numpy as np
import pytest

from ctr_tf.layers import CoAction
from tests.oracles.can import co_action_sequence, induction_count

MASK = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)


@pytest.mark.parametrize("orders", [1, 3])
@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("biases, last", [(True, True), (False, False)])
@pytest.mark.parametrize("combine", ["sum", "concat"])
def test_co_actions_are_those_of_each_pair(rng, orders, independent, biases, last, combine):
    unit = CoAction(3, [4, 2], orders, independent, biases, last, combine)
    assert unit.width == induction_count([3, 4, 2], biases, orders, independent)
    feed = rng.normal(size=(3, 4, 3)).astype("float32")
    induction = rng.normal(size=(3, 2, unit.width)).astype("float32")
    options = {
        "orders": orders,
        "independent": independent,
        "biases": biases,
        "last_activation": "tanh" if last else None,
        "combine": combine,
    }
    for mask in (MASK, None):
        found = unit(feed, mask, induction)
        assert found.shape == (3, 2, unit.output_width)
        for b, n in np.ndindex(3, 2):
            valid = np.ones(4, bool) if mask is None else mask[b]
            expected = co_action_sequence(feed[b], valid, induction[b, n], [3, 4, 2], **options)
            np.testing.assert_allclose(found[b, n], expected, atol=1e-4)
