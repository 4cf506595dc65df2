"""Random fields of three sides, and what they are side by side for each candidate."""

import numpy as np

from ctr_tf.layers import over_candidates, product_sizes

BATCH, CANDIDATES = 3, 4
MASK = np.ones((BATCH, CANDIDATES), bool)

# Number of fields of each side: with all of them, and with one or two absent.
COUNTS = [
    {"user": 3, "context": 2, "candidate": 3},
    {"user": 2, "context": 0, "candidate": 1},
    {"user": 1, "context": 1, "candidate": 0},
    {"user": 3, "context": 0, "candidate": 0},
    {"user": 0, "context": 2, "candidate": 2},
    {"user": 0, "context": 0, "candidate": 4},
    {"user": 0, "context": 0, "candidate": 1},
]


def random_sides(rng, widths):
    """One side after another: (B, W) of user and context, (B, N, W) of candidates, None without
    a field."""
    shapes = {"user": (BATCH,), "context": (BATCH,), "candidate": (BATCH, CANDIDATES)}
    return [
        rng.normal(size=(*shapes[side], sum(own))).astype("float32") if own else None
        for side, own in widths.items()
    ]


def side_by_side(sides, b, n):
    """All fields of one candidate laid end to end, (1, W)."""
    user, context, candidates = sides
    parts = [None if x is None else x[b] for x in (user, context)]
    parts.append(None if candidates is None else candidates[b, n])
    return np.concatenate([x for x in parts if x is not None])[None]


def assert_each(found, sides, expected):
    """Every candidate's values, (B, N, ...), against expected((1, W)), whose batch is of one."""
    found = np.asarray(found)
    for b in range(BATCH):
        for n in range(CANDIDATES):
            wanted = expected(side_by_side(sides, b, n))[0]
            np.testing.assert_allclose(found[b, n], wanted, rtol=1e-4, atol=1e-4)


def ids(widths):
    """The name of a test with these fields."""
    return "-".join(str(own) for own in widths.values())


def summed(sums):
    """What `pair_sums` and the like return, added up: (B, N)."""
    parts = over_candidates(*sums, MASK)
    return np.asarray(sum(parts))[..., 0] if parts else np.zeros(MASK.shape)


def signal_pairs(counts):
    """The pair of fields that each signal is of: parts as `product_sizes` has them, in order."""
    names, start, fields = list(counts), 0, {}
    for name in names:
        fields[name] = range(start, start + counts[name])
        start += counts[name]
    found = []
    for part in product_sizes(counts):
        side, other = part.split("_")
        if side == other:
            found += [(i, j) for i in fields[side] for j in fields[side] if i < j]
        else:
            found += [(i, j) for j in fields[other] for i in fields[side]]
    return found
