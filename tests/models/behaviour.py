"""What the oracles of behaviour models take, of a model's weights and features."""

import numpy as np

from tests.oracles.blocks import mlp
from tests.weights import activations_of, array, layer_pair, split_mlp_layers

COMPARED = ["item_id", "genres"]


def mlp_logit(model, fields, task):
    """The logit of a SplitMLP and its head over the concatenation of these vectors."""
    layers = [*split_mlp_layers(model.body.mlp), layer_pair(model.heads.dense[task])]
    x = np.concatenate([np.reshape(field, -1) for field in fields])
    return mlp(x, layers, activations_of(model.body.mlp), final_linear=True).item()


def rows_of(values, order=None):
    """Behaviours (L, D), attributes in that order; that of the schema by default."""
    return np.concatenate([values[name] for name in order or values], axis=-1)


def gru_weights(layer):
    """The oracle's weights of a GRU layer; those of an absent update gate are zeros."""
    from tests.oracles.dien import Gru

    parts = [
        np.split(array(weight), weight.shape[-1] // layer.width, axis=-1)
        for weight in (layer.kernel, layer.recurrent, layer.bias)
    ]
    if layer.kind == "agru":
        parts = [[np.zeros_like(part[0]), *part] for part in parts]
    return Gru(*(gate for part in parts for gate in part))


def lstm_weights(layer):
    """The oracle's weights of an LSTM layer."""
    from tests.oracles.dsin import Lstm

    parts = [np.split(array(w), 4, axis=-1) for w in (layer.kernel, layer.recurrent, layer.bias)]
    peepholes = [None] * 3
    if layer.peepholes is not None:
        peepholes = np.split(array(layer.peepholes), 3, axis=1)
    return Lstm(*(gate for part in parts for gate in part), *peepholes)
