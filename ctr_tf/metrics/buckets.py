"""Rows by a count: training frequency of the item, length of the history, the long tail."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FREQUENCY_BUCKETS = (0, 1, 5, 20, 100)


@dataclass(frozen=True)
class Buckets:
    """Consecutive ranges of a count, each from its lower bound to before the next.

    Args:
        bounds: lower bounds, strictly ascending, the first one 0.

    Raises:
        ValueError: the bounds break that rule.

    Example:
        >>> Buckets((0, 1, 5, 20, 100)).names
        ['0', '1-4', '5-19', '20-99', '100+']
        >>> Buckets((0, 1, 5)).of([0, 3, 5, 900, -1])
        array([ 0,  1,  2,  2, -1])
    """

    bounds: Sequence[int] = FREQUENCY_BUCKETS

    def __post_init__(self) -> None:
        ascending = all(low < high for low, high in zip(self.bounds, self.bounds[1:], strict=False))
        if not self.bounds or self.bounds[0] != 0 or not ascending:
            raise ValueError(f"`bounds` must ascend strictly from 0, received {list(self.bounds)}")

    @property
    def names(self) -> list[str]:
        """One readable name a bucket."""
        closed = [
            str(low) if high - low == 1 else f"{low}-{high - 1}"
            for low, high in zip(self.bounds, self.bounds[1:], strict=False)
        ]
        return [*closed, f"{self.bounds[-1]}+"]

    def of(self, counts: ArrayLike) -> NDArray[np.int64]:
        """The bucket of each count, -1 where the count is negative (unknown), (M,)."""
        return np.searchsorted(np.asarray(self.bounds), np.asarray(counts), side="right") - 1


def long_tail(
    items: ArrayLike,
    frequencies: ArrayLike,
    share: float = 0.2,
    of: Literal["items", "occurrences"] = "items",
    trained: ArrayLike | None = None,
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which rows have an item of the long tail: the least frequent share of the distinct items.

    Items are put in order of training frequency: those that appear in the rows and, where `trained`
    is given, all others that training has. Of equal frequencies those with rows come first, in
    order of `items`. The tail is the first ceil(share * items) of them or, `of` occurrences, the
    first ones that together have at most that share of the occurrences of all.

    Args:
        items: integer codes whose order breaks ties, negative where unknown, (M,).
        frequencies: occurrences of the row's item in training rows, negative where unknown, (M,).
        share: share of the distinct items or of their occurrences, in (0, 1].
        of: what the share is of.
        trained: the training occurrences of every item that has some, those of the rows included.

    Returns:
        A mask (M,) and the counts behind it. Rows of unknown item or frequency are in no tail.

    Raises:
        ValueError: the share is out of range, an item comes with two frequencies, or one that
            `trained` has not.

    Example:
        >>> mask, counts = long_tail([0, 1, 2, 3, 4, 4], [9, 2, 5, 2, 7, 7])
        >>> mask, counts
        (array([False,  True, False, False, False, False]), {'items': 5, 'tail_items': 1, \
'tail_highest_frequency': 2, 'impressions_of_unknown_item': 0})
        >>> long_tail([0, 1, 2, 3, 4, 4], [9, 2, 5, 2, 7, 7], of="occurrences")[0]
        array([False,  True, False,  True, False, False])
        >>> mask, _ = long_tail([0, 1, 2, 3, 4, 4], [9, 2, 5, 2, 7, 7], trained=[1, 2, 2, 5, 7, 9])
        >>> int(mask.sum())  # A fifth of six items is two: one without rows, and the first of 2.
        1
    """
    if not 0 < share <= 1:
        raise ValueError(f"`share` must be above 0 and at most 1, received {share}")
    known, item, frequency = _items(items, frequencies)
    every = frequency if trained is None else _with_trained(frequency, np.asarray(trained))
    # Rounding guards against 0.2 * 15 = 3.0000000000000004 giving a fourth item.
    if of == "items":
        size = math.ceil(round(share * len(every), 9))
    else:
        allowed = round(share * int(every.sum()), 9)
        size = int(np.searchsorted(np.cumsum(every), allowed, side="right"))
    # Behind the less frequent of all items, and those of the rows that come before it.
    among_equals = np.arange(len(frequency)) - np.searchsorted(frequency, frequency)
    place = np.searchsorted(every, frequency) + among_equals
    mask = np.zeros(len(known), dtype=bool)
    mask[known] = place[item] < size
    return mask, {
        "items": len(every),
        "tail_items": size,
        "tail_highest_frequency": int(every[:size].max(initial=0)),
        "impressions_of_unknown_item": int(np.count_nonzero(~known)),
    }


def _with_trained(frequency: NDArray[np.int64], trained: NDArray[np.int64]) -> NDArray[np.int64]:
    """The frequencies of all items, ascending: those of training, and those that it has not."""
    every = np.sort(np.concatenate([frequency[frequency == 0], trained]))
    values, counts = np.unique(frequency, return_counts=True)
    there = np.searchsorted(every, values, side="right") - np.searchsorted(every, values)
    if (there < counts).any():
        value = values[there < counts][0]
        raise ValueError(f"`trained` must have the rows' items, received none that occurs {value}")
    return every


def frequency_groups(
    items: ArrayLike, frequencies: ArrayLike, groups: int = 10
) -> NDArray[np.int64]:
    """Rows cut by the training frequency of their item into groups of nearly as many rows.

    The rows of an item are in one group: that in which the middle of them lies.

    Args:
        items: integer codes whose order breaks ties, negative where unknown, (M,).
        frequencies: occurrences of the row's item in training rows, negative where unknown, (M,).
        groups: how many.

    Returns:
        The group of each row, 0 the least frequent, -1 where unknown, (M,).

    Raises:
        ValueError: fewer than one group, or an item comes with two frequencies.

    Example:
        >>> frequency_groups([5, 5, 6, 7, 8, 8, -1], [1, 1, 3, 2, 9, 9, 0], groups=3)
        array([ 0,  0,  1,  1,  2,  2, -1])
    """
    if groups < 1:
        raise ValueError(f"`groups` must be at least 1, received {groups}")
    known, item, frequency = _items(items, frequencies)
    rows = np.bincount(item, minlength=len(frequency))
    middle = np.cumsum(rows) - rows / 2
    found = np.full(len(known), -1)
    found[known] = (middle * groups / max(rows.sum(), 1)).astype(np.int64)[item]
    return found


def _items(
    items: ArrayLike, frequencies: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct items in order of frequency, equal ones in order of code.

    Returns:
        which rows have a known item and frequency, (M,); the place of the item of each of these in
        that order; the frequency at each place, (items,).
    """
    items, frequencies = np.asarray(items), np.asarray(frequencies)
    known = (items >= 0) & (frequencies >= 0)
    distinct, first, inverse = np.unique(items[known], return_index=True, return_inverse=True)
    of_item = frequencies[known][first]
    differs = of_item[inverse] != frequencies[known]
    if differs.any():
        row = int(np.argmax(differs))
        raise ValueError(
            "`frequencies` must be one number an item, received "
            f"{of_item[inverse][row]} and {frequencies[known][row]} for item {items[known][row]}"
        )
    order = np.lexsort((distinct, of_item))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return known, place[inverse], of_item[order]
