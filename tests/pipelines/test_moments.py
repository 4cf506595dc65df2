"""Moments against NumPy, added and merged."""

import numpy as np
import pytest

from pipelines.transforms.moments import Moments


@pytest.mark.parametrize("normalise", ["standard", "log"])
def test_moments_match_numpy(rng, normalise):
    values = rng.normal(1000, 3, size=500)
    times = rng.integers(1, 4, size=500)
    parts = []
    for chunk in range(5):
        part = Moments()
        for value, n in zip(values[chunk::5].tolist(), times[chunk::5].tolist()):
            part.add(value, n, normalise)
        parts.append(part.state())
    expected = np.repeat(values, times)
    if normalise == "log":
        expected = np.sign(expected) * np.log1p(np.abs(expected))
    assert Moments.merge(parts).summary() == pytest.approx(
        {
            "count": len(expected),
            "mean": expected.mean(),
            "std": expected.std(),
            "minimum": expected.min(),
            "maximum": expected.max(),
        },
        rel=1e-12,
    )
