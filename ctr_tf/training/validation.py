"""Scores of the validation split and what they are worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from ctr_tf import metrics
from ctr_tf.data.input import Input
from ctr_tf.models.model import CTRModel


@dataclass(frozen=True)
class Validation:
    """Metrics of one pass over a split.

    Args:
        values: `loss`, and `<task>_auc`, `<task>_gauc` of each task; None where undefined.
        reasons: why an undefined metric is so.
    """

    values: dict[str, float | None]
    reasons: dict[str, str]


def ranked(found: Iterable[Sequence[tf.Tensor]], cutoff: int) -> Validation:
    """HR@k, NDCG@k and MRR of ranks.

    Args:
        found: parts of a split: items above each target and items tied with it, as
            `metrics.next_item` takes them, and whether the target's scores are finite.
        cutoff: k.

    Raises:
        FloatingPointError: a score is not finite.
    """
    parts = [[part.numpy() for part in each] for each in found]
    above, tied, finite = (np.concatenate(part) for part in zip(*parts))
    if not finite.all():
        raise FloatingPointError("a score of a ranked item is not finite")
    measured = metrics.next_item(above, tied, cutoff)
    reasons = {name: m.reason for name, m in measured.items() if m.value is None}
    return Validation({name: m.value for name, m in measured.items()}, reasons)


class Validator:
    """Exact metrics of a model on a split.

    Under a strategy of several workers each scores the whole split: all then stop at the same
    step without asking each other.

    Args:
        model: scored without training behaviour.
        data: whose split is read.
        task_weights: the weight of each task's loss; 1 by default.
        split: its name.

    Attributes:
        reasons: of the latest call, why an undefined metric is so.
    """

    def __init__(
        self,
        model: CTRModel,
        data: Input,
        task_weights: dict[str, float],
        split: str = "validation",
    ):
        self.model = model
        self.task_weights = {task: task_weights.get(task, 1.0) for task in model.schema.tasks}
        self.reasons: dict[str, str] = {}
        self.batches = data.evaluation(split)
        spec = self.batches.element_spec
        self._compiled = tf.function(
            self._score, input_signature=[spec["features"], spec["labels"]]
        )

    def __call__(self) -> Validation:
        """Scores the split once.

        Raises:
            FloatingPointError: a score is not finite.
        """
        rows: dict[str, list[dict[str, np.ndarray]]] = {task: [] for task in self.task_weights}
        for batch in self.batches:
            scores, losses = self._compiled(batch["features"], batch["labels"])
            users = batch["ids"]["user"].numpy()
            for task in rows:
                weights = batch["weights"][task].numpy()
                kept = weights > 0
                columns = {"label": batch["labels"][task], "score": scores[task]}
                columns |= {"loss": losses[task], "weight": weights}
                found = {name: np.asarray(value)[kept] for name, value in columns.items()}
                found["user"] = np.broadcast_to(users[:, None], kept.shape)[kept]
                rows[task].append(found)
        found = self._measure(rows)
        self.reasons = found.reasons
        return found

    def _measure(self, rows: dict[str, list[dict[str, np.ndarray]]]) -> Validation:
        values: dict[str, float | None] = {"loss": None}
        reasons = {"loss": "no labelled candidate"}
        for task, parts in rows.items():
            joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            weight = joined["weight"].astype(np.float64)
            if weight.sum() > 0:
                mean = float(np.average(joined["loss"], weights=weight))
                values["loss"] = (values["loss"] or 0.0) + self.task_weights[task] * mean
                reasons.pop("loss", None)
            label, score = joined["label"], joined["score"]
            if not np.isfinite(score).all():
                raise FloatingPointError(f"a validation score of task {task} is not finite")
            names, codes = np.unique(joined["user"], return_inverse=True)
            users = np.where(names == b"", -1, np.arange(len(names)))[codes]
            for name, value in (
                (f"{task}_auc", metrics.auc(label, score, weight)),
                (f"{task}_gauc", metrics.gauc(label, score, users, weight)),
            ):
                values[name] = value.value
                if value.value is None:
                    reasons[name] = value.reason
        return Validation(values, reasons)

    def _score(self, features: dict, labels: dict) -> tuple[dict, dict]:
        outputs = self.model(features, training=False)
        return self.model.scores(outputs), self.model.heads.losses_of(outputs, labels)
