"""GAUC: AUC within each user, averaged over users."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctr_tf.metrics.auc import PairSums, RankedScores
from ctr_tf.metrics.rows import Rows, check_rows
from ctr_tf.metrics.value import MetricValue

Weighting = Literal["impressions", "clicks"]


def gauc(
    labels: ArrayLike,
    scores: ArrayLike,
    users: ArrayLike,
    weights: ArrayLike | None = None,
    weighting: Weighting = "impressions",
) -> MetricValue:
    """AUC of each user, averaged with the user's impressions or clicks as weight.

    Users with one class have no AUC: they are left out and counted. With sample weights a user
    counts by the sum of the weights of its rows (impressions) or of its positive rows (clicks).

    Args:
        labels: 0 or 1, (M,).
        scores: higher means more likely positive, (M,).
        users: integer codes, negative where the row has no user, (M,).
        weights: sample weights, (M,); rows of weight 0 are masked.
        weighting: "impressions" or "clicks".

    Raises:
        ValueError: shapes differ, a value breaks its rule, or the weighting is unknown.

    Example:
        >>> value = gauc([0, 1, 1, 0, 1], [0.1, 0.4, 0.2, 0.3, 0.9], [7, 7, 8, 8, 9])
        >>> print(value, value.details["users_left_out"])
        0.5000 1
    """
    rows = check_rows(labels, scores, weights)
    known, users = known_users(rows, users)
    return gauc_of_sums(user_sums(known, users), weighting, len(rows.labels) - len(known.labels))


def known_users(rows: Rows, users: ArrayLike) -> tuple[Rows, NDArray[np.integer]]:
    """The rows that have a user, and their user codes.

    Raises:
        ValueError: `users` is not an integer array of the rows' length.
    """
    users = rows.column("users", users)
    if len(users) and not np.issubdtype(users.dtype, np.integer):
        raise ValueError(f"`users` must be integer codes, received dtype {users.dtype}")
    known = users >= 0
    kept = rows.kept[known]
    return (
        Rows(rows.labels[known], rows.scores[known], rows.weights[known], kept, rows.length),
        users[known],
    )


def user_sums(rows: Rows, users: NDArray[np.integer]) -> PairSums | None:
    """The pair sums of each user, or None without rows."""
    if len(users) == 0:
        return None
    return RankedScores(rows.labels, rows.scores, users).pair_sums(rows.weights)


def gauc_of_sums(
    sums: PairSums | None, weighting: Weighting, impressions_without_user: int = 0
) -> MetricValue:
    """GAUC from the pair sums of each user.

    Raises:
        ValueError: the weighting is unknown.
    """
    missing = {"impressions_without_user": impressions_without_user}
    if sums is None:
        reason = "no user id" if impressions_without_user else "no rows"
        return MetricValue.undefined(
            reason, users=0, users_left_out=0, impressions_left_out=0, **missing
        )
    numerator, denominator = gauc_terms(sums, weighting)
    details = {
        "users": int(sums.defined.sum()),
        "users_left_out": int((~sums.defined).sum()),
        "impressions_left_out": int(sums.rows[~sums.defined].sum()),
        **missing,
    }
    if not sums.defined.any():
        return MetricValue.undefined("no user has both classes", **details)
    return MetricValue(float(numerator.sum() / denominator.sum()), details=details)


def gauc_terms(sums: PairSums, weighting: Weighting) -> tuple[NDArray, NDArray]:
    """Per user, what GAUC sums: weight times AUC, and weight; zero where a user has one class.

    Raises:
        ValueError: the weighting is unknown.
    """
    if weighting == "impressions":
        weight = sums.positives + sums.negatives
    elif weighting == "clicks":
        weight = sums.positives
    else:
        raise ValueError(f"`weighting` must be 'impressions' or 'clicks', received {weighting!r}")
    weight = np.where(sums.defined, weight, 0.0)
    return np.where(sums.defined, weight * np.nan_to_num(sums.auc), 0.0), weight
