"""What is masked of histories, how much, and that it can be drawn again."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.schema import CANDIDATES_MASK
from ctr_tf.training.histories import MaskedHistories, drawn_mask
from tests.oracles.srp4ctr.masking import (
    case_rates,
    last_masked,
    masked_count,
    overlap_moments,
)

LENGTHS = np.array([10, 7, 1, 0, 4, 10, 10, 10] * 50)
KINDS = ("masked_items", "masked_behaviours")


class Batches:
    """Two batches of histories with the interface of an input."""

    config, seed, schema, training_split = None, 5, None, "histories"

    def __init__(self):
        rng = np.random.default_rng(2)
        self.features = []
        for _ in range(2):
            mask = np.arange(10) < LENGTHS[:, None]
            items = np.where(mask, rng.integers(0, 9, mask.shape), 0).astype("int32")
            genres = np.where(mask[..., None], rng.integers(0, 5, (*mask.shape, 2)), 0)
            rating = np.where(mask, rng.integers(1, 6, mask.shape), 0).astype("int32")
            self.features.append(
                {
                    "history_item": items,
                    "history_genres": genres.astype("int32"),
                    "history_rating": rating,
                    "history_mask": mask,
                    CANDIDATES_MASK: np.ones((len(mask), 1), bool),
                }
            )

    def batches(self, split):
        return 2

    def training(self, epoch, skip=0, replica=(0, 1)):
        index, count = replica
        share = {
            name: np.stack([f[name][index::count] for f in self.features])[skip:]
            for name in self.features[0]
        }
        return tf.data.Dataset.from_tensor_slices({"features": share, "ids": share["history_mask"]})


TASKS = {
    "item": ("masked_items", "item"),
    "genres": ("masked_items", "genres"),
    "rating": ("masked_behaviours", "rating"),
    "every": (CANDIDATES_MASK, None),
}


def histories(last_share=0.0, rates=(0.2, 0.3)):
    values = {"item": 7, "genres": 3, "rating": 5}
    return MaskedHistories(Batches(), "history", rates, last_share, TASKS, values)


def first(data, **given):
    return next(iter(data.training(**{"epoch": 0, **given}).as_numpy_iterator()))


def test_a_share_of_each_window_is_masked_and_one_at_least():
    features = first(histories())["features"]
    for kind, rate in zip(KINDS, (0.2, 0.3)):
        assert not (features[kind] & ~features["history_mask"]).any()
        expected = [masked_count(length, rate) for length in LENGTHS]
        assert features[kind].sum(axis=1).tolist() == expected


def test_both_masks_are_drawn_apart_and_every_place_alike():
    features = first(histories())["features"]
    items, behaviours = (features[kind][LENGTHS == 10] for kind in KINDS)
    rows = len(items)
    for (x, s), rate in case_rates(0.2, 0.3).items():
        assert np.mean((items == x) & (behaviours == s)) == pytest.approx(rate, abs=0.02)
    mean, variance = overlap_moments(10, 2, 3)
    both = (items & behaviours).sum(axis=1).mean()
    assert abs(both - mean) < 4 * np.sqrt(variance / rows)
    # The last place like any other.
    assert np.abs(items.mean(axis=0) - 0.2).max() < 4 * np.sqrt(0.16 / rows)


def test_some_windows_have_the_last_behaviour_masked_in_both_ways():
    every = first(histories(last_share=1.0))["features"]
    for kind in KINDS:
        expected = [last_masked(mask) for mask in every["history_mask"]]
        np.testing.assert_array_equal(every[kind], expected)
    some = first(histories(last_share=0.25))["features"]
    long = LENGTHS == 10
    alone = (some["masked_items"].sum(axis=1) == 1)[long]
    assert abs(alone.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / long.sum())
    np.testing.assert_array_equal(
        some["masked_items"][long][alone], some["masked_behaviours"][long][alone]
    )


def test_labels_are_what_was_there_and_count_where_masked_and_known():
    batch = first(histories())
    features, weights = batch["features"], batch["weights"]
    for name in ("item", "genres", "rating"):
        np.testing.assert_array_equal(batch["labels"][name], features[f"history_{name}"])
    items, genres = features["history_item"], features["history_genres"]
    masked = features["masked_items"]
    # 0 is missing, 8 has no value of its own; of genres 1 to 3 have one.
    np.testing.assert_array_equal(weights["item"], masked & (items > 0) & (items <= 7))
    known = ((genres > 0) & (genres <= 3)).any(axis=-1)
    np.testing.assert_array_equal(weights["genres"], masked & known)
    np.testing.assert_array_equal(weights["rating"], features["masked_behaviours"])
    np.testing.assert_array_equal(features[CANDIDATES_MASK], features["history_mask"])
    # A task without an attribute counts wherever its feature says so, and has no label.
    np.testing.assert_array_equal(weights["every"], features["history_mask"])
    assert set(batch["labels"]) == {"item", "genres", "rating"}


def test_at_a_rate_of_zero_the_last_behaviour_alone_is_masked():
    features = first(histories(last_share=0.25, rates=(0.2, 0.0)))["features"]
    long, found = LENGTHS == 10, features["masked_behaviours"]
    alone = (features["masked_items"].sum(axis=1) == 1) & long
    assert alone.any()
    for row, mask in zip(found[alone], features["history_mask"][alone]):
        np.testing.assert_array_equal(row, last_masked(mask))
    assert not found[long & ~alone].any()


def test_masks_follow_from_epoch_and_batch():
    data = histories()
    runs = [list(data.training(epoch).as_numpy_iterator()) for epoch in (0, 0, 1)]
    masks = [[batch["features"]["masked_items"] for batch in run] for run in runs]
    np.testing.assert_array_equal(masks[0], masks[1])
    for other in (masks[0][1], masks[2][0]):
        assert (masks[0][0] != other).any()
    # Resumed behind the first batch.
    np.testing.assert_array_equal(first(data, skip=1)["features"]["masked_items"], masks[0][1])
    replica = first(data, replica=(1, 2))["features"]["masked_items"]
    assert (replica != masks[0][0][1::2]).any()


def test_a_replica_s_filler_counts_nothing():
    data = histories()
    for features in data.data.features:
        features[CANDIDATES_MASK][:] = False
    batch = first(data)
    assert not batch["features"][CANDIDATES_MASK].any()
    assert not any(weight.any() for weight in batch["weights"].values())


def test_halves_are_rounded_to_even():
    mask = tf.sequence_mask([5, 15])
    found = tf.reduce_sum(tf.cast(drawn_mask(mask, 0.1, [3, 4]), tf.int32), axis=1)
    assert found.numpy().tolist() == [masked_count(5, 0.1), masked_count(15, 0.1)] == [1, 2]
