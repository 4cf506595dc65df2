"""Rows by a count: training frequency of the item, length of the history, the long tail."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    items: ArrayLike, frequencies: ArrayLike, share: float = 0.2
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which rows have an item of the long tail: the least frequent share of the distinct items.

    The distinct items that appear in the rows are put in order of training frequency, equal
    frequencies in order of `items`; the first ceil(share * items) of them are the tail.

    Args:
        items: integer codes whose order breaks ties, negative where unknown, (M,).
        frequencies: occurrences of the row's item in training rows, negative where unknown, (M,).
        share: share of the distinct items, in (0, 1].

    Returns:
        A mask (M,) and the counts behind it. Rows of unknown item or frequency are in no tail.

    Raises:
        ValueError: the share is out of range, or an item comes with two frequencies.

    Example:
        >>> mask, counts = long_tail([0, 1, 2, 3, 4, 4], [9, 2, 5, 2, 7, 7])
        >>> mask, counts
        (array([False,  True, False, False, False, False]), {'items': 5, 'tail_items': 1, \
'tail_highest_frequency': 2, 'impressions_of_unknown_item': 0})
    """
    if not 0 < share <= 1:
        raise ValueError(f"`share` must be above 0 and at most 1, received {share}")
    items, frequencies = np.asarray(items), np.asarray(frequencies)
    known = (items >= 0) & (frequencies >= 0)
    distinct, first, inverse = np.unique(items[known], return_index=True, return_inverse=True)
    frequency_of_item = frequencies[known][first]
    differs = frequency_of_item[inverse] != frequencies[known]
    if differs.any():
        row = int(np.argmax(differs))
        raise ValueError(
            "`frequencies` must be one number an item, received "
            f"{frequency_of_item[inverse][row]} and {frequencies[known][row]} for item "
            f"{items[known][row]}"
        )
    # Rounding guards against 0.2 * 15 = 3.0000000000000004 giving a fourth item.
    size = math.ceil(round(share * len(distinct), 9))
    tail = np.lexsort((distinct, frequency_of_item))[:size]
    mask = np.zeros(len(items), dtype=bool)
    in_tail = np.zeros(len(distinct), dtype=bool)
    in_tail[tail] = True
    mask[known] = in_tail[inverse]
    return mask, {
        "items": len(distinct),
        "tail_items": size,
        "tail_highest_frequency": int(frequency_of_item[tail].max(initial=0)),
        "impressions_of_unknown_item": int(np.count_nonzero(~known)),
    }
