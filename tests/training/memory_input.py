"""A training input that lies in memory, with the interface of `ctr_tf.data.input.Input`."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from ctr_tf.data.config import InputConfig
from ctr_tf.data.manifest import ManifestError
from ctr_tf.models.behaviour.din import DINConfig
from ctr_tf.models.interaction.dcn_v2 import DCNV2Config
from ctr_tf.models.model import CTRModel
from ctr_tf.models.retrieval.two_tower import TwoTowerConfig
from ctr_tf.schema import Schema

ITEMS, USERS, LENGTH = 40, 12, 5
SCHEMA = Schema(
    keys={"user": "user_id", "time": "time", "item": "item_id"},
    features={"item_id": {"kind": "categorical"}, "age": {"kind": "numeric", "side": "user"}},
    sequences={"history": {"attributes": {"item_id": {}}}},
    tasks={"click": {"column": "click"}},
)


class MemoryInput:
    """Requests of 1 to 4 candidates; an item is clicked where the user met one of its parity.

    Args:
        requests: of the training split.
        validation: of the validation split; 0 for none.
        batch_size: requests a batch.
        seed: of rows and order.
        users: whether requests have user ids.
    """

    def __init__(self, requests=48, validation=24, batch_size=8, seed=5, users=True):
        self.config = InputConfig(batch_size=batch_size)
        self.seed = seed
        self.training_split = "train"
        self.schema = SCHEMA
        rng = np.random.default_rng(seed)
        self.rows = {
            "train": self._rows(rng, requests, users),
            "validation": self._rows(rng, validation, users),
        }

    def _rows(self, rng, count, users):
        candidates = 1 + np.arange(count) % 4
        items = rng.integers(1, ITEMS, (count, 4))
        mask = np.arange(4) < candidates[:, None]
        history = rng.integers(1, ITEMS, (count, LENGTH))
        lengths = rng.integers(0, LENGTH + 1, count)
        history_mask = np.arange(LENGTH) < lengths[:, None]
        met = (history[:, :, None] % 2 == items[:, None, :] % 2) & history_mask[:, :, None]
        click = (met.mean(1) + rng.normal(0, 0.2, (count, 4)) > 0.3) & mask
        names = [f"u{i % USERS}" if users else "" for i in range(count)]
        return {
            "features": {
                "age": rng.normal(0, 1, count).astype("float32"),
                "history_item_id": np.where(history_mask, history, 0).astype("int32"),
                "history_mask": history_mask,
                "item_id": np.where(mask, items, 0).astype("int32"),
                "candidates_mask": mask,
            },
            "labels": {"click": click.astype("float32")},
            "weights": {"click": mask.astype("float32")},
            "ids": {
                "request": np.array([f"r{i}" for i in range(count)]),
                "user": np.array(names),
                "time": np.arange(count),
                "items": np.char.mod("i%d", items),
            },
        }

    def batches(self, split):
        count = len(self.rows[split]["labels"]["click"])
        if count == 0:
            raise ManifestError(f"split {split!r} is empty")
        return math.ceil(count / self.config.batch_size)

    def training(self, epoch, skip=0, replica=(0, 1)):
        count = len(self.rows[self.training_split]["labels"]["click"])
        order = np.random.default_rng((self.seed, epoch)).permutation(count)
        return self._dataset(self.training_split, order, skip, replica)

    def evaluation(self, split):
        return self._dataset(split, np.arange(len(self.rows[split]["labels"]["click"])))

    def _dataset(self, split, order, skip=0, replica=(0, 1)):
        rows = self.rows[split]
        size = self.config.batch_size
        index, count = replica

        def generate():
            for batch in range(skip, self.batches(split)):
                whole = order[batch * size : (batch + 1) * size]
                part = whole[index::count]
                # As in the real input, a replica without a request steps with the others, on
                # one that counts nothing.
                real = len(part) > 0
                part = part if real else whole[:1]
                found = self._padded(rows, part)
                found["features"]["candidates_mask"] &= real
                found["weights"]["click"] *= real
                yield found

        spec = tf.nest.map_structure(
            lambda x: tf.TensorSpec([None] * x.ndim, tf.string if x.dtype.kind == "U" else x.dtype),
            rows,
        )
        return tf.data.Dataset.from_generator(generate, output_signature=spec)

    @staticmethod
    def _padded(rows, part):
        width = rows["features"]["candidates_mask"][part].sum(1).max()

        def cut(x):
            return x[part, :width] if x.ndim == 2 and x.shape[1] == 4 else x[part]

        return tf.nest.map_structure(cut, rows)


def din(dropout=0.0, width=4, softmax=False):
    """A small DIN with Dice."""
    config = DINConfig(
        embedding={"width": width},
        attention_units=[4],
        units=[8],
        dropout=dropout,
        softmax=softmax,
    )
    return CTRModel(SCHEMA, config, {"item_id": ITEMS})


def dcn(l2=0.0, width=4, rows=ITEMS):
    """A small DCN-v2, which has no batch statistics."""
    config = DCNV2Config(embedding={"width": width, "l2": l2}, units=[8], cross_layers=1)
    return CTRModel(SCHEMA, config, {"item_id": rows})


def two_tower():
    """A small retrieval model, trained by in-batch softmax with log-Q correction."""
    config = TwoTowerConfig(embedding={"width": 4}, units=[8], width=4)
    return CTRModel(SCHEMA, config, {"item_id": ITEMS})
