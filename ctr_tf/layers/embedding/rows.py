"""Reading and writing rows of variables without a copy of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from ctr_tf.types import Tensor

TENSORFLOW = keras.backend.backend() == "tensorflow"


def gather(
    variables: Sequence[keras.Variable], shard_rows: int, indices: Tensor, dtype: str
) -> Tensor:
    """Rows of a matrix that lies in shards.

    In TensorFlow a gradient with respect to a variable is `tf.IndexedSlices`, float32 where the
    variable is narrower: summed over a batch in half precision it would be lost.

    Args:
        variables: shards of the matrix, D columns.
        shard_rows: rows of each shard but the last.
        indices: (I,) of rows.
        dtype: of the result, (I, D).

    Example:
        >>> shards = [keras.Variable([[0.0], [1.0]]), keras.Variable([[2.0]])]
        >>> gather(shards, 2, ops.array([2, 0, 1]), "float32").numpy().tolist()
        [[2.0], [0.0], [1.0]]
    """
    if not TENSORFLOW:
        whole = variables[0] if len(variables) == 1 else ops.concatenate(list(variables))
        return ops.cast(ops.take(whole, indices, axis=0), dtype)
    import tensorflow as tf

    if len(variables) == 1:
        return ops.cast(_gathered(variables[0].value, indices), dtype)
    shard, count = indices // shard_rows, len(variables)
    places = tf.dynamic_partition(tf.range(tf.size(indices)), shard, count)
    local = tf.dynamic_partition(indices % shard_rows, shard, count)
    parts = [_gathered(variable.value, own) for variable, own in zip(variables, local)]
    return ops.cast(tf.dynamic_stitch(places, parts), dtype)


def _gathered(variable: Any, indices: Tensor) -> Tensor:
    """Rows of a `tf.Variable`, in float32 at least."""
    import tensorflow as tf

    # On the resource itself: `ops.take` reads the whole variable first.
    if variable.dtype == tf.float32:
        return tf.gather(variable, indices)

    @tf.custom_gradient
    def wide(indices: Tensor) -> tuple[Tensor, Callable]:
        def gradient(upstream: Tensor, variables: Sequence) -> tuple[None, list]:
            shape = tf.constant(variable.shape.as_list(), tf.int64)
            return None, [tf.IndexedSlices(upstream, indices, shape)]

        return tf.cast(tf.gather(variable, indices), tf.float32), gradient

    return wide(indices)


def read(variable: keras.Variable, start: int, rows: int) -> Tensor:
    """Consecutive rows of a variable.

    Example:
        >>> read(keras.Variable([[1.0], [2.0], [3.0]]), 1, 2).numpy().tolist()
        [[2.0], [3.0]]
    """
    if not TENSORFLOW:
        return variable[start : start + rows]
    import tensorflow as tf

    # A slice would copy the whole of a variable that was ever scattered to.
    return tf.gather(variable.value, tf.range(start, start + rows))


def write(variable: keras.Variable, start: int, values: Tensor) -> None:
    """Sets consecutive rows of a variable, on every replica that this process holds.

    Example:
        >>> variable = keras.Variable([[1.0], [2.0], [3.0]])
        >>> write(variable, 1, [[8.0], [9.0]])
        >>> variable.numpy().tolist()
        [[1.0], [8.0], [9.0]]
    """
    values = ops.convert_to_tensor(values, variable.dtype)
    if not TENSORFLOW:
        variable.assign(ops.slice_update(variable.value, (start, *[0] * (values.ndim - 1)), values))
        return
    import tensorflow as tf

    slices = tf.IndexedSlices(values, tf.range(start, start + values.shape[0]))
    for own in tf.distribute.get_strategy().experimental_local_results(variable.value):
        own.scatter_update(slices)
