"""From predictions to a report: every metric of every task, as plain JSON-able values."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctr_tf.evaluation.config import EvaluationConfig
from ctr_tf.evaluation.predictions import Predictions, TaskRows
from ctr_tf.metrics import (
    Buckets,
    MetricValue,
    auc_with_interval,
    calibration_ratio,
    gauc_with_interval,
    log_loss,
    long_tail,
    normalised_entropy,
    precision_at_n,
    resampling_units,
)

Report = dict[str, Any]


def evaluate(predictions: Predictions, config: EvaluationConfig | None = None) -> Report:
    """Computes every metric of every task.

    Args:
        predictions: scored impressions.
        config: what to compute; the defaults of `EvaluationConfig` without it.

    Returns:
        A report with the keys `counts`, `dates` (UTC, or None), `config` and `tasks`; each task
        has `counts`, `metrics` (`MetricValue.to_json` by name), `item_frequency` and
        `history_length` (AUC by bucket) and `score_bins` (for calibration and the histogram).

    Example:
        >>> predictions = Predictions.from_columns({
        ...     "request_id": ["a", "a"], "label.click": [1, 0],
        ...     "weight.click": [1, 1], "score.click": [0.7, 0.1]})
        >>> metrics = evaluate(predictions)["tasks"]["click"]["metrics"]
        >>> metrics["auc"]["value"], metrics["gauc"]["reason"]
        (1.0, 'no user id')
    """
    config = config or EvaluationConfig()
    units = resampling_units(predictions.users, predictions.requests)
    return {
        "counts": {
            "impressions": len(predictions),
            "requests": _distinct(predictions.requests),
            "users": _distinct(predictions.users),
            "items": _distinct(predictions.items),
            "impressions_without_user": int(np.count_nonzero(predictions.users < 0)),
        },
        "dates": _dates(predictions),
        "config": config.model_dump(),
        "tasks": {
            task: _TaskEvaluation(predictions, predictions.task(task), units, config).report()
            for task in predictions.tasks
        },
    }


class _TaskEvaluation:
    """The metrics of one task."""

    def __init__(
        self,
        predictions: Predictions,
        rows: TaskRows,
        units: NDArray[np.int64],
        config: EvaluationConfig,
    ) -> None:
        self._predictions = predictions
        self._rows = rows
        self._units = units
        self._config = config
        self._valid = rows.weights > 0
        self._arrays = (rows.labels, rows.scores)

    def report(self) -> dict[str, Any]:
        config, predictions = self._config, self._predictions
        metrics = self._metrics()
        return {
            "counts": self._counts(self._valid),
            "metrics": {name: value.to_json() for name, value in metrics.items()},
            "item_frequency": self._by_bucket(
                predictions.item_frequencies, Buckets(config.frequency_buckets)
            ),
            "history_length": self._by_bucket(
                predictions.history_lengths, Buckets(config.history_buckets)
            ),
            "score_bins": self._score_bins(),
        }

    def _metrics(self) -> dict[str, MetricValue]:
        weights, users = self._rows.weights, self._predictions.users
        bootstrap = {"replicates": self._config.bootstrap_replicates, "seed": self._config.seed}
        everywhere = np.ones(len(weights), dtype=bool)
        return {
            "auc": self._auc(everywhere),
            "gauc": gauc_with_interval(*self._arrays, users, weights, "impressions", **bootstrap),
            "gauc_by_clicks": gauc_with_interval(
                *self._arrays, users, weights, "clicks", **bootstrap
            ),
            "auc_long_tail": self._long_tail_auc(),
            "log_loss": log_loss(*self._arrays, weights),
            "normalised_entropy": normalised_entropy(*self._arrays, weights),
            "calibration_ratio": calibration_ratio(*self._arrays, weights),
        } | {
            f"precision_at_{n}": precision_at_n(
                *self._arrays, self._predictions.requests, n, weights
            )
            for n in self._config.precision_at
        }

    def _auc(self, among: NDArray[np.bool_]) -> MetricValue:
        """AUC of the rows of a mask, (M,)."""
        return auc_with_interval(
            self._rows.labels[among],
            self._rows.scores[among],
            self._units[among],
            self._rows.weights[among],
            self._config.bootstrap_replicates,
            self._config.seed,
        )

    def _long_tail_auc(self) -> MetricValue:
        items = np.where(self._valid, self._predictions.items, -1)
        frequencies = self._predictions.item_frequencies
        tail, counts = long_tail(items, frequencies, self._config.long_tail_share)
        counts["impressions_of_unknown_item"] -= int(np.count_nonzero(~self._valid))
        if counts["items"] == 0 and self._valid.any():
            return MetricValue.undefined("no item id with a training frequency", **counts)
        return self._auc(tail).with_details(**counts)

    def _by_bucket(self, counts: NDArray[np.int64], buckets: Buckets) -> dict[str, Any]:
        """AUC and counts by bucket, and how many impressions have no known count."""
        bucket_of = np.where(self._valid, buckets.of(counts), -1)
        return {
            "buckets": [
                {"bucket": name}
                | self._counts(bucket_of == index)
                | {"auc": self._auc(bucket_of == index).to_json()}
                for index, name in enumerate(buckets.names)
            ],
            "impressions_unknown": int(np.count_nonzero(self._valid & (bucket_of < 0))),
        }

    def _counts(self, among: NDArray[np.bool_]) -> dict[str, int]:
        counts = {
            "impressions": int(np.count_nonzero(among)),
            "positives": int(np.count_nonzero(self._rows.labels[among] == 1)),
            "requests": _distinct(self._predictions.requests[among]),
            "users": _distinct(self._predictions.users[among]),
        }
        if among is self._valid:
            counts["impressions_masked"] = int(np.count_nonzero(~among))
        return counts

    def _score_bins(self) -> list[dict[str, float]]:
        """Equal bins between the lowest and highest score, with what calibration plots need."""
        scores, labels = self._rows.scores[self._valid], self._rows.labels[self._valid]
        weights = self._rows.weights[self._valid]
        if len(scores) == 0:
            return []
        low, high = float(scores.min()), float(scores.max())
        bins = self._config.plot_bins if high > low else 1
        edges = np.linspace(low, high, bins + 1)
        index = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, bins - 1)
        rows, positives, weight, scored, clicked = (
            np.bincount(index, values, minlength=bins)
            for values in (None, labels, weights, weights * scores, weights * labels)
        )
        return [
            {
                "low": float(edges[b]),
                "high": float(edges[b + 1]),
                "impressions": int(rows[b]),
                "positives": int(positives[b]),
                "mean_score": float(scored[b] / weight[b]) if rows[b] else None,
                "positive_rate": float(clicked[b] / weight[b]) if rows[b] else None,
            }
            for b in range(bins)
        ]


def _distinct(codes: NDArray[np.int64]) -> int:
    return len(np.unique(codes[codes >= 0]))


def _dates(predictions: Predictions) -> dict[str, str] | None:
    if predictions.time_range is None:
        return None
    first, last = (
        datetime.fromtimestamp(seconds, UTC).isoformat() for seconds in predictions.time_range
    )
    return {"first": first, "last": last}
