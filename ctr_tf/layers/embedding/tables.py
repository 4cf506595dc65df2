"""Embedding tables: which variables a table lies in, and how its rows are read."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
from keras import ops

from ctr_tf.layers.embedding.rows import gather, read, write
from ctr_tf.layers.shapes import split
from ctr_tf.types import Tensor

CHUNK_ROWS = 65536


@dataclass(frozen=True)
class TableSpec:
    """One logical embedding table.

    Args:
        name: logical name, unique.
        rows: its rows; row 0 stands for a missing value.
        width: its columns.
        initializer, scale, l2, dtype, trainable: see `TableConfig`.
    """

    name: str
    rows: int
    width: int
    initializer: Literal["normal", "uniform", "zeros"] = "normal"
    scale: float = 0.01
    l2: float = 0.0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    trainable: bool = True


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a logical table within one variable.

    Args:
        variable: number of the variable among the layer's.
        start: the first of the rows in the variable.
        first: the first of them in the table.
        rows: how many.
    """

    variable: int
    start: int
    first: int
    rows: int


@dataclass(frozen=True)
class Stack:
    """Tables of one kind, one below the other, in one variable or in shards of equal rows.

    Args:
        variables: the shards.
        shard_rows: rows of each but the last.
        l2: of its tables.
    """

    variables: list[keras.Variable]
    shard_rows: int
    l2: float


class EmbeddingTables(keras.layers.Layer):
    """All embedding tables of a model, and the only code that knows how they lie in memory.

    Tables of one width, regulariser and dtype, all trained or all not, are stacked in one
    variable, read by one gather a step however many features there are. A stack of more than
    `shard_rows` rows is cut into several variables of equal size. Initial values and saved weights
    go by the tables' names, so that this layout can change.

    Args:
        specs: the tables.
        shard_rows: the most rows of one variable; no bound by default.

    Raises:
        ValueError: two tables of one name, or no row.

    Example:
        >>> tables = EmbeddingTables([TableSpec("item", 5, 4), TableSpec("city", 3, 4)])
        >>> item, city = tables.lookup([("item", ops.array([[1, 2]])), ("city", ops.array([0]))])
        >>> item.shape, city.shape, len(tables.weights)
        (TensorShape([1, 2, 4]), TensorShape([1, 4]), 1)
    """

    def __init__(self, specs: Sequence[TableSpec], shard_rows: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.specs = {spec.name: spec for spec in specs}
        if len(self.specs) != len(specs):
            raise ValueError(f"table names must be unique: {[spec.name for spec in specs]}")
        kinds: dict[tuple, list[TableSpec]] = {}
        for spec in specs:
            if spec.rows < 1:
                raise ValueError(f"table {spec.name!r} must have rows, got {spec.rows}")
            kind = (spec.width, spec.l2, spec.dtype, spec.trainable)
            kinds.setdefault(kind, []).append(spec)
        self.stacks: list[Stack] = []
        self.place: dict[str, tuple[int, int]] = {}
        # As Keras lists weights: those that are trained first.
        for members in sorted(kinds.values(), key=lambda members: not members[0].trainable):
            rows = 0
            for spec in members:
                self.place[spec.name] = (len(self.stacks), rows)
                rows += spec.rows
            self.stacks.append(self._stack(members[0], rows, shard_rows or rows))
        self.built = True
        for spec in specs:
            self._initialise(spec)

    def _stack(self, kind: TableSpec, rows: int, most: int) -> Stack:
        shard_rows = math.ceil(rows / math.ceil(rows / most))
        starts = range(0, rows, shard_rows)
        name = f"stack_{len(self.stacks)}"
        variables = [
            self.add_weight(
                name=name if len(starts) == 1 else f"{name}_{shard}",
                shape=(min(shard_rows, rows - start), kind.width),
                initializer="zeros",
                dtype=kind.dtype,
                trainable=kind.trainable,
                # Cast after the gather: autocast would copy the whole table at each read.
                autocast=False,
            )
            for shard, start in enumerate(starts)
        ]
        return Stack(variables, shard_rows, kind.l2)

    def _initialise(self, spec: TableSpec) -> None:
        """Draws a table's values a chunk at a time: temporaries of its size would be many."""
        # As Keras draws the seeds of its initialisers.
        seed = random.randint(1, 10**9)
        if spec.initializer == "zeros" or spec.scale == 0:
            return
        for chunk, first in enumerate(range(0, spec.rows, CHUNK_ROWS)):
            shape = (min(CHUNK_ROWS, spec.rows - first), spec.width)
            own = (seed + chunk) % 2**31
            if spec.initializer == "uniform":
                values = keras.random.uniform(shape, -spec.scale, spec.scale, seed=own)
            else:
                values = keras.random.normal(shape, 0.0, spec.scale, seed=own)
            self.write(spec.name, first, values)

    def lookup(self, requests: Sequence[tuple[str, Tensor]]) -> list[Tensor]:
        """Rows of tables: for each (name, indices (...)), embeddings (..., width)."""
        found: list[Tensor | None] = [None] * len(requests)
        for number, stack in enumerate(self.stacks):
            members = [i for i, (name, _) in enumerate(requests) if self.place[name][0] == number]
            if not members:
                continue
            indices = [requests[i][1] + self.place[requests[i][0]][1] for i in members]
            flat = [ops.reshape(index, (-1,)) for index in indices]
            wanted = flat[0] if len(flat) == 1 else ops.concatenate(flat)
            rows = gather(stack.variables, stack.shard_rows, wanted, self.compute_dtype)
            parts = split(rows, [ops.shape(part)[0] for part in flat])
            for i, index, part in zip(members, indices, parts):
                found[i] = ops.reshape(part, (*ops.shape(index), rows.shape[-1]))
        return found

    @property
    def l2(self) -> dict[str, float]:
        """Path of each regularised variable, and the weight of its rows' squared norms."""
        return {v.path: stack.l2 for stack in self.stacks if stack.l2 for v in stack.variables}

    def pieces(self, name: str, first: int = 0, rows: int | None = None) -> Iterator[Piece]:
        """Where rows of a logical table lie, in order; all of them by default."""
        number, offset = self.place[name]
        shard_rows = self.stacks[number].shard_rows
        before = sum(len(stack.variables) for stack in self.stacks[:number])
        end = self.specs[name].rows if rows is None else first + rows
        while first < end:
            shard, start = divmod(offset + first, shard_rows)
            count = min(end - first, shard_rows - start)
            yield Piece(before + shard, start, first, count)
            first += count

    def read(
        self, name: str, first: int, rows: int, variables: Sequence[keras.Variable] | None = None
    ) -> Tensor:
        """Consecutive rows of a logical table.

        Args:
            name: of the table.
            first: the first row.
            rows: how many.
            variables: what lies as the layer's own variables do, such as an optimiser's slots;
                these themselves by default.
        """
        variables = self.weights if variables is None else variables
        pieces = self.pieces(name, first, rows)
        parts = [read(variables[piece.variable], piece.start, piece.rows) for piece in pieces]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts)

    def write(
        self,
        name: str,
        first: int,
        values: Tensor,
        variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Sets consecutive rows of a logical table; see `read`."""
        variables = self.weights if variables is None else variables
        for piece in self.pieces(name, first, len(values)):
            own = values[piece.first - first : piece.first - first + piece.rows]
            write(variables[piece.variable], piece.start, own)

    def table(self, name: str) -> np.ndarray:
        """The values of one logical table, (rows, width)."""
        return ops.convert_to_numpy(self.read(name, 0, self.specs[name].rows))

    def save_own_variables(self, store: dict) -> None:
        for name in self.specs:
            store[_key(name)] = self.table(name)

    def load_own_variables(self, store: dict) -> None:
        for name in self.specs:
            self.write(name, 0, store[_key(name)][...])


def _key(table: str) -> str:
    """A table's name in a weights file, where a slash would make a group."""
    return table.replace("/", ":")
