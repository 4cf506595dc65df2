"""DeepCTR's models and layers on the rows of `golden`; runs in that library's environment."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# On import the library asks a server for its newest release; nothing listens there.
os.environ["HTTPS_PROXY"] = "http://127.0.0.1:9"

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import deepctr
import numpy as np
import tensorflow as tf
from deepctr import models
from deepctr.feature_column import DenseFeat, SparseFeat, VarLenSparseFeat
from deepctr.layers.core import PredictionLayer
from deepctr.layers.sequence import BiLSTM, Transformer
from deepctr.models.sequence.dien import auxiliary_loss
from tensorflow.python.ops import array_ops, control_flow_ops
from tensorflow.python.util import nest

from benchmarks.parity import golden
from benchmarks.parity.golden import COMPARED, FIELDS, LENGTH, REQUESTS, WIDTH

# Where the library's recurrent loop looks for them; this TensorFlow has moved them.
array_ops.stack, array_ops.unstack = tf.stack, tf.unstack
control_flow_ops.Assert = tf.debugging.Assert
control_flow_ops.cond = tf.compat.v1.cond
control_flow_ops.while_loop = tf.compat.v1.while_loop
nest.is_sequence = tf.nest.is_nested
# The library's recurrent cells make their variables in graphs alone.
tf.compat.v1.disable_eager_execution()

VERSIONS = f"deepctr {deepctr.__version__}, tensorflow {tf.__version__}"
NUMBER = [DenseFeat("price", 1)]
SPARSE = [SparseFeat(name, rows, embedding_dim=WIDTH) for name, rows in FIELDS.items()]
HISTORY = [
    VarLenSparseFeat(
        SparseFeat(f"hist_{name}", FIELDS[name], embedding_dim=WIDTH, embedding_name=name),
        LENGTH,
        length_name="seq_length",
    )
    for name in COMPARED
]
# A session is so many behaviours.
SESSIONS = [
    VarLenSparseFeat(
        SparseFeat(f"sess_{k}_{name}", FIELDS[name], embedding_dim=WIDTH, embedding_name=name),
        LENGTH // golden.SESSIONS,
    )
    for k in range(golden.SESSIONS)
    for name in COMPARED
]
UNITS = {"dnn_hidden_units": (6, 5)}
DICE = {"dnn_activation": "dice", "att_activation": "dice", **UNITS}
ATTENTION = {"att_layer_num": 2, "att_embedding_size": 3, "att_head_num": 2}
CROSS = {"cross_num": 2, **UNITS}
LINEAR_CIN = {"cin_split_half": False, "cin_activation": "linear", **UNITS}
TASKS = {
    "tower_dnn_hidden_units": (4,),
    "dnn_activation": "tanh",
    "task_names": ("click", "buy"),
}
# Models of the library; columns of the linear part come first where there is one.
MODELS: dict[str, Callable[[], tf.keras.Model]] = {
    "autoint": partial(models.AutoInt, [], SPARSE, dnn_hidden_units=(), **ATTENTION),
    "autoint_plus": partial(models.AutoInt, [], SPARSE, **ATTENTION, **UNITS),
    "bst": partial(models.BST, SPARSE + HISTORY, COMPARED, att_head_num=2, **UNITS),
    "cgc": partial(models.PLE, SPARSE, 2, 1, 1, expert_dnn_hidden_units=(5,), **TASKS),
    "dcn": partial(models.DCN, [], SPARSE + NUMBER, **CROSS),
    "dcn_v2": partial(models.DCN, [], SPARSE + NUMBER, cross_parameterization="matrix", **CROSS),
    "dcn_v2_experts": partial(
        models.DCNMix, [], SPARSE + NUMBER, low_rank=2, num_experts=3, **CROSS
    ),
    "deepfm": partial(models.DeepFM, SPARSE, SPARSE, **UNITS),
    "deepfm_batch_norm": partial(models.DeepFM, SPARSE, SPARSE, dnn_use_bn=True, **UNITS),
    **{
        f"dien_{kind.lower()}": partial(
            models.DIEN, SPARSE + HISTORY, COMPARED, kind, att_hidden_units=(5, 3), **DICE
        )
        for kind in ("GRU", "AIGRU", "AGRU", "AUGRU")
    },
    **{
        title: partial(
            models.DIN,
            SPARSE + HISTORY,
            COMPARED,
            att_hidden_size=(5, 3),
            att_weight_normalization=softmax,
            **DICE,
        )
        for title, softmax in (("din", False), ("din_softmax", True))
    },
    "dsin": partial(
        models.DSIN,
        SPARSE + SESSIONS,
        COMPARED,
        golden.SESSIONS,
        bias_encoding=True,
        att_embedding_size=4,
        att_head_num=2,
        **UNITS,
    ),
    "esmm": partial(models.ESMM, SPARSE + NUMBER, **TASKS),
    **{
        f"fibinet_{kind}": partial(models.FiBiNET, SPARSE, SPARSE, kind, **UNITS)
        for kind in ("all", "each", "interaction")
    },
    "flat_dnn": partial(models.FNN, [], SPARSE + NUMBER, **UNITS),
    "fwfm": partial(models.FwFM, SPARSE, SPARSE, dnn_hidden_units=()),
    "mmoe": partial(models.MMOE, SPARSE + NUMBER, 3, expert_dnn_hidden_units=(6, 5), **TASKS),
    "ple": partial(models.PLE, SPARSE, 1, 2, 2, expert_dnn_hidden_units=(5,), **TASKS),
    "pnn_inner": partial(models.PNN, SPARSE, **UNITS),
    "pnn_outer": partial(models.PNN, SPARSE, use_inner=False, use_outter=True, **UNITS),
    "shared_bottom": partial(
        models.SharedBottom, SPARSE + NUMBER, bottom_dnn_hidden_units=(6, 5), **TASKS
    ),
    "wide_deep": partial(models.WDL, SPARSE + NUMBER, SPARSE + NUMBER, **UNITS),
    **{
        title: partial(models.xDeepFM, SPARSE, SPARSE, cin_layer_size=(4, 3), **LINEAR_CIN)
        for title in ("xdeepfm", "xdeepfm_biases")
    },
    "xdeepfm_split": partial(models.xDeepFM, SPARSE, SPARSE, cin_layer_size=(4, 6, 3), **UNITS),
}
Layer = tuple[list[tf.Tensor], dict[str, tf.Tensor]]


def input_name(tensor: tf.Tensor) -> str:
    """The column that an input is of; the library repeats those of two parts under a number."""
    return re.sub(r"(_\d+)?(:\d+)?$", "", tensor.name)


def recurrent() -> Layer:
    """Both directions of its Bi-LSTM, one layer of it."""
    x = tf.keras.Input((LENGTH, WIDTH), name="x")
    return [x], {"states": BiLSTM(WIDTH, layers=1, merge_mode="concat")(x)}


def transformer() -> Layer:
    """A block of its transformer with normalisation, without positions."""
    x = tf.keras.Input((LENGTH, WIDTH), name="x")
    lengths = tf.keras.Input((1,), dtype="int32", name="lengths")
    given = {"use_positional_encoding": False, "use_layer_norm": True, "blinding": False}
    block = Transformer(WIDTH // 2, 2, output_type=None, **given)
    return [x, lengths], {"rows": block([x, x, lengths, lengths])}


def auxiliary() -> Layer:
    """Its loss of DIEN's interests.

    The behaviours of a request are all alike, and negatives are those of another request: whatever
    is drawn from there is the same.
    """
    names = ("states", "behaviours", "negatives")
    states, *behaviours = [tf.keras.Input((LENGTH, WIDTH), name=name) for name in names]
    lengths = tf.keras.Input((1,), dtype="int32", name="lengths")
    following = [x[:, 1:] for x in behaviours]
    loss = auxiliary_loss(states[:, :-1], *following, lengths - 1)
    return [states, *behaviours, lengths], {"loss": loss}


LAYERS = {"bi_lstm": recurrent, "transformer": transformer, "dien_auxiliary": auxiliary}


def weights_of(title: str, variables: list[tf.Variable]) -> dict[str, np.ndarray]:
    """Draws and sets them: name to value."""
    found = {}
    for variable in variables:
        name = variable.name.removesuffix(":0")
        found[name] = golden.draw(title, name, variable.shape)
        if name.startswith("cin/bias") and "biases" not in title:
            found[name] *= 0
        tf.keras.backend.set_value(variable, found[name])
    return found


def columns(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The batch by the library's names of columns, a row a candidate."""
    found = golden.rows(batch)
    length = LENGTH // golden.SESSIONS
    found["seq_length"] = found["history_length"]
    found["sess_length"] = -(-found["history_length"] // length)
    for name in COMPARED:
        history = found[f"hist_{name}"] = found[f"history_{name}"]
        for k in range(golden.SESSIONS):
            found[f"sess_{k}_{name}"] = history[:, k * length : (k + 1) * length]
    return {name: x[:, None] if x.ndim == 1 else x for name, x in found.items()}


def run_model(folder: Path, title: str) -> None:
    """A model's logits and probabilities."""
    tf.keras.backend.clear_session()
    model = MODELS[title]()
    batch = golden.batch()
    of = columns(batch)
    given = [of[input_name(tensor)] for tensor in model.inputs]
    # The library's recurrent cells do not tell Keras of their variables.
    recurrent = title.startswith("dien")
    variables = tf.compat.v1.global_variables() if recurrent else model.weights
    weights = weights_of(title, variables)

    # A prediction layer is named after its task, unless there is one task or it is ESMM's second.
    other = "buy_given_click" if title == "esmm" else "click"
    outputs = {}
    for layer in model.layers:
        name = layer.name.replace("prediction_layer", other)
        if layer.name in model.output_names:
            outputs[f"probability/{name}"] = tf.keras.Model(model.inputs, layer.output)
        if isinstance(layer, PredictionLayer):
            outputs[f"logit/{name}"] = tf.keras.Model(model.inputs, layer.input + layer.global_bias)
    outputs = {name: x.predict(given).reshape(REQUESTS, -1) for name, x in outputs.items()}
    trained = sum(int(np.prod(v.shape)) for v in variables if v.trainable)
    golden.save(folder / f"{title}.npz", batch, weights, outputs, trained, VERSIONS)


def run_layer(folder: Path, title: str) -> None:
    """What a layer makes of drawn inputs."""
    tf.keras.backend.clear_session()
    inputs, outputs = LAYERS[title]()
    given = {}
    for tensor in inputs:
        name = input_name(tensor)
        given[name] = golden.draw(title, name, (REQUESTS, *tensor.shape[1:]))
        if name == "lengths":
            given[name] = golden.batch()["history_length"][:, None]
        elif name == "behaviours":
            given[name] = np.repeat(given[name][:, :1], LENGTH, axis=1)
        elif name == "negatives":
            given[name] = given["behaviours"][[1, 0, 3, 2]]
    weights = weights_of(title, tf.compat.v1.global_variables())
    found = tf.keras.backend.function(inputs, list(outputs.values()))(list(given.values()))
    trained = sum(value.size for value in weights.values())
    found = dict(zip(outputs, found))
    golden.save(folder / f"{title}.npz", given, weights, found, trained, VERSIONS)


def main() -> None:
    """Writes a file for each model and layer into the folder that is given."""
    folder = Path(sys.argv[1])
    for title in MODELS:
        run_model(folder, title)
    for title in LAYERS:
        run_layer(folder, title)


if __name__ == "__main__":
    main()
