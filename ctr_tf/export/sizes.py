"""What the bytes of an export are spent on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from ctr_tf.export.signatures import TABLES
from ctr_tf.export.tables import ExportedTables

Sizes = dict[str, dict[str, int]]
"""By part: its bytes as they are (`bytes`) and with every weight in float32 (`float32_bytes`)."""


def sizes_by_part(folder: Path) -> Sizes:
    """The bytes of a SavedModel by part: tables, dense weights, graph, vocabularies, extra assets.

    The graph is what is neither a weight nor an asset, the index of the weights included. Ids of
    cached vectors are part of it.

    Args:
        folder: a version's folder.

    Raises:
        FileNotFoundError: the folder has no `assets.extra/tables.json`.
    """
    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    dtypes, tables, dense, dense_float32 = reader.get_variable_to_dtype_map(), 0, 0, 0
    for name, shape in reader.get_variable_to_shape_map().items():
        count, dtype = int(np.prod(shape)), dtypes[name]
        if name.startswith(TABLES):
            tables += count * dtype.size
        elif dtype != tf.string:
            dense += count * dtype.size
            dense_float32 += count * (tf.float32.size if dtype.is_floating else dtype.size)
    assets, extra = _bytes(folder / "assets"), _bytes(folder / "assets.extra")
    specs = ExportedTables(folder).specs.values()
    found = {
        "tables": (tables, sum(spec.rows * spec.width * tf.float32.size for spec in specs)),
        "dense weights": (dense, dense_float32),
        "graph": 2 * (_bytes(folder) - tables - dense - assets - extra,),
        "vocabularies": 2 * (assets,),
        "extra assets": 2 * (extra,),
    }
    return {
        part: {"bytes": own, "float32_bytes": float32} for part, (own, float32) in found.items()
    }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
