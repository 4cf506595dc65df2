"""What every metric reads: checked labels, scores and weights of the unmasked rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Rows:
    """Labels, scores and weights of the rows that count, and where they were.

    Args:
        labels: 0.0 or 1.0, (M,).
        scores: finite, (M,).
        weights: above 0, (M,).
        kept: indices into the arrays given, (M,), for columns that go along.
        length: rows given, masked ones included.
    """

    labels: NDArray[np.float64]
    scores: NDArray[np.float64]
    weights: NDArray[np.float64]
    kept: NDArray[np.int64]
    length: int

    def column(self, name: str, values: ArrayLike) -> NDArray:
        """The kept rows of another column of the same length as the arrays given.

        Raises:
            ValueError: the column has another length.
        """
        values = np.asarray(values)
        if values.shape != (self.length,):
            raise ValueError(
                f"`{name}` must have the shape of the labels, ({self.length},), "
                f"received {values.shape}"
            )
        return values[self.kept]


def check_rows(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Rows:
    """Checks the arrays of a metric and leaves out the rows of weight 0 (masked labels).

    Args:
        labels: 0 or 1 where the weight is above 0, (M,); anything, NaN too, where it is 0.
        scores: finite where the weight is above 0, (M,).
        weights: at least 0, (M,); one for every row by default.

    Raises:
        ValueError: shapes differ, or a value breaks its rule; names the array, row and value.

    Example:
        >>> check_rows([1, 0, 7], [0.9, 0.2, 0.5], [1, 2, 0]).labels
        array([1., 0.])
    """
    labels = np.asarray(labels, dtype=np.float64)
    scores = np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1:
        raise ValueError(f"`labels` must have one axis, received shape {labels.shape}")
    weights = np.ones_like(labels) if weights is None else np.asarray(weights, dtype=np.float64)
    for name, values in (("scores", scores), ("weights", weights)):
        if values.shape != labels.shape:
            raise ValueError(
                f"`{name}` must have the shape of `labels`, {labels.shape}, received {values.shape}"
            )
    _require("weights", "finite and at least 0", weights, np.isfinite(weights) & (weights >= 0))
    masked = weights == 0
    binary = (labels == 0) | (labels == 1)
    _require("labels", "0 or 1 where the weight is above 0", labels, masked | binary)
    _require("scores", "finite where the weight is above 0", scores, masked | np.isfinite(scores))
    kept = np.flatnonzero(~masked)
    return Rows(labels[kept], scores[kept], weights[kept], kept, len(labels))


def _require(name: str, rule: str, values: NDArray, holds: NDArray[np.bool_]) -> None:
    if not holds.all():
        row = int(np.argmin(holds))
        raise ValueError(f"`{name}` must be {rule}, received {values[row]} in row {row}")
