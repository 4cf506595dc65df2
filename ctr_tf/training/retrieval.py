"""How well a retrieval model tells positive candidates from all items of the catalogue."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ctr_tf import metrics
from ctr_tf.data.catalogue import read_catalogue
from ctr_tf.data.input import Input
from ctr_tf.data.raw_inputs import request_inputs
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import CANDIDATES_MASK
from ctr_tf.training.validation import Validation

ITEMS_AT_ONCE = 4096
PARTS = ("features", "labels", "weights", "ids")


class RetrievalValidator:
    """HR@k, NDCG@k and MRR of the positive candidates of a split, of the first task.

    Each is ranked among all items of the catalogue, those that the user knows among them. One that
    the catalogue has not is a miss.

    Args:
        model: whose scores rank.
        data: with a catalogue.
        cutoff: k.
        split: whose positives.

    Attributes:
        reasons: of the latest call, why an undefined metric is so.

    Raises:
        ValueError: the data has no catalogue.
    """

    def __init__(self, model: CTRModel, data: Input, cutoff: int, split: str = "validation"):
        self.model = model
        self.cutoff = cutoff
        self.reasons: dict[str, str] = {}
        self.batches = data.evaluation(split)
        self.task = next(iter(model.schema.tasks))
        catalogue = read_catalogue(data.folder)
        self.keys = np.array(list(catalogue), object)
        names = [spec.name for spec in model.item_inputs]
        self.items = []
        values = list(catalogue.values())
        for first in range(0, len(values), ITEMS_AT_ONCE):
            part = values[first : first + ITEMS_AT_ONCE]
            columns = {name: [item[name] for item in part] for name in part[0]}
            raw = request_inputs(model.schema, columns, only=names)
            self.items.append(data.preprocessor({n: tf.constant(x) for n, x in raw.items()}))
        self.places = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(list(catalogue)), tf.range(len(catalogue))
            ),
            -1,
        )
        spec = [self.batches.element_spec[part] for part in PARTS]
        vectors = tf.TensorSpec((1, len(catalogue), model.item_encoding.width))
        self._compiled = tf.function(self._ranks, input_signature=[*spec, vectors])

    def __call__(self) -> Validation:
        """Ranks the positives once.

        Raises:
            FloatingPointError: a score is not finite.
        """
        vectors = tf.concat(
            [tf.cast(self.model.item_encoder(items), tf.float32) for items in self.items], axis=1
        )
        found = []
        for batch in self.batches:
            ranks = self._compiled(*(batch[part] for part in PARTS), vectors)
            found.append([part.numpy() for part in ranks])
        above, tied, finite = (np.concatenate(part) for part in zip(*found))
        if not finite.all():
            raise FloatingPointError("a score of an item is not finite")
        measured = metrics.next_item(above, tied, self.cutoff)
        self.reasons = {n: m.reason for n, m in measured.items() if m.value is None}
        return Validation({name: m.value for name, m in measured.items()}, self.reasons)

    def _ranks(
        self, features: dict, labels: dict, weights: dict, ids: dict, vectors: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        model, mask = self.model, features[CANDIDATES_MASK]
        state = model.user_tower({spec.name: features[spec.name] for spec in model.user_inputs})
        vectors = tf.cast(vectors, model.compute_dtype)
        there = tf.ones(tf.shape(vectors)[:2], tf.bool)
        scores = model.encoded_item_tower(state, features, vectors, there)[self.task]
        positive = mask & (labels[self.task] > 0) & (weights[self.task] > 0)
        of_each = tf.gather(scores, tf.where(positive)[:, 0])
        place = self.places.lookup(tf.boolean_mask(ids["items"], positive))
        known = place >= 0
        own = tf.gather(of_each, tf.maximum(place, 0), batch_dims=1)[:, None]
        above = tf.reduce_sum(tf.cast(of_each > own, tf.float32), axis=1)
        tied = tf.reduce_sum(tf.cast(of_each == own, tf.int32), axis=1) - 1
        finite = tf.reduce_all(tf.math.is_finite(of_each), axis=1)
        return tf.where(known, above, np.inf), tf.where(known, tied, 0), finite
