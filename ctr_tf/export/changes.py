"""What a model of lower precision changes on labelled requests, beside the trained one."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ctr_tf.evaluation.predict import scored
from ctr_tf.export.config import ChangeTolerances
from ctr_tf.export.self_check import ExportError
from ctr_tf.metrics.auc import RankedScores, auc
from ctr_tf.metrics.bootstrap import resampling_units, with_interval
from ctr_tf.metrics.probability import log_loss
from ctr_tf.metrics.rows import check_rows
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import CANDIDATES_MASK

Changes = dict[str, Any]
"""By task: `rows`, then `auc` and `log_loss` with `before`, `after` and `change`, each a
`MetricValue.to_json`, and `score` with the `largest` and the `mean` change of a probability."""


def measure_changes(model: CTRModel, served: CTRModel, batches: tf.data.Dataset) -> Changes:
    """Scores the same labelled requests with both models.

    Args:
        model: the trained model.
        served: what is exported of it.
        batches: of `Input.evaluation`.

    Raises:
        ExportError: a score of the latter is not finite.
    """
    parts: list[dict[str, np.ndarray]] = []
    for (batch, before), (_, after) in zip(scored(model, batches), scored(served, batches)):
        mask = batch["features"][CANDIDATES_MASK].numpy()
        request, _ = np.nonzero(mask)
        part = {key: batch["ids"][key].numpy()[request] for key in ("user", "request")}
        for task in model.schema.tasks:
            part[f"label.{task}"] = batch["labels"][task].numpy()[mask]
            part[f"weight.{task}"] = batch["weights"][task].numpy()[mask]
            part[f"before.{task}"] = np.asarray(before[task], "float64")[mask]
            part[f"after.{task}"] = np.asarray(after[task], "float64")[mask]
        parts.append(part)
    rows = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    codes = {key: np.unique(rows[key], return_inverse=True)[1] for key in ("user", "request")}
    # An empty id is nobody's.
    users = np.where(rows["user"] == b"", -1, codes["user"])
    units = resampling_units(users, codes["request"])
    return {
        task: change(
            *(rows[f"{key}.{task}"] for key in ("label", "weight", "before", "after")), units
        )
        for task in model.schema.tasks
    }


def change(
    labels: np.ndarray,
    weights: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    units: np.ndarray,
) -> dict[str, Any]:
    """The change of one task's metrics, paired, with 95 % intervals over resampled units.

    Args:
        labels: 0 or 1, (M,).
        weights: of the rows, 0 where the label is masked, (M,).
        before, after: probabilities of the rows, (M,).
        units: integer codes of what is resampled, see `resampling_units`, (M,).

    Raises:
        ExportError: a score of `after` is not finite.

    Example:
        >>> found = change(np.array([0, 1]), np.ones(2), np.array([0.25, 0.5]),
        ...                np.array([0.5, 0.5]), np.array([0, 1]))
        >>> found["auc"]["before"]["value"], found["auc"]["change"]["value"], found["score"]
        (1.0, -0.5, {'largest': 0.25, 'mean': 0.125})
    """
    if not np.isfinite(after).all():
        raise ExportError("a score in lower precision is not finite")
    rows = check_rows(labels, before, weights)
    labels, weights, before = rows.labels, rows.weights, rows.scores
    after, units = rows.column("after", after), rows.column("units", units)
    ranked = [RankedScores(labels, scores) for scores in (before, after)]

    def auc_change(times: np.ndarray) -> float:
        old, new = (each.pair_sums(weights * times).auc[0] for each in ranked)
        return new - old

    def loss_change(times: np.ndarray) -> float:
        old, new = (log_loss(labels, each, weights * times).value for each in (before, after))
        return new - old

    differences = np.abs(after - before)
    return {
        "rows": len(labels),
        **{
            metric.__name__: {
                "before": metric(labels, before, weights).to_json(),
                "after": metric(labels, after, weights).to_json(),
                "change": with_interval(statistic, units).to_json(),
            }
            for metric, statistic in ((auc, auc_change), (log_loss, loss_change))
        },
        "score": {"largest": float(differences.max()), "mean": float(differences.mean())},
    }


def check_changes(changes: Changes, tolerances: ChangeTolerances) -> None:
    """Checks that no task loses more than allowed.

    A metric that is undefined, such as the AUC of one class, is not checked.

    Raises:
        ExportError: it does; names the task, what changed, by how much, and the tolerance.

    Example:
        >>> found = change(np.array([0, 1]), np.ones(2), np.array([0.25, 0.5]),
        ...                np.array([0.5, 0.5]), np.array([0, 1]))
        >>> check_changes({"click": found}, ChangeTolerances())
        Traceback (most recent call last):
        ...
        ctr_tf.export.self_check.ExportError: precision: task 'click': the AUC falls by 0.5 on 2
        rows; export.changes.auc allows 0.0005
    """
    for task, found in changes.items():
        fall, rise = (found[metric]["change"]["value"] for metric in ("auc", "log_loss"))
        for key, what, value in (
            ("auc", "the AUC falls by", None if fall is None else -fall),
            ("log_loss", "the log loss rises by", rise),
            ("score", "a score changes by", found["score"]["largest"]),
            ("mean_score", "scores change on average by", found["score"]["mean"]),
        ):
            allowed = getattr(tolerances, key)
            if value is not None and value > allowed:
                raise ExportError(
                    f"precision: task {task!r}: {what} {value:.3g} on {found['rows']:,} rows; "
                    f"export.changes.{key} allows {allowed:g}"
                )
