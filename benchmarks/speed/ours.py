"""Our training step on a workload's arrays, from memory."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.speed import measure, tf_loop
from benchmarks.speed.workloads import WORKLOADS, Workload
from ctr_tf import registry
from ctr_tf.models.model import CTRModel
from ctr_tf.optimizers.build import build_optimizer
from ctr_tf.schema import Schema
from ctr_tf.training.config import TrainConfig
from ctr_tf.training.step import TrainStep

MODELS = {
    "deepfm": {"units": [400, 400, 400]},
    "dcn_v2": {"units": [400, 400, 400], "cross_layers": 3},
    "din": {"units": [256, 128, 64], "attention_units": [80, 40]},
}


def schema_of(workload: Workload) -> Schema:
    """Fields as features of a schema; those of W1 are the candidate's, as in a Criteo log."""
    own = [name for name in workload.fields if not workload.history or name in workload.history]
    features = {
        name: {"kind": "categorical", "side": "candidate" if name in own else "user"}
        for name in workload.fields
    }
    features |= {f"n{i}": {"kind": "numeric"} for i in range(workload.numeric)}
    sequences = {}
    if workload.length:
        attributes = {name: {} for name in workload.history}
        sequences["history"] = {"max_length": workload.length, "attributes": attributes}
    return Schema(
        keys={"user": "u0", "time": "time", "item": "item"} if sequences else {},
        features=features,
        sequences=sequences,
        tasks={"click": {"column": "label"}},
    )


def model_of(workload: Workload, name: str, **given) -> CTRModel:
    """The model, over tables of the workload's ids and the padding row."""
    config = registry.get(name).config(name=name, **MODELS[name], **given)
    rows = {field: ids + 1 for field, ids in workload.fields.items()}
    return CTRModel(schema_of(workload), config, rows)


def batches(workload: Workload, arrays: dict[str, np.ndarray], seed: int = 1) -> tf.data.Dataset:
    """Epochs of shuffled batches, histories cut to the longest of the batch."""
    candidate = {spec.name for spec in schema_of(workload).inputs if spec.side == "candidate"}
    held = {name: tf.constant(value) for name, value in arrays.items()}

    def batch(rows: tf.Tensor) -> dict:
        taken = {name: tf.gather(value, rows) for name, value in held.items()}
        label = taken.pop("label")[:, None]
        numeric = taken.pop("numeric", None)
        if numeric is not None:
            taken |= {f"n{i}": v for i, v in enumerate(tf.unstack(numeric, axis=1))}
        length = taken.pop("length", None)
        features = {
            name: value[:, None] if name in candidate else value for name, value in taken.items()
        }
        features["candidates_mask"] = tf.ones_like(label, tf.bool)
        if length is not None:
            features["history_mask"] = tf.sequence_mask(length)
            longest = tf.reduce_max(length)
            for name in workload.history:
                features[f"history_{name}"] = features[f"history_{name}"][:, :longest]
        return {
            "features": features,
            "labels": {"click": label},
            "weights": {"click": tf.ones_like(label)},
        }

    return tf_loop.batches_of_rows(workload, seed).map(batch, 2).prefetch(2)


def main() -> None:
    """Prints one line of JSON."""
    parser = measure.options(MODELS)
    parser.add_argument("--set", default="{}", help="JSON: settings of training")
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    workload = WORKLOADS[options.workload]
    arrays = measure.load(options.arrays)
    model = model_of(workload, options.model)
    train = TrainConfig(**json.loads(options.set))
    optimizer = build_optimizer(model, train.optimizers(1000))
    step = TrainStep(model, optimizer, tf.distribute.get_strategy(), {}, train.xla)
    iterator = iter(batches(workload, arrays))
    clock = measure.Clock(options.warm_up, options.steps, options.seconds)
    wanted, profiled = True, False
    while wanted:
        if options.profile and clock.warm and not profiled:
            tf.profiler.experimental.start(str(options.profile))
            profiled = True
        stats = step(iterator, options.steps_per_call)
        wanted = clock.more(options.steps_per_call)
    if profiled:
        tf.profiler.experimental.stop()
    measure.report(
        clock,
        workload.batch,
        float(stats.losses[-1]),
        sum(int(np.prod(weight.shape)) for weight in model.trainable_variables),
        {"tensorflow": tf.__version__, "keras": keras.__version__},
    )


if __name__ == "__main__":
    main()
