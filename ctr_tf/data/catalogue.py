"""The items of prepared data, with their candidate features."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from ctr_tf.data.manifest import CATALOGUE


def read_catalogue(folder: Path) -> dict[str, dict[str, Any]]:
    """Plain values of the candidate features of each item, by key.

    Args:
        folder: prepared data.

    Raises:
        ValueError: it has no catalogue.
    """
    path = Path(folder) / CATALOGUE
    if not path.exists():
        raise ValueError(f"{path}: no item catalogue; the config names no prepare.items")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return {item["item_id"]: item["features"] for item in map(json.loads, lines)}
