"""Candidates in parts that are scored at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from keras import ops

from ctr_tf.types import CandidateSide

_count = 1


@contextmanager
def in_parts(count: int) -> Iterator[None]:
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
    global _count
    before, _count = _count, count
    try:
        yield
    finally:
        _count = before


def candidate_parts(candidates: CandidateSide) -> list[CandidateSide]:
    """Candidates as `in_parts` says, all in one by default."""
    if _count == 1:
        return [candidates]
    number = ops.shape(candidates.mask)[1]
    ends = [number * part // _count for part in range(_count + 1)]
    return [candidates.part(*each) for each in zip(ends, ends[1:])]
