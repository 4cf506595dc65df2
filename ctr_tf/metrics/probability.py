"""Metrics of the score as a probability: log loss, normalised entropy, calibration."""

import math

import numpy as np
from numpy.typing import ArrayLike

from ctr_tf.metrics.auc import undefined_for_one_class
from ctr_tf.metrics.rows import Rows, check_rows
from ctr_tf.metrics.value import MetricValue

# A float32 sigmoid reaches 0 and 1 exactly; one such row must not make the mean infinite.
EPSILON = 1e-7


def log_loss(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> MetricValue:
    """Weighted mean of -[y log p + (1 - y) log(1 - p)], in nats.

    Scores are clipped to [1e-7, 1 - 1e-7]; `details["clipped"]` counts those that were outside.

    Args:
        labels: 0 or 1, (M,).
        scores: probabilities, (M,).
        weights: sample weights, (M,); rows of weight 0 are masked.

    Raises:
        ValueError: shapes differ, a value breaks its rule, or a score is not in [0, 1].

    Example:
        >>> print(log_loss([1, 0], [0.5, 0.5]))
        0.6931
    """
    rows = check_probabilities(labels, scores, weights)
    if len(rows.labels) == 0:
        return MetricValue.undefined("no rows")
    clipped = np.clip(rows.scores, EPSILON, 1 - EPSILON)
    losses = -np.where(rows.labels == 1, np.log(clipped), np.log1p(-clipped))
    return MetricValue(
        float(np.average(losses, weights=rows.weights)),
        details={"clipped": int(np.count_nonzero(clipped != rows.scores))},
    )


def normalised_entropy(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    base_rate: float | None = None,
) -> MetricValue:
    """Log loss over the entropy of the base rate (He et al. 2014, section 3); below 1 is better.

    A model that always predicts the base rate of the evaluated rows has exactly 1.

    Args:
        labels: 0 or 1, (M,).
        scores: probabilities, (M,).
        weights: sample weights, (M,); rows of weight 0 are masked.
        base_rate: click-through rate to compare with, in (0, 1); that of the evaluated rows by
            default.

    Raises:
        ValueError: shapes differ or a value breaks its rule.

    Example:
        >>> print(normalised_entropy([1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]))
        1.0000
    """
    rows = check_probabilities(labels, scores, weights)
    if base_rate is None:
        undefined = undefined_for_one_class(rows.labels)
        if undefined is not None:
            return undefined
        base_rate = float(np.average(rows.labels, weights=rows.weights))
    elif not 0 < base_rate < 1:
        raise ValueError(
            f"`base_rate` must be between 0 and 1, both excluded, received {base_rate}"
        )
    loss = log_loss(rows.labels, rows.scores, rows.weights)
    if loss.value is None:
        return loss
    entropy = -(base_rate * math.log(base_rate) + (1 - base_rate) * math.log1p(-base_rate))
    return MetricValue(loss.value / entropy, details={"base_rate": base_rate})


def calibration_ratio(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> MetricValue:
    """Sum of the predicted probabilities over the sum of the labels; 1 is calibrated on average.

    Args:
        labels: 0 or 1, (M,).
        scores: probabilities, (M,).
        weights: sample weights, (M,); rows of weight 0 are masked.

    Raises:
        ValueError: shapes differ, a value breaks its rule, or a score is not in [0, 1].

    Example:
        >>> print(calibration_ratio([1, 0], [0.5, 0.25]))
        0.7500
    """
    rows = check_probabilities(labels, scores, weights)
    if len(rows.labels) == 0:
        return MetricValue.undefined("no rows")
    predicted = float(rows.weights @ rows.scores)
    observed = float(rows.weights @ rows.labels)
    if observed == 0:
        return MetricValue.undefined("no positives", predicted=predicted, observed=observed)
    return MetricValue(predicted / observed, details={"predicted": predicted, "observed": observed})


def check_probabilities(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> Rows:
    """Checked rows whose scores are probabilities.

    Raises:
        ValueError: shapes differ, a value breaks its rule, or a score is not in [0, 1].
    """
    rows = check_rows(labels, scores, weights)
    outside = (rows.scores < 0) | (rows.scores > 1)
    if outside.any():
        first = int(np.argmax(outside))
        raise ValueError(
            "`scores` must be probabilities in [0, 1], "
            f"received {rows.scores[first]} in row {rows.kept[first]}"
        )
    return rows
