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
from deepctr.layers.sequence import BiLSTM, DynamicGRU, Transformer
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
SESSIONS = [
    VarLenSparseFeat(
        SparseFeat(f"sess_{k}_{name}", FIELDS[name], embedding_dim=WIDTH, embedding_name=name),
        LENGTH // golden.SESSIONS,
    )
    for k in range(golden.SESSIONS)
    for name in COMPARED
]
UNITS = {"dnn_hidden_units": (6, 5)}
TOWERS = {"tower_dnn_hidden_units": (4,), "dnn_activation": "tanh"}
DICE = {"dnn_activation": "dice", "att_activation": "dice", **UNITS}
# Models of the library; columns of the linear part stand first where there is one.
MODELS: dict[str, Callable[[], tf.keras.Model]] = {
    "autoint": lambda: models.AutoInt(
        [], SPARSE, att_layer_num=2, att_embedding_size=3, att_head_num=2, dnn_hidden_units=()
    ),
    "autoint_plus": lambda: models.AutoInt(
        [], SPARSE, att_layer_num=2, att_embedding_size=3, att_head_num=2, **UNITS
    ),
    "bst": lambda: models.BST(SPARSE + HISTORY, list(COMPARED), att_head_num=2, **UNITS),
    "cgc": lambda: models.PLE(
        SPARSE, 2, 1, 1, expert_dnn_hidden_units=(5,), task_names=("click", "buy"), **TOWERS
    ),
    **{
        f"dien_{kind.lower()}": partial(
            models.DIEN, SPARSE + HISTORY, list(COMPARED), kind, att_hidden_units=(5, 3), **DICE
        )
        for kind in ("GRU", "AIGRU", "AGRU", "AUGRU")
    },
    "dcn": lambda: models.DCN([], SPARSE + NUMBER, cross_num=2, **UNITS),
    "dcn_v2": lambda: models.DCN(
        [], SPARSE + NUMBER, cross_num=2, cross_parameterization="matrix", **UNITS
    ),
    "dcn_v2_experts": lambda: models.DCNMix(
        [], SPARSE + NUMBER, cross_num=2, low_rank=2, num_experts=3, **UNITS
    ),
    "deepfm": lambda: models.DeepFM(SPARSE, SPARSE, **UNITS),
    "din": lambda: models.DIN(SPARSE + HISTORY, list(COMPARED), att_hidden_size=(5, 3), **DICE),
    "din_softmax": lambda: models.DIN(
        SPARSE + HISTORY, list(COMPARED), att_hidden_size=(5, 3), att_weight_normalization=True, **DICE
    ),
    "dsin": lambda: models.DSIN(
        SPARSE + SESSIONS,
        list(COMPARED),
        golden.SESSIONS,
        bias_encoding=True,
        att_embedding_size=4,
        att_head_num=2,
        **UNITS,
    ),
    "esmm": lambda: models.ESMM(SPARSE + NUMBER, task_names=("click", "buy"), **TOWERS),
    "fibinet_all": lambda: models.FiBiNET(SPARSE, SPARSE, "all", **UNITS),
    "fibinet_each": lambda: models.FiBiNET(SPARSE, SPARSE, "each", **UNITS),
    "fibinet_interaction": lambda: models.FiBiNET(SPARSE, SPARSE, "interaction", **UNITS),
    "flat_dnn": lambda: models.FNN([], SPARSE + NUMBER, **UNITS),
    "fwfm": lambda: models.FwFM(SPARSE, SPARSE, dnn_hidden_units=()),
    "mmoe": lambda: models.MMOE(
        SPARSE + NUMBER, 3, expert_dnn_hidden_units=(6, 5), task_names=("click", "buy"), **TOWERS
    ),
    "ple": lambda: models.PLE(
        SPARSE, 1, 2, 2, expert_dnn_hidden_units=(5,), task_names=("click", "buy"), **TOWERS
    ),
    "pnn_inner": lambda: models.PNN(SPARSE, **UNITS),
    "pnn_outer": lambda: models.PNN(SPARSE, use_inner=False, use_outter=True, **UNITS),
    "shared_bottom": lambda: models.SharedBottom(
        SPARSE + NUMBER, bottom_dnn_hidden_units=(6, 5), task_names=("click", "buy"), **TOWERS
    ),
    "wide_deep": lambda: models.WDL(SPARSE + NUMBER, SPARSE + NUMBER, **UNITS),
    "xdeepfm": lambda: models.xDeepFM(
        SPARSE, SPARSE, cin_layer_size=(4, 3), cin_split_half=False, cin_activation="linear", **UNITS
    ),
    "xdeepfm_biases": lambda: models.xDeepFM(
        SPARSE, SPARSE, cin_layer_size=(4, 3), cin_split_half=False, cin_activation="linear", **UNITS
    ),
    "xdeepfm_split": lambda: models.xDeepFM(SPARSE, SPARSE, cin_layer_size=(4, 6, 3), **UNITS),
}


def input_name(tensor: tf.Tensor) -> str:
    """The column that an input is of; the library repeats those of two parts under a number."""
    return re.sub(r"(_\d+)?(:\d+)?$", "", tensor.name)


Layer = tuple[list[tf.Tensor], dict[str, tf.Tensor]]


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


def by_request(values: np.ndarray) -> np.ndarray:
    """A row's number (B N, 1) as (B, N)."""
    return values.reshape(REQUESTS, -1)


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


def run_model(folder: Path, title: str) -> None:
    """A model's logits and probabilities."""
    tf.keras.backend.clear_session()
    model = MODELS[title]()
    batch = golden.batch()
    row_wise = golden.rows(batch)
    row_wise |= {f"hist_{name}": row_wise[f"history_{name}"] for name in COMPARED}
    row_wise["seq_length"] = row_wise["history_length"]
    row_wise["sess_length"] = -(-row_wise["history_length"] // (LENGTH // golden.SESSIONS))
    for name in COMPARED:
        for k, part in enumerate(np.split(row_wise[f"history_{name}"], golden.SESSIONS, axis=1)):
            row_wise[f"sess_{k}_{name}"] = part
    given = [row_wise[input_name(tensor)] for tensor in model.inputs]
    given = [value[:, None] if value.ndim == 1 else value for value in given]
    variables = model.weights
    if title.startswith("dien"):
        # The library's recurrent cells do not tell Keras of theirs.
        variables = tf.compat.v1.global_variables()
    weights = weights_of(title, variables)
    outputs = {}
    for tensor in model.outputs:
        probability = tf.keras.Model(model.inputs, tensor).predict(given)
        name = re.sub(r"_\d+$", "", tensor.name.split("/")[0])
        name = name if name in ("click", "buy") else "click"
        outputs[f"probability/{name}"] = by_request(probability)
    for layer in model.layers:
        if isinstance(layer, PredictionLayer):
            logit = tf.keras.Model(model.inputs, layer.input).predict(given)
            logit = logit + tf.keras.backend.get_value(layer.global_bias)
            name = layer.name if layer.name in ("click", "buy") else "click"
            if title == "esmm" and layer.name != "click":
                name = "buy_given_click"
            outputs[f"logit/{name}"] = by_request(logit)
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
