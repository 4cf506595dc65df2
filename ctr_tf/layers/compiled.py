"""XLA for what passes over many rows several times: compiled, it passes over them once or twice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps

import keras
import numpy as np

from ctr_tf.layers.trace_setting import TraceSetting
from ctr_tf.types import Tensor

# Below, what a step saves is not worth the tenths of a second that a new number of rows costs.
FEWEST_ROWS = 2**11
# The numbers of rows that are compiled: four an octave, and sixteen where filling up costs more.
SIZES = np.array(
    [2**k * (4 + part) // 4 for k in range(11, 13) for part in range(4)]
    + [2**k * (16 + part) // 16 for k in range(13, 30) for part in range(16)],
    "int32",
)

_enabled = TraceSetting(False)


def compiling(enabled: bool = True) -> AbstractContextManager[None]:
    """Whether what is traced within is compiled; elsewhere it is not, so that exports have no XLA.

    Keras backends other than TensorFlow never are.
    """
    return _enabled.within(enabled)


def compiled(kernel: Callable) -> Callable:
    """Compiles a kernel with XLA from `FEWEST_ROWS` rows on.

    Args:
        kernel: of float32 tensors, the first of which has M rows; M should be of `Filled`.

    Example:
        >>> twice = compiled(lambda x: 2 * x)
        >>> with compiling():
        ...     twice(keras.ops.ones((3, 1))).shape, twice(keras.ops.ones((2048, 1))).shape
        (TensorShape([3, 1]), TensorShape([2048, 1]))
    """
    function = None

    @wraps(kernel)
    def call(*tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        if not _compiles():
            return kernel(*tensors)
        import tensorflow as tf

        nonlocal function
        if function is None:
            function = tf.function(kernel, jit_compile=True)
        many = tf.shape(tensors[0])[0] >= FEWEST_ROWS
        return tf.cond(many, lambda: function(*tensors), lambda: kernel(*tensors))

    return call


class Filled:
    """Rows filled up with zeros to a number of rows that kernels are compiled for.

    Args:
        rows: M; fewer than `FEWEST_ROWS` stay as they are.

    Example:
        >>> with compiling():
        ...     filled = Filled(keras.ops.convert_to_tensor(40_000))
        ...     x = filled.up(keras.ops.ones((40_000, 2)))
        ...     x.shape, filled.cut(x).shape
        (TensorShape([40960, 2]), TensorShape([40000, 2]))
    """

    def __init__(self, rows: Tensor | int):
        self.rows = rows
        self._compiles = _compiles()
        if self._compiles:
            import tensorflow as tf

            size = tf.gather(SIZES, tf.searchsorted(SIZES, [rows])[0])
            self._behind = tf.where(rows < FEWEST_ROWS, 0, size - rows)

    def up(self, x: Tensor, row: Tensor | None = None) -> Tensor:
        """x (M, ...) with copies of a row (1, ...) behind; zeros by default."""
        if not self._compiles:
            return x
        import tensorflow as tf

        def longer() -> Tensor:
            if row is not None:
                return tf.concat([x, tf.repeat(row, self._behind, axis=0)], axis=0)
            return tf.pad(x, [[0, self._behind], *[[0, 0]] * (len(x.shape) - 1)])

        return tf.cond(self._behind > 0, longer, lambda: x)

    def cut(self, x: Tensor) -> Tensor:
        """The first M rows."""
        return x[: self.rows] if self._compiles else x


def _compiles() -> bool:
    if not _enabled.value or keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    # A sum over replicas is no part of a compiled function.
    return tf.distribute.get_strategy().num_replicas_in_sync == 1
