"""Weights of DeepCTR as ours, by path."""

import numpy as np

from tests.parity.peers import TABLE


def tables(golden):
    """Embedding tables, those of the linear part included."""
    found = {}
    for name in golden.named("/embeddings"):
        field = name.removesuffix("/embeddings").rpartition("_")[2]
        view = "/linear" if name.startswith("linear") else ""
        found[f"{TABLE}/{field}{view}"] = golden[name]
    return found


def mlp(golden, path, peer="dnn"):
    """A `DNN` of two layers as a split MLP."""
    return {
        f"{path}/split/kernel": golden[f"{peer}/kernel0"],
        f"{path}/split/bias": golden[f"{peer}/bias0"],
        f"{path}/rest/dense_1/kernel": golden[f"{peer}/kernel1"],
        f"{path}/rest/dense_1/bias": golden[f"{peer}/bias1"],
    }


def head(golden, *kernels):
    """The last linear unit, whose bias is the peer's `global_bias`."""
    return {
        "heads/click/kernel": np.concatenate([golden[name] for name in kernels]),
        "heads/click/bias": golden["prediction_layer/global_bias"],
    }


def stacked(golden, *names):
    """Weights of some networks, one behind the other on a new first axis."""
    return np.stack([golden[name] for name in names])
