"""A table of items: what a model makes of each item alone, by the item's key, in sharded files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import NonNegativeInt, PositiveInt, ValidationError

from ctr_tf.config_base import Config
from ctr_tf.data.manifest import MANIFEST

TABLE_FORMAT = 1
"""Of the files; another number is another format."""


class ItemTableError(ValueError):
    """A table of items is missing, incomplete, or not what the reader needs."""


class TablePart(Config):
    """Consecutive columns of the vectors.

    Args:
        name: what they hold, such as `field/item_id` or `product/deep`.
        width: how many.
    """

    name: str
    width: PositiveInt


class TableShard(Config):
    """One file.

    Args:
        name: within the table's folder.
        rows: items.
        sha256: of the file.
    """

    name: str
    rows: NonNegativeInt
    sha256: str


class ItemTableManifest(Config):
    """What a table holds.

    Args:
        format: of the files.
        schema_fingerprint: of the schema whose features were encoded.
        encoder: fingerprint of the export that encoded them; other weights or vocabularies are
            another encoder.
        parts: of a vector, in order.
        shards: the files.
        encoded: items whose vectors were computed for this table.
        reused: items whose vectors, of unchanged features, were taken over.
        removed: items of the previous table that are gone.
        rejects: lines of the catalogue that were left out, by reason.
    """

    format: int = TABLE_FORMAT
    schema_fingerprint: str
    encoder: str
    parts: list[TablePart]
    shards: list[TableShard]
    encoded: NonNegativeInt = 0
    reused: NonNegativeInt = 0
    removed: NonNegativeInt = 0
    rejects: dict[str, NonNegativeInt] = {}

    @property
    def rows(self) -> int:
        """Items of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def width(self) -> int:
        """Columns of a vector."""
        return sum(part.width for part in self.parts)

    @classmethod
    def read(cls, folder: Path) -> "ItemTableManifest":
        """The manifest of a table.

        Raises:
            ItemTableError: there is none, it does not parse, or it is of another format.
        """
        path = Path(folder) / MANIFEST
        if not path.exists():
            raise ItemTableError(f"{folder}: no {MANIFEST}: no table of items, or not a whole one")
        try:
            found = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ItemTableError(f"{path}: {where}: {first['msg']}") from error
        if found.format != TABLE_FORMAT:
            raise ItemTableError(
                f"{path}: format {found.format}, this version reads {TABLE_FORMAT}; build it anew"
            )
        return found


def write_shard(
    path: Path, keys: list[str], fingerprints: list[str], vectors: np.ndarray
) -> TableShard:
    """Writes a file of items, which appears whole or not at all.

    Args:
        path: of the file.
        keys: of the items.
        fingerprints: of their features.
        vectors: (rows, E) float32.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "items.parquet"
        >>> shard = write_shard(path, ["7"], ["ab"], np.ones((1, 3), "float32"))
        >>> read_shard(path, shard)[2].tolist()
        [[1.0, 1.0, 1.0]]
    """
    width = vectors.shape[1]
    flat = pa.array(np.ascontiguousarray(vectors, "float32").reshape(-1))
    table = pa.table(
        {
            "key": pa.array(keys, pa.string()),
            "features": pa.array(fingerprints, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, width),
        }
    )
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(table, partial)
    partial.rename(path)
    return TableShard(name=path.name, rows=len(keys), sha256=file_sha256(path))


def read_shard(path: Path, shard: TableShard) -> tuple[list[str], list[str], np.ndarray]:
    """Keys, fingerprints of features and vectors (rows, E) of a file.

    Raises:
        ItemTableError: the file is missing, or is not the one that was written.
    """
    if not path.exists():
        raise ItemTableError(f"{path}: no such file, which the manifest names")
    if (found := file_sha256(path)) != shard.sha256:
        raise ItemTableError(f"{path}: SHA-256 is {found[:12]}…, the manifest has {shard.sha256}")
    table = pq.read_table(path).combine_chunks()
    vectors = table["vector"].combine_chunks()
    width = vectors.type.list_size
    values = vectors.flatten().to_numpy().reshape(-1, width)
    return table["key"].to_pylist(), table["features"].to_pylist(), values


class ItemTable:
    """A table that was written whole.

    Args:
        folder: of one version.

    Raises:
        ItemTableError: see `ItemTableManifest.read`.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.manifest = ItemTableManifest.read(folder)

    def read(self) -> tuple[list[str], np.ndarray]:
        """Keys and vectors (rows, E) of all items.

        Raises:
            ItemTableError: a file is missing or damaged, or a key is there twice.
        """
        keys: list[str] = []
        vectors = np.empty((self.manifest.rows, self.manifest.width), "float32")
        for shard in self.manifest.shards:
            own, _, values = read_shard(self.folder / shard.name, shard)
            vectors[len(keys) : len(keys) + len(own)] = values
            keys += own
        if len(set(keys)) < len(keys):
            raise ItemTableError(f"{self.folder}: a key is there twice")
        return keys, vectors


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
