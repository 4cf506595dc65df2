"""Keras' own `fit` on W1's arrays, one `Embedding` a field; runs in its own environment.

DCN-v2 is of keras-rs' `FeatureCross`. The models are ours, layer by layer.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import keras_rs
import tensorflow as tf
from keras import layers, ops

from benchmarks.speed import measure, tf_loop
from benchmarks.speed.workloads import WORKLOADS, Workload

WIDTH = 16
UNITS = [400, 400, 400]


class FieldNumbers(layers.Layer):
    """x v for each number x."""

    def build(self, shape):
        self.vectors = self.add_weight(shape=(shape[-1], WIDTH), name="vectors")

    def call(self, x):
        return ops.expand_dims(x, -1) * self.vectors


class SecondOrder(layers.Layer):
    """The sum over pairs of fields of their vectors' products."""

    def call(self, fields):
        total = ops.square(ops.sum(fields, 1))
        return 0.5 * ops.sum(total - ops.sum(ops.square(fields), 1), -1, keepdims=True)


def inputs_of(workload: Workload) -> dict:
    """An input a field, one for the numbers."""
    found = {name: keras.Input((), name=name, dtype="int32") for name in workload.fields}
    return found | {"numeric": keras.Input((workload.numeric,), name="numeric")}


def vectors_of(workload: Workload, inputs: dict, width: int) -> list:
    """Each field's row of its table."""
    return [
        layers.Embedding(ids + 1, width, name=f"{name}_{width}")(inputs[name])
        for name, ids in workload.fields.items()
    ]


def mlp(x):
    """The deep network."""
    for units in UNITS:
        x = layers.Dense(units, "relu")(x)
    return x


def deepfm(workload: Workload) -> keras.Model:
    """DeepFM, numbers embedded."""
    inputs = inputs_of(workload)
    vectors = layers.Concatenate()(vectors_of(workload, inputs, WIDTH))
    numbers = layers.Flatten()(FieldNumbers()(inputs["numeric"]))
    x = layers.Concatenate()([vectors, numbers])
    fields = layers.Reshape((-1, WIDTH))(x)
    weights = vectors_of(workload, inputs, 1)
    weights.append(layers.Dense(1, use_bias=False)(inputs["numeric"]))
    logit = layers.Add()([*weights, SecondOrder()(fields), layers.Dense(1)(mlp(x))])
    return keras.Model(inputs, logit)


def dcn_v2(workload: Workload) -> keras.Model:
    """DCN-v2 in the parallel structure."""
    inputs = inputs_of(workload)
    x0 = layers.Concatenate()([*vectors_of(workload, inputs, WIDTH), inputs["numeric"]])
    x = x0
    for _ in range(3):
        x = keras_rs.layers.FeatureCross(bias_initializer="zeros")(x0, x)
    return keras.Model(inputs, layers.Dense(1)(layers.Concatenate()([x, mlp(x0)])))


MODELS = {"deepfm": deepfm, "dcn_v2": dcn_v2}


def main() -> None:
    """Prints one line of JSON."""
    options = measure.options(MODELS).parse_args()
    workload = WORKLOADS[options.workload]
    arrays = measure.load(options.arrays)
    keras.utils.set_random_seed(1)
    model = MODELS[options.model](workload)
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=options.steps_per_call,
        # Keras' default, XLA, took 1.1 times the processor time and a third more memory.
        jit_compile=False,
    )
    clock = measure.Clock(options.warm_up, options.steps, options.seconds)
    data = tf_loop.batches(workload, arrays, {})
    loss = tf_loop.fit(keras, model, data, clock, options.steps_per_call)
    measure.report(
        clock,
        workload.batch,
        loss,
        tf_loop.parameters(model),
        {
            "keras": keras.__version__,
            "keras-rs": keras_rs.__version__,
            "tensorflow": tf.__version__,
        },
    )


if __name__ == "__main__":
    main()
