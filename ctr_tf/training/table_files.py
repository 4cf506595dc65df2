"""Embedding tables and their optimiser's slots as files, by the tables' names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from ctr_tf.layers.embedding.tables import EmbeddingTables
from ctr_tf.types import Tensor

# What a save or a restore holds at a time, beside the tables themselves.
CHUNK_BYTES = 2**26


@dataclass(frozen=True)
class _Saved:
    """One tensor of the files: a table, or one slot of it.

    Args:
        name: in the files.
        table: the logical table.
        shape: (rows, width), or (rows,) of a slot with one number a row.
        variables: that hold it, as the tables' own hold the table.
    """

    name: str
    table: str
    shape: tuple[int, ...]
    variables: list[keras.Variable]

    def chunks(self) -> Iterator[tuple[int, int]]:
        """First row and number of rows of each part."""
        row = self.variables[0].value.dtype.size * (self.shape[1] if len(self.shape) > 1 else 1)
        most = max(1, CHUNK_BYTES // row)
        for first in range(0, self.shape[0], most):
            yield first, min(most, self.shape[0] - first)

    def slice_of(self, first: int, rows: int) -> str:
        """The part's place in the whole, as TensorFlow's saving operations write it."""
        rest = [f"0,{width}" for width in self.shape[1:]]
        return f"{' '.join(map(str, self.shape))} {':'.join([f'{first},{rows}', *rest])}"


class TableFiles:
    """Writes and reads tables a chunk at a time, so that no table is ever copied.

    The format is that of a TensorFlow checkpoint with one tensor a table, `<table>`, and one a
    slot of it, `<table>/<slot>`: tables that lie otherwise in memory read it too.

    Args:
        tables: of the model.
        slots: each slot's name, and variables that lie as the trained tables' own do.
    """

    def __init__(self, tables: EmbeddingTables, slots: dict[str, list[keras.Variable]]):
        self.tables = tables
        kinds = {"": list(tables.weights), **{f"/{name}": own for name, own in slots.items()}}
        self.saved = []
        for table, spec in tables.specs.items():
            own = next(tables.pieces(table)).variable
            for suffix, variables in kinds.items():
                if suffix and not spec.trainable:
                    continue
                shape = (spec.rows, *variables[own].shape[1:])
                self.saved.append(_Saved(table + suffix, table, shape, variables))

    def described(self) -> dict[str, list[int]]:
        """The shape of each tensor, by name."""
        return {each.name: list(each.shape) for each in self.saved}

    def write(self, prefix: str) -> None:
        """Writes `<prefix>.index` and `<prefix>.data-*`.

        Raises:
            FloatingPointError: a value is not finite.
        """
        Path(prefix).parent.mkdir(parents=True, exist_ok=True)
        parts: list[str] = []
        held: list[tuple[str, str, Tensor]] = []

        def flush() -> None:
            names, slices, tensors = zip(*held)
            parts.append(f"{prefix}.part-{len(parts)}")
            tf.raw_ops.SaveV2(
                prefix=parts[-1],
                tensor_names=list(names),
                shape_and_slices=list(slices),
                tensors=list(tensors),
            )
            held.clear()

        try:
            size = 0
            for each, first, values in self._values():
                held.append((each.name, each.slice_of(first, len(values)), values))
                size += len(values) * values.dtype.size * (values.shape[1:].num_elements() or 1)
                if size >= CHUNK_BYTES:
                    flush()
                    size = 0
            if held:
                flush()
            # Renames the parts' data, so that nothing is written twice.
            tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=prefix)
        finally:
            delete(f"{prefix}.part-*")

    def read(self, prefix: str) -> None:
        """Sets every table and slot from files of the same tables."""
        dtypes = tf.train.load_checkpoint(prefix).get_variable_to_dtype_map()
        for each in self.saved:
            for first, rows in each.chunks():
                (values,) = tf.raw_ops.RestoreV2(
                    prefix=prefix,
                    tensor_names=[each.name],
                    shape_and_slices=[each.slice_of(first, rows)],
                    dtypes=[dtypes[each.name]],
                )
                self.tables.write(each.table, first, values, each.variables)

    def check_finite(self) -> None:
        """Checks every value.

        Raises:
            FloatingPointError: one is not finite.
        """
        for _ in self._values():
            pass

    def _values(self) -> Iterator[tuple[_Saved, int, Tensor]]:
        """Each part: of what, its first row, its values."""
        for each in self.saved:
            for first, rows in each.chunks():
                values = self.tables.read(each.table, first, rows, each.variables)
                if not bool(tf.reduce_all(tf.math.is_finite(values))):
                    raise FloatingPointError(f"weight {each.name} is not finite")
                yield each, first, values


def delete(prefix: str) -> None:
    """Deletes the files of a prefix, which may be a pattern."""
    for path in Path(prefix).parent.glob(f"{Path(prefix).name}.*"):
        path.unlink()
