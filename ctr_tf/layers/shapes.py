"""Joining user-side and candidate-side tensors along the candidate axis."""

from __future__ import annotations

from typing import Iterable, Sequence

import keras
from keras import ops

from ctr_tf.types import Tensor


def concat(values: Iterable[Tensor | None]) -> Tensor | None:
    """Concatenates along the last axis; None for nothing to concatenate.

    Example:
        >>> concat([ops.ones((2, 3)), None, ops.zeros((2, 1))]).shape
        TensorShape([2, 4])
    """
    present = [value for value in values if value is not None]
    if not present:
        return None
    return present[0] if len(present) == 1 else ops.concatenate(present, axis=-1)


def split(x: Tensor, sizes: Sequence[int | Tensor], axis: int = 0) -> list[Tensor]:
    """Consecutive parts of x along an axis.

    Example:
        >>> [part.numpy().tolist() for part in split(ops.array([1, 2, 3]), [1, 2])]
        [[1], [2, 3]]
    """
    if len(sizes) == 1:
        return [x]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # One operation, whose gradient is one concatenation; that of a slice is as large as x.
        return tf.split(x, tf.stack(sizes), axis, num=len(sizes))
    return ops.split(x, [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)], axis)


def by_field(x: Tensor, width: int) -> Tensor:
    """Fields of one width laid end to end, (..., F D), as (..., F, D).

    Example:
        >>> by_field(ops.ones((2, 5, 12)), 4).shape
        TensorShape([2, 5, 3, 4])
    """
    return ops.reshape(x, (*ops.shape(x)[:-1], x.shape[-1] // width, width))


def stacked(fields: Iterable[Tensor]) -> Tensor | None:
    """Fields of one width (..., D) side by side, (..., F, D); None for no field.

    Example:
        >>> stacked([ops.ones((2, 3)), ops.zeros((2, 3))]).shape
        TensorShape([2, 2, 3])
    """
    fields = list(fields)
    return ops.stack(fields, axis=-2) if fields else None


def per_candidate(value: Tensor, mask: Tensor) -> Tensor:
    """Broadcasts a per-request (B, ..., D) to the candidates of `mask` (B, N): (B, N, ..., D).

    Example:
        >>> per_candidate(ops.ones((2, 3)), ops.ones((2, 5), dtype="bool")).shape
        TensorShape([2, 5, 3])
    """
    shape = ops.shape(mask)
    return ops.broadcast_to(value[:, None], (shape[0], shape[1], *value.shape[1:]))


def over_candidates(
    per_request: Sequence[Tensor | None], own: Tensor | None, mask: Tensor
) -> list[Tensor]:
    """Parts of a sum over candidates, which broadcast against each other to (B, N, D).

    Args:
        per_request: parts that all candidates of a request share, (B, D) each; None for an absent
            one.
        own: the candidates' own part, (B, N, D); None where there is no candidate side.
        mask: (B, N).

    Example:
        >>> mask = ops.ones((2, 5), dtype="bool")
        >>> [part.shape for part in over_candidates([ops.ones((2, 3))], ops.ones((2, 5, 3)), mask)]
        [TensorShape([2, 1, 3]), TensorShape([2, 5, 3])]
        >>> over_candidates([ops.ones((2, 3))], None, mask)[0].shape
        TensorShape([2, 5, 3])
    """
    present = [part for part in per_request if part is not None]
    if own is None:
        return [per_candidate(part, mask) for part in present]
    return [*(part[:, None, :] for part in present), own]
