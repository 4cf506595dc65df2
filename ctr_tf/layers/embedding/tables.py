"""Embedding tables: which variable a table lies in, and how its rows are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Sequence

import keras
import numpy as np
from keras import ops

from ctr_tf.types import Tensor


@dataclass(frozen=True)
class TableSpec:
    """One logical embedding table.

    Args:
        name: logical name, unique.
        rows: its rows; row 0 stands for a missing value.
        width: its columns.
        initializer, scale, l2: see `EmbeddingConfig`.
    """

    name: str
    rows: int
    width: int
    initializer: Literal["normal", "uniform", "zeros"] = "normal"
    scale: float = 0.01
    l2: float = 0.0


class EmbeddingTables(keras.layers.Layer):
    """All embedding tables of a model, and the only code that knows how they lie in memory.

    Tables of one width, initialiser and regulariser are stacked in one variable, read by one
    gather a step however many features there are.

    Args:
        specs: the tables.

    Raises:
        ValueError: two tables of one name, or no row.

    Example:
        >>> tables = EmbeddingTables([TableSpec("item", 5, 4), TableSpec("city", 3, 4)])
        >>> item, city = tables.lookup([("item", ops.array([[1, 2]])), ("city", ops.array([0]))])
        >>> item.shape, city.shape, len(tables.weights)
        (TensorShape([1, 2, 4]), TensorShape([1, 4]), 1)
    """

    def __init__(self, specs: Sequence[TableSpec], **kwargs):
        super().__init__(**kwargs)
        self.specs = {spec.name: spec for spec in specs}
        if len(self.specs) != len(specs):
            raise ValueError(f"table names must be unique: {[spec.name for spec in specs]}")
        stacks: dict[tuple, list[TableSpec]] = {}
        for spec in specs:
            if spec.rows < 1:
                raise ValueError(f"table {spec.name!r} must have rows, got {spec.rows}")
            key = (spec.width, spec.initializer, spec.scale, spec.l2)
            stacks.setdefault(key, []).append(spec)
        self.stacks = []
        self.place: dict[str, tuple[int, int]] = {}
        for (width, initializer, scale, l2), members in stacks.items():
            rows = 0
            for spec in members:
                self.place[spec.name] = (len(self.stacks), rows)
                rows += spec.rows
            self.stacks.append(
                self.add_weight(
                    name=f"stack_{len(self.stacks)}",
                    shape=(rows, width),
                    initializer=_initializer(initializer, scale),
                    regularizer=keras.regularizers.L2(l2) if l2 else None,
                    # Cast after the gather: autocast would copy the whole table at each read.
                    autocast=False,
                )
            )
        self.built = True

    def lookup(self, requests: Sequence[tuple[str, Tensor]]) -> list[Tensor]:
        """Rows of tables: for each (name, indices (...)), embeddings (..., width)."""
        found: list[Tensor | None] = [None] * len(requests)
        for stack, variable in enumerate(self.stacks):
            members = [i for i, (name, _) in enumerate(requests) if self.place[name][0] == stack]
            if not members:
                continue
            indices = [requests[i][1] + self.place[requests[i][0]][1] for i in members]
            flat = [ops.reshape(index, (-1,)) for index in indices]
            rows = _gather(variable, flat[0] if len(flat) == 1 else ops.concatenate(flat))
            rows = ops.cast(rows, self.compute_dtype)
            start = 0
            for i, index, part in zip(members, indices, flat):
                size = ops.shape(part)[0]
                shape = (*ops.shape(index), variable.shape[-1])
                found[i] = ops.reshape(rows[start : start + size], shape)
                start = start + size
        return found

    def table(self, name: str) -> np.ndarray:
        """The values of one logical table, (rows, width)."""
        stack, start = self.place[name]
        rows = self.specs[name].rows
        return ops.convert_to_numpy(self.stacks[stack])[start : start + rows]


def _initializer(name: str, scale: float) -> keras.initializers.Initializer:
    if name == "zeros" or scale == 0:
        return keras.initializers.Zeros()
    if name == "uniform":
        return keras.initializers.RandomUniform(-scale, scale)
    return keras.initializers.RandomNormal(0.0, scale)


def _gather(variable: keras.Variable, indices: Tensor) -> Tensor:
    if keras.backend.backend() != "tensorflow":
        return ops.take(variable, indices, axis=0)
    import tensorflow as tf

    # On the resource itself: `ops.take` reads the whole variable first.
    return tf.gather(variable.value, indices)
