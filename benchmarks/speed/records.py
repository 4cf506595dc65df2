"""A workload's arrays as prepared folders, and our training from them.

python -m benchmarks.speed.records w2 din workspace/speed/arrays/w2.npz --folder FOLDER --from records
"""  # noqa: E501

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.speed import measure
from benchmarks.speed.workloads import WORKLOADS, Workload
from ctr_tf.data.manifest import (
    STATISTICS,
    VOCABULARIES,
    Manifest,
    RecordFile,
    SplitManifest,
)
from ctr_tf.data.requests import Codec, RequestWriter
from ctr_tf.schema import Schema

SHARDS = 8
SOURCES = ("memory", "records", "alone")


def whole_batches(workload: Workload, most: int) -> Workload:
    """The workload's first rows, as many as make up whole batches.

    Example:
        >>> whole_batches(WORKLOADS["w2"], 10_000).rows
        8192
    """
    rows = min(workload.rows, most)
    return replace(workload, rows=rows // workload.batch * workload.batch)


def requests(
    workload: Workload, schema: Schema, arrays: dict[str, np.ndarray], rows: np.ndarray
) -> Iterator[dict]:
    """Requests as `Codec.encode` takes them.

    Args:
        workload: its fields.
        schema: of its log.
        arrays: its rows.
        rows: (R, N) numbers of rows: the user's side is the first one's, each is a candidate.
    """
    candidate = [n for n, f in schema.features.items() if f.side == "candidate"]
    numbers = arrays.get("numeric", np.zeros((workload.rows, 0), np.float32)).tolist()
    labels = arrays["label"].tolist()
    ids = {name: arrays[name].tolist() for name in workload.fields}
    for number, own in enumerate(rows.tolist()):
        first = own[0]
        features = {name: b"%d" % ids[name][first] for name in ids if name not in candidate}
        for name in candidate:
            if name in ids:
                features[name] = [b"%d" % ids[name][row] for row in own]
        for place in range(workload.numeric):
            features[f"n{place}"] = [numbers[row][place] for row in own]
        for name in workload.history:
            behaviours = arrays[f"history_{name}"][first, : arrays["length"][first]]
            features[f"history_{name}"] = [b"%d" % value for value in behaviours.tolist()]
        time = 1_700_000_000 + number
        yield {
            "id": b"%s:%d" % (features["u0"], time) if workload.length else b"log.csv:%d" % number,
            "user": features.get("u0", b""),
            "time": time,
            "items": features.get("item", []),
            "features": features,
            "labels": {"click": [labels[row] for row in own]},
            "weights": {"click": [1.0] * len(own)},
        }


def write(
    folder: Path,
    workload: Workload,
    schema: Schema,
    arrays: dict[str, np.ndarray],
    rows: np.ndarray,
    compression: str = "gzip",
) -> int:
    """Writes requests as the preparation job does, in vocabularies of all ids; returns the bytes.

    Args:
        folder: of the prepared data.
        workload, schema, arrays, rows: as of `requests`.
        compression: of the files.
    """
    for name in ("train", VOCABULARIES):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in workload.fields:
        used = [arrays[name][: workload.rows].ravel()]
        if name in workload.history:
            used.append(arrays[f"history_{name}"][: workload.rows].ravel())
        found, counts = np.unique(np.concatenate(used), return_counts=True)
        ranked = found[np.lexsort((found, -counts))]
        text = "".join(f"{value}\n" for value in ranked if value)
        (folder / VOCABULARIES / f"{name}.txt").write_text(text)
    numbers = arrays.get("numeric", np.zeros((1, 0), np.float32))
    statistics = {
        f"n{place}": {
            "mean": float(column.mean()),
            "std": float(column.std()),
            "minimum": float(column.min()),
            "maximum": float(column.max()),
        }
        for place, column in enumerate(numbers.T)
    }
    (folder / STATISTICS).write_text(json.dumps(statistics))
    codec = Codec(schema, folder)
    suffix = ".gz" if compression == "gzip" else ""
    names = [f"train/part-{s:05d}-of-{SHARDS:05d}.tfrecord{suffix}" for s in range(SHARDS)]
    writers = [RequestWriter(folder / name, schema, compression) for name in names]
    for number, request in enumerate(requests(workload, schema, arrays, rows)):
        writers[number % SHARDS].write(codec.encode(request))
    for writer in writers:
        writer.close()
    sizes = [(folder / name).stat().st_size for name in names]
    files = [
        RecordFile(name=name, records=len(rows[shard::SHARDS]), size=size)
        for shard, (name, size) in enumerate(zip(names, sizes))
    ]
    split = SplitManifest(files=files, requests=len(rows), candidates=rows.size)
    Manifest(schema_fingerprint=schema.fingerprint, splits={"train": split}).write(folder)
    return sum(sizes)


def main() -> None:
    """Prints one line of JSON."""
    import keras
    import tensorflow as tf

    from benchmarks.speed import ours, tf_loop
    from ctr_tf.data.config import InputConfig
    from ctr_tf.data.input import Input
    from ctr_tf.optimizers.build import build_optimizer
    from ctr_tf.training.config import TrainConfig
    from ctr_tf.training.step import TrainStep

    parser = measure.options(ours.MODELS)
    parser.add_argument("--folder", type=Path, required=True, help="prepared, or to be written")
    parser.add_argument("--from", dest="source", choices=SOURCES, default="records")
    parser.add_argument("--rows", type=int, default=262_144, help="the most rows taken")
    parser.add_argument("--profile", type=Path, help="folder of a profile of what is timed")
    options = parser.parse_args()
    workload = whole_batches(WORKLOADS[options.workload], options.rows)
    arrays = {n: v[: workload.rows] for n, v in measure.load(options.arrays).items()}
    schema = ours.schema_of(workload)
    if options.source == "memory":
        data = ours.batches(workload, arrays)
    else:
        if not (options.folder / "manifest.json").exists():
            write(options.folder, workload, schema, arrays, np.arange(workload.rows)[:, None])
        data = Input(options.folder, schema, InputConfig(batch_size=workload.batch))
        data = data.training(0).repeat()
    iterator, losses, parameters = iter(data), [0.0], 0
    if options.source == "alone":

        def step(steps: int) -> None:
            for _ in range(steps):
                next(iterator)

    else:
        model = ours.model_of(workload, options.model)
        optimizer = build_optimizer(model, TrainConfig().optimizers(1000))
        train = TrainStep(model, optimizer, tf.distribute.get_strategy(), {})
        parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)

        def step(steps: int) -> None:
            losses.extend(train(iterator, steps).losses.tolist())

    clock = measure.Clock(options.warm_up, options.steps, options.seconds)
    tf_loop.timed(step, clock, options.steps_per_call, options.profile)
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    measure.report(clock, workload.batch, losses[-1], parameters, versions)


if __name__ == "__main__":
    main()
