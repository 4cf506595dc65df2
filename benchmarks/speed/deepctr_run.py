"""DeepCTR's models under `fit` on a workload's arrays; runs in that library's environment."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# On import the library asks a server for its newest release; nothing listens there.
os.environ["HTTPS_PROXY"] = "http://127.0.0.1:9"

import deepctr
import deepctr.inputs
import tensorflow as tf
from deepctr.feature_column import DenseFeat, SparseFeat, VarLenSparseFeat
from deepctr.models import DCN, DIN, DeepFM

from benchmarks.speed import measure, tf_loop
from benchmarks.speed.workloads import WORKLOADS, Workload

# A regulariser of strength 0 still reads every table at each step.
deepctr.inputs.l2 = lambda strength: None

WIDTH = 16
NAMES = {"history_item": "hist_item", "history_category": "hist_category"}


def columns(workload: Workload) -> list:
    """The library's description of the fields."""
    found = [
        SparseFeat(name, ids + 1, embedding_dim=WIDTH) for name, ids in workload.fields.items()
    ]
    if workload.numeric:
        found.append(DenseFeat("numeric", workload.numeric))
    for name in workload.history:
        column = SparseFeat(
            f"hist_{name}", workload.fields[name] + 1, embedding_dim=WIDTH, embedding_name=name
        )
        found.append(VarLenSparseFeat(column, workload.length))
    return found


def deepfm(workload: Workload) -> tf.keras.Model:
    """Its DeepFM, whose numbers enter the deep network and the linear part as they are."""
    found = columns(workload)
    return DeepFM(
        found, found, dnn_hidden_units=(400, 400, 400), l2_reg_linear=0, l2_reg_embedding=0
    )


def dcn_v2(workload: Workload) -> tf.keras.Model:
    """Its DCN with cross matrices, parallel; its linear part, which it needs, is of the numbers."""
    return DCN(
        [DenseFeat("numeric", workload.numeric)],
        columns(workload),
        cross_num=3,
        cross_parameterization="matrix",
        dnn_hidden_units=(400, 400, 400),
        l2_reg_linear=0,
        l2_reg_embedding=0,
        l2_reg_cross=0,
    )


def din(workload: Workload) -> tf.keras.Model:
    """Its DIN with Dice in both networks; histories are padded to the workload's length."""
    return DIN(
        columns(workload),
        list(workload.history),
        dnn_hidden_units=(256, 128, 64),
        dnn_activation="dice",
        att_hidden_size=(80, 40),
        att_activation="dice",
        l2_reg_embedding=0,
    )


MODELS = {"deepfm": deepfm, "dcn_v2": dcn_v2, "din": din}


def main() -> None:
    """Prints one line of JSON."""
    options = measure.options(MODELS).parse_args()
    workload = WORKLOADS[options.workload]
    arrays = measure.load(options.arrays)
    tf.keras.utils.set_random_seed(1)
    model = MODELS[options.model](workload)
    model.compile(
        tf.keras.optimizers.Adam(1e-3),
        "binary_crossentropy",
        steps_per_execution=options.steps_per_call,
    )
    clock = measure.Clock(options.warm_up, options.steps, options.seconds)
    data = tf_loop.batches(workload, arrays, NAMES)
    if workload.scoring:
        loss = tf_loop.predict(tf.keras, model, data, clock, options.steps_per_call)
    else:
        loss = tf_loop.fit(tf.keras, model, data, clock, options.steps_per_call)
    measure.report(
        clock,
        workload.batch,
        loss,
        tf_loop.parameters(model),
        {"deepctr": deepctr.__version__, "tensorflow": tf.__version__},
    )


if __name__ == "__main__":
    main()
