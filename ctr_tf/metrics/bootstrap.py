"""95 % intervals of AUC and GAUC by resampling users."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctr_tf.metrics.auc import RankedScores, auc
from ctr_tf.metrics.gauc import Weighting, gauc_of_sums, gauc_terms, known_users, user_sums
from ctr_tf.metrics.rows import check_rows
from ctr_tf.metrics.value import MetricValue


def resampling_units(users: ArrayLike, requests: ArrayLike) -> NDArray[np.int64]:
    """The unit each row is resampled with: its user, or its request where it has no user.

    Args:
        users: integer codes, negative where the row has no user, (M,).
        requests: integer codes, (M,).

    Example:
        >>> resampling_units([3, 3, -1, -1, -1], [0, 1, 2, 2, 4])
        array([0, 0, 1, 1, 2])
    """
    users, requests = np.asarray(users, dtype=np.int64), np.asarray(requests, dtype=np.int64)
    known = users >= 0
    offset = users.max(initial=-1) + 1 - requests.min(initial=0)
    units = np.where(known, users, requests + offset)
    return np.unique(units, return_inverse=True)[1]


def auc_with_interval(
    labels: ArrayLike,
    scores: ArrayLike,
    units: ArrayLike,
    weights: ArrayLike | None = None,
    replicates: int = 200,
    seed: int = 0,
) -> MetricValue:
    """Exact AUC with its percentile interval over resampled units; sorts the scores once.

    Args:
        labels: 0 or 1, (M,).
        scores: higher means more likely positive, (M,).
        units: integer codes of what is resampled, see `resampling_units`, (M,).
        weights: sample weights, (M,); rows of weight 0 are masked.
        replicates: bootstrap replicates; 0 computes no interval.
        seed: the same seed gives the same interval.

    Raises:
        ValueError: shapes differ or a value breaks its rule.

    Example:
        >>> value = auc_with_interval([0, 1, 0, 1], [0.1, 0.8, 0.2, 0.9], [0, 0, 1, 1])
        >>> print(value)
        1.0000 [1.0000, 1.0000]
    """
    point = auc(labels, scores, weights)
    if point.value is None:
        return point
    rows = check_rows(labels, scores, weights)
    ranked = RankedScores(rows.labels, rows.scores)
    found = with_interval(
        lambda times: ranked.pair_sums(rows.weights * times).auc[0],
        rows.column("units", units),
        replicates,
        seed,
    )
    return found.with_details(**point.details)


def gauc_with_interval(
    labels: ArrayLike,
    scores: ArrayLike,
    users: ArrayLike,
    weights: ArrayLike | None = None,
    weighting: Weighting = "impressions",
    replicates: int = 200,
    seed: int = 0,
) -> MetricValue:
    """GAUC with its percentile interval over resampled users; resamples sums per user.

    Args:
        labels: 0 or 1, (M,).
        scores: higher means more likely positive, (M,).
        users: integer codes, negative where the row has no user, (M,).
        weights: sample weights, (M,); rows of weight 0 are masked.
        weighting: "impressions" or "clicks".
        replicates: bootstrap replicates; 0 computes no interval.
        seed: the same seed gives the same interval.

    Raises:
        ValueError: shapes differ, a value breaks its rule, or the weighting is unknown.

    Example:
        >>> print(gauc_with_interval([0, 1, 0, 1], [0.1, 0.8, 0.2, 0.9], [0, 0, 1, 1]))
        1.0000 [1.0000, 1.0000]
    """
    rows = check_rows(labels, scores, weights)
    known, users = known_users(rows, users)
    sums = user_sums(known, users)
    point = gauc_of_sums(sums, weighting, len(rows.labels) - len(known.labels))
    if point.value is None:
        return point
    numerator, denominator = gauc_terms(sums, weighting)
    values = [
        times @ numerator / total if (total := times @ denominator) > 0 else np.nan
        for times in _multiplicities(len(sums.groups), replicates, seed)
    ]
    return _with_interval(point, np.array(values), len(sums.groups))


def with_interval(
    statistic: Callable[[NDArray[np.float64]], float],
    units: ArrayLike,
    replicates: int = 200,
    seed: int = 0,
) -> MetricValue:
    """Any statistic of weighted rows with its percentile interval over resampled units.

    One that compares two models on the same rows is a paired comparison, since both are resampled
    together.

    Args:
        statistic: gives the value for weights of the rows, (M,); NaN where it is undefined.
        units: integer codes of what is resampled, see `resampling_units`, (M,).
        replicates: bootstrap replicates; 0 computes no interval.
        seed: the same seed gives the same interval.

    Example:
        >>> gains = np.array([0.1, 0.3, 0.1, 0.3])
        >>> print(with_interval(lambda w: w @ gains / w.sum(), [0, 0, 1, 1]))
        0.2000 [0.2000, 0.2000]
    """
    units = np.unique(np.asarray(units), return_inverse=True)[1]
    point = float(statistic(np.ones(len(units))))
    if not np.isfinite(point):
        return MetricValue.undefined("the statistic is undefined")
    count = int(units.max()) + 1
    drawn = _multiplicities(count, replicates, seed)
    values = np.array([statistic(times[units]) for times in drawn])
    return _with_interval(MetricValue(point), values, count)


def _multiplicities(units: int, replicates: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each unit is drawn, replicate by replicate, (units,)."""
    if replicates < 0:
        raise ValueError(f"`replicates` must be at least 0, received {replicates}")
    generator = np.random.default_rng(seed)
    for _ in range(replicates):
        drawn = generator.integers(0, units, size=units)
        yield np.bincount(drawn, minlength=units).astype(np.float64)


def _with_interval(point: MetricValue, values: NDArray[np.float64], units: int) -> MetricValue:
    """The point with its interval, unless fewer than two units or no replicate give one."""
    if len(values) == 0:
        return point
    defined = values[np.isfinite(values)]
    point = point.with_details(
        resampled_units=units,
        replicates=len(values),
        replicates_undefined=len(values) - len(defined),
    )
    if units < 2 or len(defined) == 0:
        return point
    low, high = np.percentile(defined, [2.5, 97.5])
    return replace(point, low=float(low), high=float(high))
