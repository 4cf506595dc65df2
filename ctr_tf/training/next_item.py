"""How well a pre-trained model tells each user's next item."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ctr_tf.data.input import Input
from ctr_tf.models.srp4ctr.history_model import HistoryModel
from ctr_tf.schema import CANDIDATES_MASK
from ctr_tf.training.validation import Validation, ranked


class NextItemValidator:
    """HR@k, NDCG@k and MRR of the first candidate of each user's first validation request.

    All values of the vocabulary are ranked, those of the history among them. A target that
    training has not seen is a miss.

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
        self.batches = data.evaluation("next")
        self.reasons: dict[str, str] = {}
        spec = self.batches.element_spec["features"]
        self._compiled = tf.function(self._ranks, input_signature=[spec])

    def __call__(self) -> Validation:
        """Ranks the targets once.

        Raises:
            FloatingPointError: a score is not finite.
        """
        found = ranked((self._compiled(b["features"]) for b in self.batches), self.cutoff)
        self.reasons = found.reasons
        return found

    def _ranks(self, features: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        scores = self.model.next_item(features)
        target = features[self.model.items[0]][:, 0]
        known = (target > 0) & (target <= scores.shape[1]) & features[CANDIDATES_MASK][:, 0]
        place = tf.clip_by_value(target - 1, 0, scores.shape[1] - 1)
        own = tf.gather(scores, place, batch_dims=1)[:, None]
        above = tf.reduce_sum(tf.cast(scores > own, tf.float32), axis=1)
        tied = tf.reduce_sum(tf.cast(scores == own, tf.int32), axis=1) - 1
        finite = tf.reduce_all(tf.math.is_finite(scores), axis=1)
        return tf.where(known, above, np.inf), tf.where(known, tied, 0), finite
