"""Weights of FuxiCTR as ours, by path. A matrix of PyTorch has its outputs first."""

import numpy as np

from tests.parity.peers import COMPARED, FIELDS, TABLE, WIDTH

# The tables of a `FeatureEmbedding`, which the packaged models and first-order weights have.
EMBEDDING = "embedding_layer.embedding_layer.embedding_layers"
# What the packaged models read, and what ours do, in order.
OTHERS = [name for name in FIELDS if name not in COMPARED]
INTEREST = [f"pooled {name}" for name in COMPARED]
THEIRS = [*OTHERS, *COMPARED, *INTEREST]
OURS = ["gender", "city", *INTEREST, "hour", *COMPARED, "brand"]
ORDER = np.concatenate([THEIRS.index(name) * WIDTH + np.arange(WIDTH) for name in OURS])

MOMENTS = {"moving_mean": "running_mean", "moving_variance": "running_var"}
NORM = {"gamma": "weight", "beta": "bias", **MOMENTS}
DICE = {"alpha": "alpha"} | {f"norm/{ours}": f"bn.{own}" for ours, own in MOMENTS.items()}


def tables(golden, model, embedding=EMBEDDING, first_order=None):
    """Embedding tables and what a number is multiplied by, all that the model has.

    Args:
        embedding: where they are.
        first_order: where the first-order weights are.
    """

    def of(name):
        field, _, view = name.removeprefix("history_").partition("/")
        return golden[f"{first_order if view else embedding}.{field}.weight"]

    embedder = model.embedder
    found = {f"{TABLE}/{name}": of(name) for name in embedder.tables.specs}
    for name in embedder.projections:
        found[f"{name.replace('/', '_')}_projection/kernel"] = of(name).T
    return found


def linear(golden, path, peer, order=slice(None)):
    """A linear layer as a dense one, its inputs in that order."""
    return {
        f"{path}/kernel": golden[f"{peer}.weight"].T[order],
        f"{path}/bias": golden[f"{peer}.bias"],
    }


def mlp(golden, path, peer="network.deep.mlp", order=slice(None)):
    """An `MLP_Block` of two hidden layers as a split MLP, with Dice and normalisation if it has."""
    normed = bool(golden.named(f"{peer}.1.running_mean"))
    second = 3 if normed else 2
    found = linear(golden, f"{path}/split", f"{peer}.0", order)
    found |= linear(golden, f"{path}/rest/dense_1", f"{peer}.{second}")
    for layer, at in enumerate((1, second + 1)):
        if normed:
            for ours, theirs in NORM.items():
                value = golden[f"{peer}.{at}.{theirs}"]
                found[f"{path}/rest/norm_{layer}/{ours}"] = value
        elif golden.named(f"{peer}.{at}.alpha"):
            for ours, theirs in DICE.items():
                value = golden[f"{peer}.{at}.{theirs}"]
                found[f"{path}/rest/dice_{layer}/{ours}"] = value
    return found


def head(golden, peer="network.deep.mlp.4", further=()):
    """The last linear unit, with the biases of further ones added to its own."""
    found = linear(golden, "heads/click", peer)
    return found | {"heads/click/bias": sum((golden[n] for n in further), golden[f"{peer}.bias"])}


def fusion(golden, peer):
    """The bilinear fusion of FinalMLP's two streams and the linear units of either."""
    weights = [golden[f"{peer}.{name}.weight"].T for name in ("w_x", "w_y")]
    return {
        "fusion/kernel": golden[f"{peer}.w_xy"].reshape(2, 2, 3),
        "heads/click/kernel": np.concatenate(weights),
        "heads/click/bias": sum(golden[f"{peer}.{name}.bias"] for name in ("w_x", "w_y")),
    }
