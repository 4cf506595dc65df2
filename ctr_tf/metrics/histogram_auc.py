"""AUC from counts per score bin: mergeable, of fixed size, with a hard error bound."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctr_tf.metrics.probability import check_probabilities
from ctr_tf.metrics.value import MetricValue

DEFAULT_BINS = 2**16


@dataclass(frozen=True)
class HistogramAuc:
    """Weights of both classes in equal bins of the score, from which AUC follows within a bound.

    A pair of one positive and one negative in different bins is counted exactly; a pair in the
    same bin is counted half and is truly worth 0, 1/2 or 1. So the error is at most

        sum_b P_b N_b / (2 P N)

    with P_b, N_b the weights in bin b and P, N their sums. The bound needs no assumption on the
    scores. Merging adds the bins: any split of the rows gives the same result.

    Args:
        positives: weight of the positives in each bin of [0, 1], (bins,).
        negatives: weight of the negatives in each bin of [0, 1], (bins,).

    Example:
        >>> first = HistogramAuc.of([0, 1], [0.1, 0.8], bins=10)
        >>> second = HistogramAuc.of([0, 1], [0.3, 0.2], bins=10)
        >>> value = first.merge(second).auc()
        >>> print(value, value.details["error_bound"])
        0.7500 0.0
    """

    positives: NDArray[np.float64]
    negatives: NDArray[np.float64]

    @classmethod
    def empty(cls, bins: int = DEFAULT_BINS) -> "HistogramAuc":
        """The histogram of no rows.

        Raises:
            ValueError: bins is below 1.
        """
        return cls.of([], [], bins=bins)

    @classmethod
    def of(
        cls,
        labels: ArrayLike,
        scores: ArrayLike,
        weights: ArrayLike | None = None,
        bins: int = DEFAULT_BINS,
    ) -> "HistogramAuc":
        """The histogram of rows.

        Args:
            labels: 0 or 1, (M,).
            scores: probabilities, (M,).
            weights: sample weights, (M,); rows of weight 0 are masked.
            bins: equal bins of [0, 1]; the last one holds 1.

        Raises:
            ValueError: shapes differ, a value breaks its rule, or bins is below 1.
        """
        if bins < 1:
            raise ValueError(f"`bins` must be at least 1, received {bins}")
        rows = check_probabilities(labels, scores, weights)
        index = np.minimum((rows.scores * bins).astype(np.int64), bins - 1)
        positives = np.bincount(index, rows.weights * rows.labels, minlength=bins)
        negatives = np.bincount(index, rows.weights * (1 - rows.labels), minlength=bins)
        return cls(positives, negatives)

    def merge(self, other: "HistogramAuc") -> "HistogramAuc":
        """The histogram of the rows of both.

        Raises:
            ValueError: the other histogram has another number of bins.
        """
        if len(self.positives) != len(other.positives):
            raise ValueError(
                f"`other` must have {len(self.positives)} bins, received {len(other.positives)}"
            )
        return HistogramAuc(self.positives + other.positives, self.negatives + other.negatives)

    def auc(self) -> MetricValue:
        """AUC with ties half; `details["error_bound"]` bounds its distance to the exact AUC."""
        positives, negatives = float(self.positives.sum()), float(self.negatives.sum())
        details = {"bins": len(self.positives), "positives": positives, "negatives": negatives}
        if positives + negatives == 0:
            return MetricValue.undefined("no rows", **details)
        if positives == 0 or negatives == 0:
            reason = f"one class only: {positives:g} positives, {negatives:g} negatives"
            return MetricValue.undefined(reason, **details)
        below = np.cumsum(self.negatives) - self.negatives
        pairs = positives * negatives
        same_bin = float(self.positives @ self.negatives)
        wins = float(self.positives @ below) + same_bin / 2
        return MetricValue(wins / pairs, details={**details, "error_bound": same_bin / 2 / pairs})
