"""Rows of tables in fewer bytes: float16, or int8 with a scale for each row."""

from __future__ import annotations

from typing import Literal

import numpy as np
import tensorflow as tf

from ctr_tf.export.self_check import ExportError
from ctr_tf.types import Tensor

LEVELS = 127
SCALE_BYTES = 2
"""Of the float16 at the end of an int8 row: one gather brings the row and its scale."""

_OPTIONS = {"float32": (), "float16": ("float16",), "int8": ("float16", "int8")}


def columns(dtype: str, width: int) -> int:
    """Columns of the variable that rows of a table lie in."""
    return width + SCALE_BYTES if dtype == "int8" else width


def row_bytes(dtype: str, width: int) -> int:
    """Bytes of one row.

    Example:
        >>> row_bytes("float32", 16), row_bytes("int8", 16)
        (64, 18)
    """
    return columns(dtype, width) * tf.dtypes.as_dtype(dtype).size


def stored_dtype(tables: Literal["float32", "float16", "int8"], trained: str, width: int) -> str:
    """What a table is stored as: of what the export allows, the type of the shortest row.

    A row of one or two columns is no shorter in int8, with its scale, than in float16, which is
    closer; and what was trained in half precision stays in it.

    Args:
        tables: see `ExportConfig`.
        trained: the dtype of the trained table.
        width: its columns.

    Example:
        >>> [stored_dtype("int8", "float32", width) for width in (1, 2, 3)]
        ['float16', 'float16', 'int8']
        >>> stored_dtype("float16", "bfloat16", 16)
        'bfloat16'
    """
    return min((trained, *_OPTIONS[tables]), key=lambda dtype: row_bytes(dtype, width))


def packed(name: str, rows: np.ndarray, dtype: str) -> np.ndarray:
    """Rows of a table as they are stored.

    An int8 row is its values divided by their scale and rounded, then the two bytes of the scale:
    the largest magnitude over 127, rounded up to float16, so that no value is cut off.

    Args:
        name: of the table.
        rows: its trained values, (R, width).
        dtype: what to store them as.

    Returns:
        (R, columns).

    Raises:
        ExportError: a value that the type cannot hold.

    Example:
        >>> packed("item_id", np.array([[-1.0, 0.0, 0.25]], "float32") * 127, "int8")[:, :3]
        array([[-127, 0, 32]], dtype=int8)
    """
    rows = rows.astype("float32")
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == "int8":
            found, limits = _quantised(rows)
        else:
            found = limits = rows.astype(tf.dtypes.as_dtype(dtype).as_numpy_dtype)
    if not np.isfinite(limits.astype("float32")).all():
        largest = float(np.abs(rows).max())
        raise ExportError(f"table {name!r}: {dtype} cannot hold a value of magnitude {largest:g}")
    return found


def _quantised(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 rows as they are stored, and their scales (R, 1)."""
    exact = np.abs(rows).max(axis=1, keepdims=True, initial=0.0) / np.float32(LEVELS)
    scale = exact.astype("float16")
    scale = np.where(scale < exact, np.nextafter(scale, np.float16(np.inf)), scale)
    values = np.rint(rows / np.where(scale > 0, scale, 1).astype("float32")).astype("int8")
    return np.concatenate([values, scale.view("int8")], axis=1), scale


def unpacked(rows: Tensor, dtype: str = "float32") -> Tensor:
    """Rows of a table, of int8 rows as they are stored.

    Args:
        rows: (..., width + 2) of int8, or of a floating type that holds the same numbers.
        dtype: of the result, (..., width).

    Example:
        >>> rows = np.array([[0.5, -127.0, 64.0], [0.0, 0.0, 0.0]], "float32")
        >>> unpacked(packed("item_id", rows, "int8")).numpy()
        array([[   0., -127.,   64.],
               [   0.,    0.,    0.]], dtype=float32)
    """
    values, end = rows[..., :-SCALE_BYTES], rows[..., -SCALE_BYTES:]
    scale = tf.bitcast(tf.cast(end, tf.int8), tf.float16)
    return tf.cast(values, dtype) * tf.cast(scale, dtype)[..., None]


def largest_errors(rows: np.ndarray, dtype: str) -> np.ndarray:
    """By how much a value of each row may differ once it is stored, (R, 1).

    Args:
        rows: trained values, (R, width).
        dtype: what they are stored as, another type than they were trained in.

    Example:
        >>> largest_errors(np.array([[0.5, -254.0]]), "int8").round(2)
        array([[1.]])
    """
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    if dtype == "int8":
        # Half a step: the scale, with what rounding it up adds at most.
        return (largest / LEVELS * (1 + 2**-9) + 2**-24) / 2
    return largest * 2**-11 + 2**-25
