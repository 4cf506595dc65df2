"""Exact area under the ROC curve, over all rows or within groups."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctr_tf.metrics.rows import check_rows
from ctr_tf.metrics.value import MetricValue


@dataclass(frozen=True)
class PairSums:
    """Per group, what AUC is made of: won pairs (ties half) and the weight of either class.

    Args:
        groups: the distinct groups, ascending, (G,).
        rows: rows of each group, (G,).
        wins: weight of (positive, negative) pairs in which the positive scores higher, ties
            half, (G,).
        positives: weight of the positives, (G,).
        negatives: weight of the negatives, (G,).
    """

    groups: NDArray
    rows: NDArray[np.int64]
    wins: NDArray[np.float64]
    positives: NDArray[np.float64]
    negatives: NDArray[np.float64]

    @property
    def defined(self) -> NDArray[np.bool_]:
        """Whether each group holds both classes, (G,)."""
        return (self.positives > 0) & (self.negatives > 0)

    @property
    def auc(self) -> NDArray[np.float64]:
        """AUC of each group, NaN where it holds one class only, (G,)."""
        pairs = self.positives * self.negatives
        return np.divide(self.wins, pairs, out=np.full_like(pairs, np.nan), where=self.defined)


class RankedScores:
    """Rows sorted by score within their group once, so that new weights cost O(n), not a sort.

    Args:
        labels: 0 or 1, (M,) with M at least 1.
        scores: finite, (M,).
        groups: integers, (M,); one group by default.

    Example:
        >>> ranked = RankedScores(np.array([0, 1, 1]), np.array([0.2, 0.2, 0.9]))
        >>> ranked.pair_sums(np.ones(3)).auc
        array([0.75])
    """

    def __init__(
        self, labels: NDArray, scores: NDArray, groups: NDArray[np.integer] | None = None
    ) -> None:
        if groups is None:
            groups = np.zeros(len(scores), dtype=np.int64)
            self.order = np.argsort(scores)
        else:
            self.order = np.lexsort((scores, groups))
        groups, scores = groups[self.order], scores[self.order]
        first_of_group = np.concatenate([[True], groups[1:] != groups[:-1]])
        first_of_tie = first_of_group | np.concatenate([[True], scores[1:] != scores[:-1]])
        self._tie_starts = np.flatnonzero(first_of_tie)
        self._group_starts = np.flatnonzero(first_of_group[self._tie_starts])
        self._ties_per_group = np.diff(self._group_starts, append=len(self._tie_starts))
        self._groups = groups[first_of_group]
        self._rows = np.diff(np.flatnonzero(first_of_group), append=len(groups))
        self._labels = labels[self.order].astype(np.float64)

    def pair_sums(self, weights: NDArray) -> PairSums:
        """Sums per group under the given weights, in the order the rows were given, (M,)."""
        weights = weights[self.order]
        weighted_positives = weights * self._labels
        positives = np.add.reduceat(weighted_positives, self._tie_starts)
        negatives = np.add.reduceat(weights - weighted_positives, self._tie_starts)
        below = np.cumsum(negatives) - negatives
        below -= np.repeat(below[self._group_starts], self._ties_per_group)
        wins = positives * (below + negatives / 2)
        return PairSums(
            self._groups,
            self._rows,
            np.add.reduceat(wins, self._group_starts),
            np.add.reduceat(positives, self._group_starts),
            np.add.reduceat(negatives, self._group_starts),
        )


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> MetricValue:
    """Exact AUC: the weighted share of (positive, negative) pairs in the right order, ties half.

    Args:
        labels: 0 or 1, (M,).
        scores: higher means more likely positive, (M,).
        weights: sample weights, (M,); rows of weight 0 are masked.

    Raises:
        ValueError: shapes differ or a value breaks its rule.

    Example:
        >>> print(auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))
        0.7500
        >>> print(auc([1, 1], [0.1, 0.4]))
        undefined (one class only: 2 positives, 0 negatives)
    """
    rows = check_rows(labels, scores, weights)
    undefined = undefined_for_one_class(rows.labels)
    if undefined is not None:
        return undefined
    sums = RankedScores(rows.labels, rows.scores).pair_sums(rows.weights)
    return MetricValue(float(sums.auc[0]), details=class_counts(rows.labels))


def class_counts(labels: NDArray) -> dict[str, int]:
    """How many rows of either class there are."""
    positives = int(np.count_nonzero(labels))
    return {"positives": positives, "negatives": len(labels) - positives}


def undefined_for_one_class(labels: NDArray) -> MetricValue | None:
    """The undefined value of a metric that needs both classes, or None where both are there."""
    counts = class_counts(labels)
    if len(labels) == 0:
        return MetricValue.undefined("no rows", **counts)
    if 0 in counts.values():
        reason = f"one class only: {counts['positives']} positives, {counts['negatives']} negatives"
        return MetricValue.undefined(reason, **counts)
    return None
