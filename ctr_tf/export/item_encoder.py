"""What an export says of its item encoder, which makes tables of items."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ctr_tf.data.item_table import ItemTable, ItemTableError, TablePart, file_sha256
from ctr_tf.schema import Schema

ITEM_ENCODER, ENCODED_ITEM_TOWER = "item_encoder", "encoded_item_tower"
ITEM_VECTORS = "item_vectors"
QUERY_TOWER, QUERY = "query_tower", "query"
UNKNOWN_ITEMS = "unknown_items"
PARTS_FILE = "item_encoder.json"
Unknown = Literal["missing", "features"]
"""What an item that a table has not is scored by."""


@dataclass(frozen=True)
class EncoderInfo:
    """The item encoder of an export.

    Args:
        fingerprint: of the export's graph, weights and vocabularies.
        schema: of the export.
        parts: of a vector, in order.
    """

    fingerprint: str
    schema: Schema
    parts: list[TablePart]

    @property
    def width(self) -> int:
        """Columns of a vector."""
        return sum(part.width for part in self.parts)

    def table(self, folder: Path) -> ItemTable:
        """A table of items that this encoder made.

        Raises:
            ItemTableError: another one made it, or see `ItemTable`.
            ValueError: it is of another schema.
        """
        found = ItemTable(folder)
        if found.manifest.encoder != self.fingerprint:
            raise ItemTableError(f"{folder}: made by another export; build it anew")
        self.schema.check_fingerprint(found.manifest.schema_fingerprint, folder)
        return found

    @classmethod
    def read(cls, version: Path) -> "EncoderInfo":
        """Of a version's folder.

        Raises:
            ItemTableError: the export has no item encoder.
        """
        version = Path(version)
        path = version / "assets.extra" / PARTS_FILE
        if not path.exists():
            raise ItemTableError(
                f"{version}: no item encoder; export with `export.item_encoder: true`"
            )
        parts = [TablePart(**part) for part in json.loads(path.read_text(encoding="utf-8"))]
        schema = Schema.from_json((path.parent / "schema.json").read_text(encoding="utf-8"))
        return cls(_fingerprint(version), schema, parts)


def _fingerprint(version: Path) -> str:
    files = [version / "saved_model.pb"]
    files += sorted(p for name in ("variables", "assets") for p in (version / name).glob("*"))
    found = [(str(path.relative_to(version)), file_sha256(path)) for path in files]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()
