"""Buckets of a count and the long tail, by hand."""

import numpy as np
import pytest

from ctr_tf.metrics import Buckets, frequency_groups, long_tail


def test_every_count_is_in_the_bucket_that_its_name_says():
    buckets = Buckets()
    counts = [0, 1, 4, 5, 19, 20, 99, 100, 10**9]
    assert [buckets.names[index] for index in buckets.of(counts)] == [
        "0",
        "1-4",
        "1-4",
        "5-19",
        "5-19",
        "20-99",
        "20-99",
        "100+",
        "100+",
    ]


@pytest.mark.parametrize("bounds", [[], [1, 2], [0, 5, 5], [0, 7, 3]])
def test_bounds_must_ascend_from_zero(bounds):
    with pytest.raises(ValueError, match="`bounds` must ascend strictly from 0, received"):
        Buckets(bounds)


def test_long_tail_is_the_least_frequent_fifth_with_ties_by_item():
    # Ten items, two of them in the tail: item 7 (seen once), then 2 before 5 (both twice).
    frequency = np.array([9, 8, 2, 7, 6, 2, 5, 1, 30, 40])
    items = np.tile(np.arange(10), 3)
    mask, counts = long_tail(items, frequency[items])
    assert sorted(set(items[mask].tolist())) == [2, 7]
    assert mask.sum() == 6
    assert counts == {
        "items": 10,
        "tail_items": 2,
        "tail_highest_frequency": 2,
        "impressions_of_unknown_item": 0,
    }


def test_items_without_rows_are_of_the_order_too():
    # 0, 1, 2, 2, 2, 3, 4, 7, 9, 50, of which 1, one of 2, 3 and 50 have no row.
    frequency = np.array([9, 2, 0, 4, 2, 7])
    trained = [9, 2, 4, 2, 7, 1, 2, 3, 50]
    mask, counts = long_tail(np.arange(6), frequency, trained=trained)
    assert mask.tolist() == [False, False, True, False, False, False]
    assert (counts["items"], counts["tail_items"], counts["tail_highest_frequency"]) == (10, 2, 1)
    assert long_tail(np.arange(6), frequency, 0.3, trained=trained)[0].tolist()[:3] == [0, 1, 1]
    assert (
        long_tail(np.arange(6), frequency, 0.5, trained=trained)[1]["tail_highest_frequency"] == 2
    )
    # 0, 1, 2, 2, 2, 3 are 10 of 80.
    mask, counts = long_tail(np.arange(6), frequency, 0.125, "occurrences", trained)
    assert mask.tolist() == [False, True, True, False, True, False]
    assert (counts["tail_items"], counts["tail_highest_frequency"]) == (6, 3)
    with pytest.raises(
        ValueError, match="`trained` must have the rows' items, .* none that occurs 2"
    ):
        long_tail([0, 1, 2], [2, 2, 0], trained=[2, 5])


def test_the_tail_rounds_up_but_not_for_floating_point():
    for items, tail in ((15, 3), (16, 4), (1, 1)):
        assert long_tail(np.arange(items), np.arange(items))[1]["tail_items"] == tail


def test_unknown_items_are_in_no_tail_and_counted():
    mask, counts = long_tail([-1, 3, 4], [0, -1, 9])
    assert mask.tolist() == [False, False, True]
    assert (counts["items"], counts["impressions_of_unknown_item"]) == (1, 2)


def test_two_frequencies_of_one_item_are_an_error():
    with pytest.raises(ValueError, match="one number an item, received 5 and 6 for item 3"):
        long_tail([3, 3], [5, 6])
    with pytest.raises(ValueError, match="`share` must be above 0 and at most 1, received 0"):
        long_tail([3], [5], share=0)


def test_a_tail_of_occurrences_has_at_most_its_share_of_them():
    # 1, 2, 2, 5, 10: a fifth of 20 is 4, which item 3 and one of those seen twice have, 3 in all.
    frequency = np.array([10, 2, 5, 1, 2])
    items = np.array([0, 1, 2, 3, 4, 3, 1])
    mask, counts = long_tail(items, frequency[items], of="occurrences")
    assert mask.tolist() == [False, True, False, True, False, True, True]
    assert (counts["tail_items"], counts["tail_highest_frequency"]) == (2, 2)
    # Of 25 % the other is a part too: 1 + 2 + 2 is 5 of 20.
    assert long_tail(items, frequency[items], 0.25, "occurrences")[1]["tail_items"] == 3


def test_groups_have_nearly_as_many_rows_and_whole_items():
    generator = np.random.default_rng(3)
    items = generator.choice(300, 10_000)
    frequency = generator.integers(0, 50, 300)
    groups = frequency_groups(items, frequency[items])
    assert sorted(set(groups.tolist())) == list(range(10))
    sizes = np.bincount(groups)
    # An item has some 33 rows.
    assert abs(sizes - 1000).max() < 60
    for item in range(300):
        assert len(set(groups[items == item].tolist())) == 1
    highest = [frequency[items[groups == group]].max() for group in range(10)]
    lowest = [frequency[items[groups == group]].min() for group in range(10)]
    assert all(high <= low for high, low in zip(highest, lowest[1:]))


def test_groups_of_items_that_are_unknown():
    assert frequency_groups([-1, 4, 5], [3, -1, 2], groups=2).tolist() == [-1, -1, 1]
    assert frequency_groups([-1], [3]).tolist() == [-1]
    with pytest.raises(ValueError, match="`groups` must be at least 1, received 0"):
        frequency_groups([1], [1], groups=0)
