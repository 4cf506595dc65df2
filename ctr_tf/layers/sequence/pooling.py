"""Pooling of several embeddings into one."""

from __future__ import annotations

from keras import ops

from ctr_tf.layers.names import Combiner
from ctr_tf.types import Tensor


def pool(values: Tensor, mask: Tensor, combiner: Combiner) -> Tensor:
    """Pools values (..., M, D) where mask (..., M) is True: (..., D); zeros where none is.

    Args:
        values: what is pooled.
        mask: which count.
        combiner: `sum`, `mean`, or `sqrtn`, the sum over the square root of the count.

    Example:
        >>> pool(ops.array([[[2.0], [4.0], [9.0]]]), ops.array([[True, True, False]]),
        ...      "mean").numpy().tolist()
        [[3.0]]
    """
    weights = ops.cast(mask, values.dtype)
    total = ops.squeeze(ops.matmul(weights[..., None, :], values), axis=-2)
    if combiner == "sum":
        return total
    count = ops.maximum(ops.sum(weights, axis=-1, keepdims=True), 1)
    return total / (ops.sqrt(count) if combiner == "sqrtn" else count)
