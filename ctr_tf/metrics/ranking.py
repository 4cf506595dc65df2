"""Next-item metrics over a catalogue."""

import numpy as np
from numpy.typing import ArrayLike

from ctr_tf.metrics.value import MetricValue


def next_item(above: ArrayLike, tied: ArrayLike, k: int) -> dict[str, MetricValue]:
    """HR@k, NDCG@k and MRR of one target a row, means over rows.

    With rank r from 1: HR is 1 where r <= k, NDCG 1 / log2(r + 1) there, MRR 1 / r. Items that
    score as the target does stand in random order, so that each metric is its expectation.

    Args:
        above: items that score higher than the target, (B,); infinite where the target is not of
            the catalogue, which counts as a miss.
        tied: other items that score the same, (B,).
        k: cut-off.

    Raises:
        ValueError: shapes differ, a count is negative, or k is below 1.

    Example:
        >>> {name: round(v.value, 4) for name, v in next_item([0, 2], [0, 1], 3).items()}
        {'hr': 0.75, 'ndcg': 0.625, 'mrr': 0.6458}
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1, received {k}")
    above, tied = np.asarray(above, np.float64), np.asarray(tied, np.int64)
    if above.shape != tied.shape or above.ndim != 1:
        raise ValueError(
            f"`above` and `tied` must be of one shape (B,), received {above.shape} and {tied.shape}"
        )
    if (above < 0).any() or (tied < 0).any():
        raise ValueError("`above` and `tied` must not be negative")
    names = ("hr", "ndcg", "mrr")
    if not len(above):
        return {name: MetricValue.undefined("no rows", rows=0) for name in names}
    owner = np.repeat(np.arange(len(above)), tied + 1)
    first = np.cumsum(tied + 1) - tied - 1
    rank = 1 + above[owner] + np.arange(len(owner)) - first[owner]
    share = 1.0 / (tied + 1)[owner] / len(above)
    hits = rank <= k
    found = (hits, hits / np.log2(rank + 1), 1 / rank)
    details = {"rows": len(above), "outside": int(np.isinf(above).sum())}
    return {
        name: MetricValue(float(np.sum(share * value)), details=details)
        for name, value in zip(names, found)
    }
