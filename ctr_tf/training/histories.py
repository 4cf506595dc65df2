"""Batches of user histories with masks drawn, for pre-training."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from ctr_tf.data.input import Input
from ctr_tf.models.srp4ctr.fg_bert import MASKED
from ctr_tf.schema import CANDIDATES_MASK


class MaskedHistories:
    """Batches whose labels are what is masked, with the interface of `Input` that training needs.

    A batch is one of `histories`: its positions (B, L) stand where candidates stand elsewhere, and
    its tasks are the attributes: `labels` are their indices, `weights` 1 where they are masked and
    known. Which are masked follows from seed, epoch and batch, so that training resumes exactly.

    Args:
        data: over the `histories` of a prepared folder.
        sequence: whose behaviours.
        items: attributes that are masked together, those of the item.
        behaviours: the others, masked together too; none for no such mask.
        rates: shares of a window's behaviours that each kind masks, one behaviour at least.
        last_share: of windows in which the last one alone is masked, in both ways.
        values: of each attribute, how many indices from 1 are values.
    """

    def __init__(
        self,
        data: Input,
        sequence: str,
        items: Sequence[str],
        behaviours: Sequence[str],
        rates: tuple[float, float],
        last_share: float,
        values: dict[str, int],
    ):
        self.data = data
        self.config, self.seed, self.schema = data.config, data.seed, data.schema
        self.training_split = data.training_split
        self.sequence = sequence
        self.kinds = {"masked_items": list(items), "masked_behaviours": list(behaviours)}
        self.rates = dict(zip(MASKED, rates))
        self.last_share = last_share
        self.values = values

    def batches(self, split: str) -> int:
        """Batches of one pass; there is no split to validate on by its loss."""
        return self.data.batches(split)

    def training(
        self, epoch: int, skip: int = 0, replica: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """One epoch; see `Input.training`."""
        batches = self.data.training(epoch, skip, replica).enumerate(skip)
        return batches.map(lambda number, batch: self._masked(batch, [epoch, number, replica[0]]))

    def _masked(self, batch: dict, place: Sequence) -> dict:
        features = batch["features"]
        mask = features[f"{self.sequence}_mask"]
        # A replica's share without a request counts nothing.
        mask &= tf.reduce_any(features[CANDIDATES_MASK], axis=1)[:, None]
        seed = tf.constant([self.seed, 0], tf.int64)
        for part in place:
            seed = tf.random.fold_in(seed, part)
        *keys, of_last = tf.unstack(tf.random.split(seed, 3))
        size = tf.shape(mask)
        alone = tf.random.stateless_uniform([size[0], 1], of_last) < self.last_share
        lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1, keepdims=True)
        last = mask & (tf.range(size[1]) == lengths - 1)
        found = {
            kind: tf.where(alone, last, drawn_mask(mask, self.rates[kind], key))
            for kind, key in zip(MASKED, keys)
        }
        labels, weights = {}, {}
        for kind, attributes in self.kinds.items():
            for name in attributes:
                label = features[f"{self.sequence}_{name}"]
                known = (label > 0) & (label <= self.values[name])
                if len(label.shape) > 2:
                    known = tf.reduce_any(known, axis=-1)
                labels[name], weights[name] = label, tf.cast(found[kind] & known, tf.float32)
        features = {**features, **found, CANDIDATES_MASK: mask}
        return {"features": features, "labels": labels, "weights": weights, "ids": batch["ids"]}


def drawn_mask(mask: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Draws max(1, round(rate L)) of each row's L valid positions: (B, L).

    The number is that of BERT4Rec's code (Sun et al. 2019, arXiv:1904.06690, section 3.6), halves
    rounded to even.

    Args:
        mask: valid positions, (B, L).
        rate: of them.
        seed: (2,).

    Example:
        >>> mask = tf.sequence_mask([5, 1, 0])
        >>> tf.reduce_sum(tf.cast(drawn_mask(mask, 0.4, [1, 2]), tf.int32), axis=1).numpy().tolist()
        [2, 1, 0]
    """
    lengths = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)
    counts = tf.maximum(1, tf.cast(tf.round(rate * lengths), tf.int32))
    noise = tf.where(mask, tf.random.stateless_uniform(tf.shape(mask), seed), 2.0)
    places = tf.argsort(tf.argsort(noise, axis=1), axis=1)
    return mask & (places < counts[:, None])
