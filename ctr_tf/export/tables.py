"""The embedding tables and cached vectors of an export, by their logical names."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ctr_tf.export.quantisation import columns, largest_errors, unpacked
from ctr_tf.export.self_check import ExportError
from ctr_tf.export.signatures import saved_name, table_variables
from ctr_tf.models.model import CTRModel

TABLES_FILE = "assets.extra/tables.json"


@dataclass(frozen=True)
class SavedPiece:
    """Consecutive rows of a table within one variable of a SavedModel.

    Args:
        variable: its name in `variables/variables`, a TensorFlow checkpoint.
        start: the first of the rows in the variable.
        rows: how many.
    """

    variable: str
    start: int
    rows: int


@dataclass(frozen=True)
class SavedTable:
    """One logical table of a SavedModel.

    Args:
        rows: of the table; row 0 stands for a missing value.
        width: its columns.
        dtype: of its values; after those of int8 come two columns in the variable, the bytes of the
            row's float16 scale.
        pieces: where its rows lie, in order.
    """

    rows: int
    width: int
    dtype: str
    pieces: list[SavedPiece]


def saved_tables(model: CTRModel) -> dict[str, SavedTable]:
    """Where the tables of a model, cached vectors too, lie once `Signatures.save` wrote it.

    Tables that share a variable stand together.

    Args:
        model: as it is served; see `served_model`.

    Returns:
        Table by name.
    """
    found, tables = {}, model.embedder.tables
    for name in sorted(tables.specs, key=tables.place.get) if tables else ():
        spec = tables.specs[name]
        pieces = [SavedPiece(saved_name(p.variable), p.start, p.rows) for p in tables.pieces(name)]
        found[name] = SavedTable(spec.rows, spec.width, spec.dtype, pieces)
    first = len(table_variables(model)) - len(model.embedder.vectors)
    for index, (name, vectors) in enumerate(model.embedder.vectors.items(), first):
        rows, stored = vectors.shape
        dtype = keras.backend.standardize_dtype(vectors.dtype)
        width = stored - columns(dtype, 0)
        found[name] = SavedTable(rows, width, dtype, [SavedPiece(saved_name(index), 0, rows)])
    return found


def write_tables(folder: Path, model: CTRModel) -> None:
    """Writes `assets.extra/tables.json` of a SavedModel."""
    described = {name: asdict(table) for name, table in saved_tables(model).items()}
    (folder / TABLES_FILE).write_text(json.dumps(described, indent=2), encoding="utf-8")


class ExportedTables:
    """Reads logical tables out of an export, however they lie in its variables.

    One variable is held at a time: of tables read in the order of `specs`, those that share a
    variable read it once.

    Args:
        folder: a version's folder.

    Attributes:
        specs: name to `SavedTable`.

    Raises:
        FileNotFoundError: the folder has no `assets.extra/tables.json`.

    Example:
        >>> import tempfile
        >>> from ctr_tf import registry
        >>> from ctr_tf.schema import Schema
        >>> schema = Schema(features={"item_id": {"kind": "categorical"}},
        ...                 tasks={"click": {"column": "click"}})
        >>> model = CTRModel(schema, registry.get("dcn_v2").config(name="dcn_v2"), {"item_id": 9})
        >>> folder = Path(tempfile.mkdtemp())
        >>> saved = tf.train.Checkpoint(tables=table_variables(model))
        >>> _ = saved.write(str(folder / "variables" / "variables"))
        >>> (folder / "assets.extra").mkdir()
        >>> write_tables(folder, model)
        >>> ExportedTables(folder).read("item_id").shape
        (9, 16)
    """

    def __init__(self, folder: Path):
        described = json.loads((Path(folder) / TABLES_FILE).read_text(encoding="utf-8"))
        self.specs = {
            name: SavedTable(**{**table, "pieces": [SavedPiece(**p) for p in table["pieces"]]})
            for name, table in described.items()
        }
        self._variables = tf.train.load_checkpoint(str(Path(folder) / "variables" / "variables"))
        self._held: tuple[str, np.ndarray] | None = None

    def read(self, name: str) -> np.ndarray:
        """The values of one table, (rows, width); of an int8 one in float32.

        Raises:
            KeyError: there is no such table; names those there are.
        """
        if name not in self.specs:
            raise KeyError(f"no table {name!r}; the export has {sorted(self.specs)}")
        parts = [
            self._variable(piece.variable)[piece.start : piece.start + piece.rows]
            for piece in self.specs[name].pieces
        ]
        found = np.concatenate(parts)
        return unpacked(found).numpy() if self.specs[name].dtype == "int8" else found

    def _variable(self, name: str) -> np.ndarray:
        if self._held is None or self._held[0] != name:
            self._held = None  # Freed before the next one is read.
            self._held = name, self._variables.get_tensor(name)
        return self._held[1]


def check_tables(folder: Path, model: CTRModel) -> None:
    """Checks that an export's tables are the trained ones, as close as their types can hold them.

    Args:
        folder: the SavedModel.
        model: the trained one.

    Raises:
        ExportError: a table is missing, or its values differ.
    """
    found, tables = ExportedTables(folder), model.embedder.tables
    names = {*(tables.specs if tables else ()), *model.embedder.vectors}
    if found.specs.keys() != names:
        raise ExportError(
            f"self-check: the export has tables {sorted(found.specs)}, the model {sorted(names)}"
        )
    for name, spec in found.specs.items():
        vectors = model.embedder.vectors.get(name)
        trained = tables.table(name) if vectors is None else vectors.numpy()
        if spec.dtype == trained.dtype.name:
            same = np.array_equal(found.read(name), trained)
        else:
            trained = trained.astype("float32")
            errors = np.abs(found.read(name).astype("float32") - trained)
            same = (errors <= largest_errors(trained, spec.dtype)).all()
        if not same:
            raise ExportError(f"self-check: table {name!r} of the export is not the model's")
