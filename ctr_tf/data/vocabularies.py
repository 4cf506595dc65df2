"""What the preparation job learned: vocabularies, statistics, cached vector tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ctr_tf.data.manifest import STATISTICS, vocabulary_path
from ctr_tf.schema import Categorical, Numeric, Schema, Text, Vector


@dataclass(frozen=True)
class VectorTable:
    """A cached table: ids (R,) and vectors (R, width)."""

    ids: np.ndarray
    vectors: np.ndarray


def sizes_of(encoder: Categorical | Text, vocabulary: int) -> tuple[int, int]:
    """(values with a code of their own, rows that the others are hashed to) of an encoder.

    Args:
        encoder: the encoder.
        vocabulary: lines of its vocabulary, if it has one.

    Example:
        >>> sizes_of(Categorical(oov=2), 10), sizes_of(Categorical(encoding="hashed", size=7), 0)
        ((10, 2), (0, 7))
    """
    if encoder.encoding == "hashed":
        return 0, encoder.size
    return encoder.size if encoder.encoding == "identity" else vocabulary, encoder.oov


class Vocabularies:
    """The learned files of a prepared folder, read by encoder.

    A table's row 0 stands for a missing value. A vocabulary's or an identity's rows follow, then
    its out-of-vocabulary rows; a hashed encoder has `size` rows after row 0.

    Args:
        schema: whose encoders.
        folder: what the preparation job wrote.

    Raises:
        FileNotFoundError: a vocabulary or the statistics are missing.
        ValueError: a cached vector table does not have the schema's width, or holds an id twice.
    """

    def __init__(self, schema: Schema, folder: Path):
        self.schema = schema
        self.folder = Path(folder)
        self.sizes = {
            name: _lines(self.path(name))
            for name, spec in schema.encoders.items()
            if isinstance(spec, (Categorical, Text)) and spec.encoding == "vocabulary"
        }
        self.tables = {
            name: _read_table(name, spec)
            for name, spec in schema.encoders.items()
            if isinstance(spec, Vector)
        }

    def path(self, encoder: str) -> Path:
        """The file of a vocabulary, one value a line.

        Raises:
            FileNotFoundError: it is not there.
        """
        return vocabulary_path(self.folder, encoder)

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each encoder's embedding table."""
        found = {}
        for name, spec in self.schema.encoders.items():
            if isinstance(spec, (Categorical, Text)):
                found[name] = 1 + sum(sizes_of(spec, self.sizes.get(name, 0)))
        return found

    @property
    def vectors(self) -> dict[str, np.ndarray]:
        """The cached vectors, (1 + R, width) each; row 0, for an unknown id, is zero."""
        return {
            name: np.concatenate([np.zeros((1, t.vectors.shape[1]), "float32"), t.vectors])
            for name, t in self.tables.items()
        }

    @cached_property
    def statistics(self) -> dict[str, dict[str, float]]:
        """Mean, std, minimum and maximum of each numeric feature's training rows.

        Raises:
            FileNotFoundError: no statistics.
        """
        if not any(isinstance(spec, Numeric) for spec in self.schema.features.values()):
            return {}
        path = self.folder / STATISTICS
        if not path.exists():
            raise FileNotFoundError(f"{path}: no statistics; prepare the data again")
        return json.loads(path.read_text(encoding="utf-8"))


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _read_table(name: str, spec: Vector) -> VectorTable:
    where = f"features.{name}.table: {spec.table}"
    if not Path(spec.table).exists():
        raise FileNotFoundError(f"{where}: no such file")
    with np.load(spec.table) as file:
        if sorted(file.files) != ["ids", "vectors"]:
            raise ValueError(f"{where}: must hold 'ids' and 'vectors', holds {sorted(file.files)}")
        table = VectorTable(file["ids"].astype(str), file["vectors"].astype("float32"))
    if table.vectors.shape != (len(table.ids), spec.width):
        raise ValueError(
            f"{where}: vectors must have shape ({len(table.ids)}, {spec.width}), "
            f"not {table.vectors.shape}"
        )
    if len(set(table.ids)) != len(table.ids):
        raise ValueError(f"{where}: ids must be unique")
    if not np.isfinite(table.vectors).all():
        raise ValueError(f"{where}: vectors must be finite")
    return table
