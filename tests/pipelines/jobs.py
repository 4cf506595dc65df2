"""Small preparation jobs: files written from lists, records read back as dictionaries."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from ctr_tf.data.config import PrepareConfig
from ctr_tf.data.manifest import SCHEMA, Manifest
from ctr_tf.data.requests import Codec, Request, read_requests
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


def decode(schema: Schema, request: Request) -> dict[str, list]:
    """The values of a request, flat and by key, bytes as text."""
    found = {"request/candidates": [len(next(iter(request["labels"].values())))]}
    for kind in ("labels", "weights"):
        found |= {f"{kind}/{task}": list(values) for task, values in request[kind].items()}
    for key in ("id", "user", "time", "items"):
        if key in request:
            value = request[key]
            found[f"request/{key}"] = value if isinstance(value, list) else [value]
    for spec in schema.inputs:
        if spec.name not in request["features"]:
            continue
        value = request["features"][spec.name]
        if spec.sequence is not None:
            found[f"features/{spec.sequence}/length"] = [len(value)]
        if len(spec.axes) == 3:
            found[f"features/{spec.name}/lengths"] = [len(own) for own in value]
            value = [one for own in value for one in own]
        value = value if isinstance(value, list) else [value]
        found[f"features/{spec.name}"] = value
    return {
        key: [v.decode() if isinstance(v, bytes) else v for v in values]
        for key, values in found.items()
    }


def read_file(path: Path) -> list[dict[str, list]]:
    """The decoded requests of a record file of a prepared folder."""
    folder = path.parents[1]
    schema = Schema.from_json((folder / SCHEMA).read_text(encoding="utf-8"))
    return [decode(schema, request) for request in read_requests(path, Codec(schema, folder))]


def read_split(folder: Path, split: str) -> dict[str, dict]:
    """The requests of a split by id; none where the split is empty."""
    manifest = Manifest.read(folder)
    files = manifest.splits[split].files
    records = [request for file in files for request in read_file(folder / file.name)]
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
