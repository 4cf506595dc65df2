"""Prepared folders made of plain Python requests, for tests that need no Beam job."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from ctr_tf.data.manifest import (
    SCHEMA,
    STATISTICS,
    VOCABULARIES,
    Manifest,
    RecordFile,
    SplitManifest,
)
from ctr_tf.data.requests import Codec, Encoded, RequestWriter
from ctr_tf.schema import MISSING_INT, Categorical, Numeric, Schema, Text
from ctr_tf.schema.text import words


def encode(codec: Codec, request: dict) -> Encoded:
    """A request as a record holds it.

    Args:
        codec: of the folder.
        request: `id`, `features` by input name (nested lists by axes), `labels` by task, and
            optionally `weights`, `user`, `time`, `items`.
    """
    labels = request["labels"]
    count = len(next(iter(labels.values())))
    given = {"user": "", "time": 0, "items": [""] * count} | request
    given["weights"] = {task: [1.0] * count for task in labels} | request.get("weights", {})
    return codec.encode(_as_bytes(given))


def _as_bytes(value):
    if isinstance(value, dict):
        return {key: _as_bytes(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_bytes(own) for own in value]
    return value.encode() if isinstance(value, str) else value


def write_prepared(
    folder: Path,
    schema: Schema,
    splits: dict[str, list[dict]],
    shards: int = 2,
    compression: str = "gzip",
) -> Manifest:
    """Writes a prepared folder; vocabularies and statistics come from its training requests."""
    suffix = ".gz" if compression == "gzip" else ""
    _learn(folder, schema, splits["train"])
    codec = Codec(schema, folder)
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
            with RequestWriter(path, schema, compression) as writer:
                for request in own:
                    writer.write(encode(codec, request))
            files.append(RecordFile(name=name, records=len(own), size=path.stat().st_size))
        labels = [request["labels"] for request in requests]
        found[split] = SplitManifest(
            files=files,
            requests=len(requests),
            candidates=sum(len(next(iter(label.values()))) for label in labels),
            positives={t: int(sum(sum(label[t]) for label in labels)) for t in schema.tasks},
        )
    (folder / SCHEMA).write_text(schema.to_json())
    manifest = Manifest(schema_fingerprint=schema.fingerprint, splits=found)
    manifest.write(folder)
    return manifest


def _learn(folder: Path, schema: Schema, requests: list[dict]) -> None:
    (folder / VOCABULARIES).mkdir(parents=True, exist_ok=True)
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
            flat = [value for value in flat if value not in ("", MISSING_INT)]
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
