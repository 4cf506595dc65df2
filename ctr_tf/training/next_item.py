"""How well a pre-trained model tells each user's next item."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from ctr_tf.data.input import Input
from ctr_tf.models.srp4ctr.history_model import HistoryModel
from ctr_tf.schema import CANDIDATES_MASK
from ctr_tf.training.validation import Validation, ranked

SCORES_AT_ONCE = 2**26
"""Bounds what ranking holds: so many scores of all requests that are ranked together."""


class NextItemValidator:
    """HR@k, NDCG@k and MRR of the next item in each user's first validation request.

    It is the request's first candidate, of a sequence of positives alone the first positive one; a
    request without any is left out. All values of the vocabulary are ranked, those of the history
    among them. A target that training has not seen is a miss.

    Args:
        model: whose `next_item` is asked.
        data: with a split `next`.
        cutoff: k.

    Attributes:
        reasons: of the latest call, why an undefined metric is so.
    """

    def __init__(self, model: HistoryModel, data: Input, cutoff: int):
        self.model = model
        self.cutoff = cutoff
        self.positive = data.schema.sequences[model.sequence].positive
        self.batches = data.evaluation("next")
        self.reasons: dict[str, str] = {}
        spec = self.batches.element_spec
        self._compiled = tf.function(
            self._ranks, input_signature=[spec["features"], spec["labels"]]
        )

    def __call__(self) -> Validation:
        """Ranks the targets once.

        Raises:
            FloatingPointError: a score is not finite.
        """
        found = ranked((self._compiled(*part) for part in self._parts()), self.cutoff)
        self.reasons = found.reasons
        return found

    def _parts(self) -> Iterator[tuple[dict, dict]]:
        """Features and labels of as many requests as are ranked at once."""
        count = max(1, SCORES_AT_ONCE // self.model.values[self.model.items[0]])
        for batch in self.batches:
            for first in range(0, len(batch["features"][CANDIDATES_MASK]), count):
                yield tuple(
                    {name: value[first : first + count] for name, value in batch[part].items()}
                    for part in ("features", "labels")
                )

    def _ranks(self, features: dict, labels: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        asked = features[CANDIDATES_MASK]
        if self.positive:
            asked &= labels[self.positive] > 0
        first, there = tf.argmax(asked, axis=1), tf.reduce_any(asked, axis=1)
        scores = self.model.next_item(features)
        target = tf.gather(features[self.model.items[0]], first, batch_dims=1)
        known = (target > 0) & (target <= scores.shape[1])
        place = tf.clip_by_value(target - 1, 0, scores.shape[1] - 1)
        own = tf.gather(scores, place, batch_dims=1)[:, None]
        above = tf.reduce_sum(tf.cast(scores > own, tf.float32), axis=1)
        tied = tf.reduce_sum(tf.cast(scores == own, tf.int32), axis=1) - 1
        finite = tf.reduce_all(tf.math.is_finite(scores), axis=1)
        above, tied = tf.where(known, above, np.inf), tf.where(known, tied, 0)
        return tf.boolean_mask(above, there), tf.boolean_mask(tied, there), finite
