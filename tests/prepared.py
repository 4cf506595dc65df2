"""Prepared folders made of plain Python requests, for tests that need no Beam job."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from ctr_tf.data.example_proto import Example, serialise
from ctr_tf.data.manifest import (
    SCHEMA,
    STATISTICS,
    VOCABULARIES,
    Manifest,
    RecordFile,
    SplitManifest,
)
from ctr_tf.data.records import RecordWriter
from ctr_tf.schema import Categorical, Numeric, Schema, Text
from ctr_tf.schema.text import words


def encode(schema: Schema, request: dict) -> bytes:
    """A request as a record.

    Args:
        schema: names and axes of its features.
        request: `id`, `features` by input name (nested lists by axes), `labels` by task, and
            optionally `weights`, `user`, `time`, `items`.
    """
    example = Example()

    def put(key: str, dtype: str, values: list) -> None:
        feature = example.features.feature[key]
        if dtype == "int64":
            feature.int64_list.value.extend(values)
        elif dtype == "float32":
            feature.float_list.value.extend(values)
        else:
            feature.bytes_list.value.extend(value.encode() for value in values)

    labels = request["labels"]
    count = len(next(iter(labels.values())))
    put("request/candidates", "int64", [count])
    put("request/id", "string", [request["id"]])
    if "user" in request:
        put("request/user", "string", [request["user"]])
    if "time" in request:
        put("request/time", "int64", [request["time"]])
    if "items" in request:
        put("request/items", "string", request["items"])
    for task, values in labels.items():
        put(f"labels/{task}", "float32", values)
        put(f"weights/{task}", "float32", request.get("weights", {}).get(task, [1.0] * count))
    lengths: dict[str, int] = {}
    for spec in schema.inputs:
        if spec.name not in request["features"]:
            continue
        value = request["features"][spec.name]
        if spec.sequence:
            lengths[spec.sequence] = len(value)
        if spec.axes == ("B",):
            value = [value]
        elif len(spec.axes) == 3:
            put(f"features/{spec.name}/lengths", "int64", [len(v) for v in value])
            value = [v for values in value for v in values]
        put(f"features/{spec.name}", spec.dtype, value)
    for name in schema.sequences:
        put(f"features/{name}/length", "int64", [lengths[name]])
    return serialise(example)


def write_prepared(
    folder: Path,
    schema: Schema,
    splits: dict[str, list[dict]],
    shards: int = 2,
    compression: str = "gzip",
) -> Manifest:
    """Writes a prepared folder; vocabularies and statistics come from its training requests."""
    suffix = ".gz" if compression == "gzip" else ""
    found = {}
    for split, requests in splits.items():
        files = []
        for shard in range(shards):
            own = requests[shard::shards]
            if not own:
                continue
            name = f"{split}/part-{shard:05d}-of-{shards:05d}.tfrecord{suffix}"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with RecordWriter(path, compression) as writer:
                for request in own:
                    writer.write(encode(schema, request))
            files.append(RecordFile(name=name, records=len(own), size=path.stat().st_size))
        labels = [request["labels"] for request in requests]
        found[split] = SplitManifest(
            files=files,
            requests=len(requests),
            candidates=sum(len(next(iter(label.values()))) for label in labels),
            positives={t: int(sum(sum(label[t]) for label in labels)) for t in schema.tasks},
        )
    _learn(folder, schema, splits["train"])
    (folder / SCHEMA).write_text(schema.to_json())
    manifest = Manifest(schema_fingerprint=schema.fingerprint, splits=found)
    manifest.write(folder)
    return manifest


def _learn(folder: Path, schema: Schema, requests: list[dict]) -> None:
    (folder / VOCABULARIES).mkdir(exist_ok=True)
    statistics = {}
    for name, feature in schema.encoders.items():
        own = [
            spec
            for spec in schema.inputs
            if spec.feature and schema.encoder(spec.feature, spec.sequence) == name
        ]
        flat = [v for spec in own for r in requests for v in _flat(r["features"][spec.name])]
        if isinstance(feature, Text):
            flat = [word for value in flat for word in words(value)]
        if isinstance(feature, (Categorical, Text)) and feature.encoding == "vocabulary":
            counts = sorted(Counter(map(str, flat)).items(), key=lambda kv: (-kv[1], kv[0]))
            values, numbers = (
                "".join(f"{part}\n" for part in column)
                for column in (zip(*counts) if counts else ((), ()))
            )
            (folder / VOCABULARIES / f"{name}.txt").write_text(values)
            (folder / VOCABULARIES / f"{name}.counts").write_text(numbers)
        elif isinstance(feature, Numeric):
            mean = sum(flat) / len(flat)
            std = (sum((v - mean) ** 2 for v in flat) / len(flat)) ** 0.5
            statistics[name] = {
                "count": len(flat),
                "mean": mean,
                "std": std,
                "minimum": min(flat),
                "maximum": max(flat),
            }
    (folder / STATISTICS).write_text(json.dumps(statistics))


def _flat(value) -> list:
    return [v for part in value for v in _flat(part)] if isinstance(value, list) else [value]
