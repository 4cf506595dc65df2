"""Product signals, split between the sides, against the oracles."""

import numpy as np
import pytest

from ctr_tf.layers import (
    InnerProducts,
    KernelProducts,
    by_field,
    outer_product,
    per_candidate,
    product_sizes,
)
from ctr_tf.layers.interaction.products import upper
from tests.layers.sides import COUNTS, MASK, assert_each, ids, random_sides, signal_pairs
from tests.oracles.pnn import inner_products, kernel_products, outer_products
from tests.weights import field_matrices, randomise

WIDTH = 2


def signals(products, counts, sides):
    """All signals of each candidate, (B, N, P), in the order of `product_sizes`."""
    present = {name: x for name, x in zip(counts, sides) if x is not None}
    fields = {name: by_field(x, WIDTH) for name, x in present.items()}
    found = {name: products.of_side(name, x) for name, x in fields.items()}
    parts = []
    for part, size in product_sizes(counts).items():
        side, other = part.split("_")
        if not size:
            continue
        own, sent = found[side]
        signal = own if side == other else products.across(sent[other], fields[other])
        assert signal.shape[-1] == size
        parts.append(signal if other == "candidate" else per_candidate(signal, MASK))
    return np.concatenate(parts, axis=-1)


@pytest.mark.parametrize("kind", ["inner", "kernel"])
@pytest.mark.parametrize("counts", [c for c in COUNTS if sum(c.values()) > 1], ids=ids)
def test_signals_of_all_pairs(rng, kind, counts):
    count = sum(counts.values())
    sides = random_sides(rng, {side: [WIDTH] * own for side, own in counts.items()})
    pairs = list(zip(*np.triu_indices(count, 1)))
    assert sorted(signal_pairs(counts)) == pairs
    if kind == "inner":
        products, oracle = InnerProducts(counts), lambda x: inner_products(x, "upper")
    else:
        products = randomise(KernelProducts(counts, WIDTH), rng)
        assert products.count_params() == len(pairs) * WIDTH**2
        oracle = lambda x: kernel_products(x, np.stack(field_matrices(products.kernels)))
    found = signals(products, counts, sides)
    order = [signal_pairs(counts).index(pair) for pair in pairs]
    assert_each(found[..., order], sides, lambda x: oracle(x.reshape(1, count, WIDTH)))


def test_outer_product(rng):
    fields = rng.normal(size=(3, 4, 5, 2)).astype("float32")
    found = np.asarray(outer_product(fields.sum(axis=2)))
    expected = outer_products(fields.reshape(12, 5, 2)).reshape(3, 4, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_upper(rng):
    pairs = rng.normal(size=(2, 5, 5))
    np.testing.assert_array_equal(upper(pairs), pairs[:, *np.triu_indices(5, 1)])
    assert upper(pairs[:, :1, :1]) is None
