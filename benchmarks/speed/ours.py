"""Our training step on a workload's arrays, from memory."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.speed import measure, tf_loop
from benchmarks.speed.workloads import WORKLOADS, Workload
from ctr_tf import registry
from ctr_tf.evaluation.predict import scored
from ctr_tf.models.model import CTRModel
from ctr_tf.optimizers.build import build_optimizer
from ctr_tf.schema import Schema
from ctr_tf.training.config import TrainConfig
from ctr_tf.training.step import TrainStep

MODELS = {
    "deepfm": {"units": [400, 400, 400]},
    "dcn_v2": {"units": [400, 400, 400], "cross_layers": 3},
    "din": {"units": [256, 128, 64], "attention_units": [80, 40]},
    "transformer": {
        "units": [256, 128, 64],
        "embedding": {"width": 32},
        "encoder": {"width": 64, "layers": 2, "heads": 2},
    },
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


def batches(
    workload: Workload, arrays: dict[str, np.ndarray], seed: int = 1, row_wise: bool = False
) -> tf.data.Dataset:
    """Epochs of shuffled batches, histories cut to the longest of the batch.

    Args:
        workload, arrays: what is batched.
        seed: of the order.
        row_wise: whether each impression is a request of its own, with its user side.
    """
    impressions = workload.impressions
    candidate = {spec.name for spec in schema_of(workload).inputs if spec.side == "candidate"}
    held = {name: tf.constant(value) for name, value in arrays.items()}

    def batch(rows: tf.Tensor) -> dict:
        taken = {name: tf.gather(value, rows) for name, value in held.items()}
        label = tf.reshape(taken.pop("label"), (-1, impressions))
        numeric = taken.pop("numeric", None)
        if numeric is not None:
            taken |= {f"n{i}": v for i, v in enumerate(tf.unstack(numeric, axis=1))}
        length = taken.pop("length", None)
        features = {
            name: tf.reshape(value, (-1, impressions)) if name in candidate else value
            for name, value in taken.items()
        }
        features["candidates_mask"] = tf.ones_like(label, tf.bool)
        if length is not None:
            features["history_mask"] = tf.sequence_mask(length)
            longest = tf.reduce_max(length)
            for name in workload.history:
                features[f"history_{name}"] = features[f"history_{name}"][:, :longest]
        if row_wise:
            label = tf.reshape(label, (-1, 1))
            features = {
                name: tf.reshape(value, (-1, 1))
                if name in candidate
                else tf.repeat(value, impressions, axis=0)
                for name, value in features.items()
            }
        return {
            "features": features,
            "labels": {"click": label},
            "weights": {"click": tf.ones_like(label)},
        }

    rows = tf_loop.shuffled(workload.rows, workload.batch // impressions, seed)
    return rows.map(batch, 2).prefetch(2)


def trained(
    model: CTRModel, data: tf.data.Dataset, clock: measure.Clock, options: argparse.Namespace
) -> list[float]:
    """Trains while the clock wants more; returns the loss of each step."""
    train = TrainConfig(**json.loads(options.set))
    optimizer = build_optimizer(model, train.optimizers(1000))
    step = TrainStep(model, optimizer, tf.distribute.get_strategy(), {}, train.compiles(10**6))
    iterator, losses = iter(data), []

    def call(steps: int) -> None:
        losses.extend(step(iterator, steps).losses.tolist())

    tf_loop.timed(call, clock, options.steps_per_call, options.profile)
    return losses


def main() -> None:
    """Prints one line of JSON."""
    parser = measure.options(MODELS)
    parser.add_argument("--set", default="{}", help="JSON: settings of training")
    parser.add_argument("--row-wise", action="store_true", help="a request for each impression")
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    workload = WORKLOADS[options.workload]
    arrays = measure.load(options.arrays)
    keras.utils.set_random_seed(1)
    model = model_of(workload, options.model)
    data = batches(workload, arrays, row_wise=options.row_wise)
    clock = measure.Clock(options.warm_up, options.steps, options.seconds)
    losses: list[float] = []
    if workload.scoring:
        for _, scores in scored(model, data, xla=True):
            scores["click"].numpy()
            if not clock.more():
                break
    else:
        losses = trained(model, data, clock, options)
    measure.report(
        clock,
        workload.batch,
        losses[-1] if losses else None,
        sum(int(np.prod(weight.shape)) for weight in model.trainable_variables),
        {"tensorflow": tf.__version__, "keras": keras.__version__},
        first_losses=losses[: options.steps_per_call],
    )


if __name__ == "__main__":
    main()
