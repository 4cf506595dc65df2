"""How well a retrieval model tells positive candidates from all items of the catalogue."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ctr_tf.data.catalogue import read_catalogue
from ctr_tf.data.input import Input
from ctr_tf.data.raw_inputs import request_inputs
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import CANDIDATES_MASK
from ctr_tf.training.validation import Validation, ranked

ITEMS_AT_ONCE = 16384
"""Bounds what ranking holds: so many scores of each positive of a batch."""
PARTS = ("features", "labels", "weights", "ids")


class RetrievalValidator:
    """HR@k, NDCG@k and MRR of the positive candidates of a split, of the first task.

    Each is ranked among all items of the catalogue, those that the user knows among them. One that
    the catalogue has not is a miss.

    Args:
        model: factorised.
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
        vectors = tf.TensorSpec((len(catalogue), model.item_encoding.width))
        self._compiled = tf.function(self._ranks, input_signature=[*spec, vectors])

    def __call__(self) -> Validation:
        """Ranks the positives once.

        Raises:
            FloatingPointError: a score is not finite.
        """
        encoded = [self.model.item_encoder(items)[0] for items in self.items]
        vectors = tf.cast(tf.concat(encoded, axis=0), tf.float32)
        found = ranked(
            (self._compiled(*(batch[part] for part in PARTS), vectors) for batch in self.batches),
            self.cutoff,
        )
        self.reasons = found.reasons
        return found

    def _ranks(
        self, features: dict, labels: dict, weights: dict, ids: dict, vectors: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        model, mask = self.model, features[CANDIDATES_MASK]
        state = model.user_tower({spec.name: features[spec.name] for spec in model.user_inputs})
        positive = mask & (labels[self.task] > 0) & (weights[self.task] > 0)
        query = tf.gather(model.query_tower(state, features), tf.where(positive)[:, 0])
        place = self.places.lookup(tf.boolean_mask(ids["items"], positive))
        known = place >= 0
        own = tf.reduce_sum(query * tf.gather(vectors, tf.maximum(place, 0)), axis=1)
        others = tf.range(vectors.shape[0])
        above, tied = tf.zeros_like(own), tf.zeros_like(place)
        for first in range(0, vectors.shape[0], ITEMS_AT_ONCE):
            scores = tf.matmul(query, vectors[first : first + ITEMS_AT_ONCE], transpose_b=True)
            # A product of two matrices may round otherwise than one of two rows.
            its_own = others[None, first : first + ITEMS_AT_ONCE] == place[:, None]
            scores = tf.where(its_own, own[:, None], scores)
            above += tf.reduce_sum(tf.cast(scores > own[:, None], tf.float32), axis=1)
            tied += tf.reduce_sum(tf.cast((scores == own[:, None]) & ~its_own, tf.int32), axis=1)
        finite = tf.reduce_all(tf.math.is_finite(query), axis=1)
        finite &= tf.reduce_all(tf.math.is_finite(vectors))
        return tf.where(known, above, np.inf), tf.where(known, tied, 0), finite
