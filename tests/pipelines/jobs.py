"""Small preparation jobs: files written from lists, records read back as dictionaries."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from ctr_tf.data.config import PrepareConfig
from ctr_tf.data.example_proto import Example
from ctr_tf.data.manifest import Manifest
from ctr_tf.data.records import read_records
from ctr_tf.schema import Schema
from pipelines.prepare import run
from pipelines.transforms.layout import Layout, resolve

SHOP = {
    "keys": {"user": "user_id", "time": "time", "item": "item_id"},
    "features": {
        "user_id": {"kind": "categorical", "side": "user"},
        "item_id": {"kind": "categorical"},
    },
    "sequences": {"history": {"max_length": 3, "attributes": {"item_id": {}}}},
    "tasks": {"click": {"column": "click"}},
}
SHOP_COLUMNS = ["user_id", "item_id", "time", "click"]


def write_csv(path: Path, columns: list[str], rows: list, delimiter: str = ",") -> Path:
    """Writes rows with a header."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def prepare(root: Path, schema: dict, **config) -> Manifest:
    """Prepares the files in `root` into `root/out`."""
    settings = {"impressions": {"path": "log.csv"}, "shards": 2, "split": {"by": "none"}}
    found = PrepareConfig(**(settings | config))
    return run(Schema(**schema), found, root, root / "out", overwrite=True)


def layout(root: Path, schema: dict, **config) -> Layout:
    """The layout of the files in `root`."""
    return resolve(
        Schema(**schema), PrepareConfig(**({"impressions": {"path": "log.csv"}} | config)), root
    )


def decode(record: bytes) -> dict[str, list]:
    """The values of an Example by key, bytes as text."""
    found = {}
    for key, feature in Example.FromString(record).features.feature.items():
        values = getattr(feature, feature.WhichOneof("kind")).value
        found[key] = [v.decode() if isinstance(v, bytes) else v for v in values]
    return found


def read_split(folder: Path, split: str) -> dict[str, dict]:
    """The requests of a split by id; none where the split is empty."""
    manifest = Manifest.read(folder)
    records = [
        decode(record)
        for file in manifest.splits[split].files
        for record in read_records(folder / file.name)
    ]
    found = {record["request/id"][0]: record for record in records}
    assert len(found) == len(records) == manifest.splits[split].requests
    return found


def read_rejects(folder: Path) -> list[dict]:
    """All rejects, in the order of their files."""
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
