"""Candidates in parts that are scored at the same time."""

from __future__ import annotations

from contextlib import AbstractContextManager

from keras import ops

from ctr_tf.layers.trace_setting import TraceSetting
from ctr_tf.types import CandidateSide, Tensor

_count = TraceSetting(1)


def in_parts(count: int) -> AbstractContextManager[None]:
    """Within it the item tower is traced once for each of that many parts of the candidates.

    A graph's operations that do not depend on each other run at the same time, so that one request
    with many candidates takes as many cores, where an operation on few rows does not spread over
    them.

    Example:
        >>> from ctr_tf.types import Fields
        >>> side = CandidateSide(Fields({"id": ops.ones((2, 5, 4))}), ops.ones((2, 5), "bool"))
        >>> with in_parts(2):
        ...     [tuple(part.mask.shape) for part in candidate_parts(side)]
        [(2, 2), (2, 3)]
    """
    return _count.within(count)


def candidate_parts(candidates: CandidateSide) -> list[CandidateSide]:
    """Candidates as `in_parts` says, all in one by default."""
    if _count.value == 1:
        return [candidates]
    each = part_bounds(ops.shape(candidates.mask)[1], _count.value)
    return [candidates.part(begin, end) for begin, end in each]


def part_bounds(number: Tensor | int, count: int) -> list[tuple[Tensor | int, Tensor | int]]:
    """Where each of that many parts of like size begins and ends.

    Example:
        >>> part_bounds(5, 2)
        [(0, 2), (2, 5)]
    """
    ends = [number * part // count for part in range(count + 1)]
    return list(zip(ends, ends[1:]))
