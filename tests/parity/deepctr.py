"""Weights of DeepCTR as ours, by path, and parts of its models in NumPy."""

import re
from functools import partial

import numpy as np

from tests.oracles import blocks
from tests.oracles.transformer import layer_norm
from tests.parity.peers import COMPARED, FIELDS, TABLE

UNIT = "attention_sequence_pooling_layer/local_activation_unit"
# What the peer writes over the score of a key that is none.
LEAST = -(2.0**32) + 1
PARTS = ("query", "key", "value", "fw1", "fw2")
MOMENTS = ("moving_mean", "moving_variance")


def tables(golden):
    """Embedding tables, those of the linear part included."""
    found = {}
    for name in golden.named("/embeddings"):
        field = re.split("[_-]", name.removesuffix("/embeddings"))[-1]
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


def dices(golden, peer):
    """(alpha, mean, variance) of a network's Dice layers, in order."""
    found = []
    for name in golden.named(f"{peer}/dice", "/dice_alpha"):
        layer = name.removesuffix("dice_alpha")
        names = [golden.named(layer, moment) for moment in MOMENTS]
        found.append([golden[name], *(golden[own] for (own,) in names)])
    return found


class Peer:
    """What the peer's models read of one candidate, and their parts in NumPy.

    Args:
        golden: of one of them.
    """

    def __init__(self, golden):
        self.golden = golden
        self.tables = {name.removeprefix(f"{TABLE}/"): x for name, x in tables(golden).items()}
        self.shape = golden.inputs["item"].shape

    def fields(self, b, n):
        """Vectors of all fields, in order."""
        ids = {name: self.golden.inputs[name][b] for name in FIELDS}
        return [self.tables[name][own[n] if np.ndim(own) else own] for name, own in ids.items()]

    def query(self, b, n):
        """What behaviours are compared with."""
        return np.concatenate(self.fields(b, n)[3:5])

    def behaviours(self, b):
        """Behaviours (L, D), padding being row 0 of the tables, and their mask (L,)."""
        ids = [self.golden.inputs[f"history_{name}"][b] for name in COMPARED]
        rows = [self.tables[name][own] for name, own in zip(COMPARED, ids)]
        return np.concatenate(rows, axis=-1), ids[0] > 0

    def network(self, name, last, activation):
        """Layers of a `DNN` and of the linear unit behind it, and the activations before that.

        Args:
            name: of the `DNN`.
            last: names of the unit's kernel and bias.
            activation: where it has no Dice.
        """
        names = [(f"{name}/kernel{i}", f"{name}/bias{i}") for i in (0, 1)]
        layers = [(self.golden[kernel], self.golden[bias]) for kernel, bias in (*names, last)]
        acts = [
            partial(blocks.dice, alpha=alpha, mean=mean, variance=variance, epsilon=1e-9)
            for alpha, mean, variance in dices(self.golden, name)
        ]
        return layers, acts or activation

    def unit(self, number=0):
        """Layers and activations of that attention unit."""
        at = f"_{number}" if number else ""
        path = UNIT.replace("/", f"{at}/") + at
        return self.network(f"{path}/dnn{at}", (f"{path}/kernel", f"{path}/bias"), "sigmoid")

    def logits(self, interest, network="dnn_1"):
        """Logits (B, N) with that interest(b, n), by the last of its `DNN`s."""
        last = ("dense/kernel", "prediction_layer/global_bias")
        layers, acts = self.network(network, last, "relu")
        found = np.zeros(self.shape)
        for b, n in np.ndindex(self.shape):
            x = np.concatenate([*self.fields(b, n), interest(b, n)])
            found[b, n] = blocks.mlp(x, layers, acts, final_linear=True).item()
        return found

    def transformer(self, queries, keys, mask, heads, blinding=False, norm=False):
        """Its transformer over one sequence: padded keys are no keys, and padded queries attend to
        nothing, but their rows stay.

        Args:
            queries, keys: (L, W), values being of the keys.
            mask: (L,).
            heads: of attention.
            blinding: whether no row attends to itself.
            norm: whether both parts are normalised.
        """
        own = {part: self.golden[f"transformer/{part}"] for part in PARTS}
        parts = queries @ own["query"], keys @ own["key"], keys @ own["value"]
        found, every = [], np.ones_like(mask)
        for q, k, v in zip(*(np.split(part, heads, axis=1) for part in parts)):
            scores = np.where(mask, q @ k.T / np.sqrt(q.shape[1]), LEAST)
            if blinding:
                np.fill_diagonal(scores, LEAST)
            weights = np.array([blocks.softmax_masked(row, every) for row in scores])
            found.append((weights * mask[:, None]) @ v)
        found = self._normed(queries + np.concatenate(found, axis=1), norm)
        return self._normed(found + np.maximum(found @ own["fw1"], 0) @ own["fw2"], norm)

    def _normed(self, rows, norm):
        if not norm:
            return rows
        at = "transformer/layer_normalization"
        return layer_norm(rows, self.golden[f"{at}/gamma"], self.golden[f"{at}/beta"], 1e-9)
