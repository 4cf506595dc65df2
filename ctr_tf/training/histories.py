"""Batches of user histories with masks drawn, for pre-training."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from ctr_tf.data.input import Input
from ctr_tf.models.srp4ctr.config import MASKED, Tasks
from ctr_tf.schema import CANDIDATES_MASK


class MaskedHistories:
    """Batches with masks of behaviours, with the interface of `Input` that training needs.

    A batch is one of `histories`: its positions (B, L) stand where candidates stand elsewhere.
    `weights` of a task are 1 where it counts; its `labels`, where it has an attribute, are that
    one's indices. What is masked follows from seed, epoch and batch, so that training resumes
    exactly.

    Args:
        data: over the `histories` of a prepared folder.
        sequence: whose behaviours.
        rates: shares of a window's behaviours that each of `MASKED` masks, one behaviour at least;
            0 for none.
        last_share: of windows in which the last one alone is masked, in both ways.
        tasks: see `Tasks`.
        values: of each attribute of a task, how many indices from 1 are values.
    """

    def __init__(
        self,
        data: Input,
        sequence: str,
        rates: tuple[float, float],
        last_share: float,
        tasks: Tasks,
        values: dict[str, int],
    ):
        self.data = data
        self.config, self.seed, self.schema = data.config, data.seed, data.schema
        self.training_split = data.training_split
        self.sequence = sequence
        self.rates = dict(zip(MASKED, rates))
        self.last_share = last_share
        self.tasks = tasks
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
        features = {**features, **found, CANDIDATES_MASK: mask}
        labels, weights = {}, {}
        for task, (counted, attribute) in self.tasks.items():
            counts = features[counted]
            if attribute:
                labels[task] = features[f"{self.sequence}_{attribute}"]
                counts &= known(labels[task], self.values[attribute])
            weights[task] = tf.cast(counts, tf.float32)
        return {"features": features, "labels": labels, "weights": weights, "ids": batch["ids"]}


def known(indices: tf.Tensor, values: int) -> tf.Tensor:
    """Whether a position has a value of its own, of several values one at least: (B, L).

    Args:
        indices: (B, L) or (B, L, M).
        values: how many indices from 1 are values.

    Example:
        >>> known(tf.constant([[0, 1, 8]]), 7).numpy().tolist()
        [[False, True, False]]
    """
    found = (indices > 0) & (indices <= values)
    return tf.reduce_any(found, axis=-1) if len(indices.shape) > 2 else found


def drawn_mask(mask: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Draws max(1, round(rate L)) of each row's L valid positions, none at a rate of 0: (B, L).

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
    counts = tf.maximum(int(rate > 0), tf.cast(tf.round(rate * lengths), tf.int32))
    noise = tf.where(mask, tf.random.stateless_uniform(tf.shape(mask), seed), 2.0)
    places = tf.argsort(tf.argsort(noise, axis=1), axis=1)
    return mask & (places < counts[:, None])
