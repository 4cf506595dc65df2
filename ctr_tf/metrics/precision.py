"""Precision among the best-scored candidates of each request."""

import numpy as np
from numpy.typing import ArrayLike

from ctr_tf.metrics.rows import check_rows
from ctr_tf.metrics.value import MetricValue


def precision_at_n(
    labels: ArrayLike,
    scores: ArrayLike,
    requests: ArrayLike,
    n: int,
    weights: ArrayLike | None = None,
) -> MetricValue:
    """Share of positives among the n best-scored candidates, averaged over requests.

    A request of N < n candidates is divided by N, so that a short request can still reach 1.
    Where the cut falls into tied scores, the tied candidates share the places left: the value is
    the expectation over a random order of ties. Weights only mask: every request counts the same,
    requests without a positive included.

    Args:
        labels: 0 or 1, (M,).
        scores: higher means more likely positive, (M,).
        requests: integer codes, (M,).
        n: candidates taken from each request, at least 1.
        weights: rows of weight 0 are masked, (M,).

    Raises:
        ValueError: shapes differ, a value breaks its rule, or n is below 1.

    Example:
        >>> print(precision_at_n([1, 0, 0, 1, 1], [0.9, 0.5, 0.1, 0.2, 0.7], [0, 0, 0, 1, 1], 2))
        0.7500
    """
    if n < 1:
        raise ValueError(f"`n` must be at least 1, received {n}")
    rows = check_rows(labels, scores, weights)
    requests = rows.column("requests", requests)
    if len(rows.labels) == 0:
        return MetricValue.undefined("no rows", requests=0)

    order = np.lexsort((-rows.scores, requests))
    requests, ranked, hits = requests[order], rows.scores[order], rows.labels[order]
    first = np.concatenate([[True], requests[1:] != requests[:-1]])
    first_of_tie = first | np.concatenate([[True], ranked[1:] != ranked[:-1]])
    request_starts, tie_starts = np.flatnonzero(first), np.flatnonzero(first_of_tie)
    sizes = np.diff(request_starts, append=len(hits))
    tie_sizes = np.diff(tie_starts, append=len(hits))

    rank_of_tie = tie_starts - np.repeat(request_starts, sizes)[tie_starts]
    taken = np.clip(n - rank_of_tie, 0, tie_sizes)
    expected_hits = np.add.reduceat(hits, tie_starts) * taken / tie_sizes
    ties_before_request = np.searchsorted(tie_starts, request_starts)
    hits_of_request = np.add.reduceat(expected_hits, ties_before_request)
    precision = hits_of_request / np.minimum(n, sizes)
    return MetricValue(
        float(precision.mean()),
        details={
            "requests": len(sizes),
            "requests_shorter_than_n": int(np.count_nonzero(sizes < n)),
            "requests_without_positive": int(
                np.count_nonzero(np.add.reduceat(hits, request_starts) == 0)
            ),
        },
    )
