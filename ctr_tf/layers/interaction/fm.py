"""The second-order part of a factorisation machine, split between user and candidate."""

from __future__ import annotations

from typing import Sequence

from keras import ops

from ctr_tf.types import Tensor


def fm_sums(fields: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Sum and sum of squares of field vectors, (..., D) each: (..., D) each.

    Sums of disjoint sets of fields add, which is how the user's are computed once a request.
    """
    return sum(fields), sum(ops.square(field) for field in fields)


def fm_second_order(total: Tensor, squares: Tensor) -> Tensor:
    """Sum over pairs of fields of <v_i, v_j> (Rendle 2010, lemma 3.1), from `fm_sums`.

    Shapes:
        total, squares: (..., D); returns (...).

    Example:
        >>> float(fm_second_order(*fm_sums([ops.array([1.0, 2.0]), ops.array([3.0, 4.0])])))
        11.0
    """
    return 0.5 * ops.sum(ops.square(total) - squares, axis=-1)
