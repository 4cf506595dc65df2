"""Our interaction architectures against the leaderboard's of FuxiCTR's layers, weights copied in.

Each runs twice: as a network over the fields of every side, a number among them where ours embeds
it too, and whole, with behaviours by their mean, one of whose fields the candidate lacks.
"""

from itertools import combinations

import numpy as np
import pytest

from ctr_tf import registry
from ctr_tf.models.sides import side_widths
from tests.layers.sides import signal_pairs
from tests.models.pairs import places, rows_of_pairs
from tests.parity.fuxictr import EMBEDDING, fusion, head, linear, mlp, tables
from tests.parity.peers import (
    COMPARED,
    TABLE,
    WIDTH,
    Golden,
    assert_outputs,
    assign,
    build,
    trained,
)


def embedded(golden, model, first_order=None):
    """The tables; `first_order` is the part of the network with first-order weights."""
    at = first_order and f"network.{first_order}.{EMBEDDING}"
    return tables(golden, model, "embedding.embedding_layers", at)


def side_counts(model):
    """How many fields each side has."""
    return {side: len(own) for side, own in side_widths(model.embedder.widths).items()}


def field_pairs(model):
    """Pairs of fields as the peer has them, in order."""
    return list(combinations(range(sum(side_counts(model).values())), 2))


def fm(golden, model):
    bias = golden["network.fm.lr_layer.bias"]
    return embedded(golden, model, "fm.lr_layer") | {"heads/click/bias": bias}


def fwfm(golden, model):
    strengths = {
        "pairs/strengths": golden["network.strengths.weight"][0],
        "heads/click/bias": golden["network.strengths.bias"],
    }
    return embedded(golden, model, "linear") | strengths


def fmfm(golden, model):
    """Ours has the matrices of a field to all later ones side by side."""
    matrices = dict(zip(field_pairs(model), golden["network.pairs.bilinear_W"]))
    count = sum(side_counts(model).values())
    strips = [
        np.concatenate([matrices[i, j] for j in range(i + 1, count)], axis=1).reshape(-1)
        for i in range(count - 1)
    ]
    return embedded(golden, model, "linear") | {
        "pairs/matrices": np.concatenate(strips),
        "heads/click/bias": golden["network.linear.bias"],
    }


def flat_dnn(golden, model):
    return embedded(golden, model) | mlp(golden, "deep") | head(golden)


def wide_deep(golden, model):
    return embedded(golden, model, "wide") | mlp(golden, "deep") | head(golden)


def deepfm(golden, model):
    own = mlp(golden, "deep") | head(golden, further=["network.fm.lr_layer.bias"])
    return embedded(golden, model, "fm.lr_layer") | own


def xdeepfm(golden, model):
    """Its pairs run over x^0 first."""
    found = mlp(golden, "deep") | head(golden, further=["network.cin.fc.bias"])
    for layer, kernel in enumerate(model.body.cin.kernels):
        rows, fields, width = kernel.shape
        peer = f"network.cin.cin_layer.layer_{layer + 1}"
        of_pairs = golden[f"{peer}.weight"].T.reshape(fields, rows, width)
        found[f"cin/{layer}_kernel"] = np.swapaxes(of_pairs, 0, 1)
        found[f"cin/{layer}_bias"] = golden[f"{peer}.bias"]
    deep = found["heads/click/kernel"]
    found["heads/click/kernel"] = np.concatenate([golden["network.cin.fc.weight"].T, deep])
    return embedded(golden, model, "wide") | found


def pnn(golden, model):
    """Products of pairs follow all fields; ours stand by the sides of their fields."""
    pairs, counts = field_pairs(model), side_counts(model)
    signals = [pairs.index(pair) for pair in signal_pairs(counts)]
    inputs = sum(counts.values()) * WIDTH
    order = np.concatenate([np.arange(inputs), inputs + np.array(signals)])
    return embedded(golden, model) | mlp(golden, "deep", order=order) | head(golden)


def dcn(golden, model):
    cross = [f"network.cross.cross_net.{layer}" for layer in (0, 1)]
    return {
        **embedded(golden, model),
        **mlp(golden, "deep"),
        **head(golden, "network.head"),
        "cross/split/kernel": np.concatenate([golden[f"{at}.weight.weight"] for at in cross]).T,
        "cross/bias": np.stack([golden[f"{at}.bias"] for at in cross]),
    }


def fibinet(golden, model):
    """Plain pairs come first in either; ours are by the sides of their fields."""
    found = embedded(golden, model, "linear") | mlp(golden, "deep") | head(golden)
    for ours, layer in (("reduce", 0), ("expand", 2)):
        found[f"senet/{ours}/kernel"] = golden[f"network.importance.excitation.{layer}.weight"].T
    rows = []
    for layer, half in zip(
        (model.body.plain, model.body.weighted), np.split(found["deep/split/kernel"], 2)
    ):
        kernels = golden[f"network.{layer.name}.bilinear_W"].reshape(-1, WIDTH, WIDTH)
        if layer.kind == "interaction":
            kernels = kernels[np.argsort(places(layer))]
        # Its last field has a matrix that it does not read.
        found[f"{layer.name}/kernel"] = kernels[: layer.kernel.shape[0]]
        rows.append(np.empty_like(half))
        rows[-1][rows_of_pairs(layer, WIDTH)] = half
    return found | {"deep/split/kernel": np.concatenate(rows)}


def autoint(golden, model):
    """The residual of its second layer is the input itself."""
    found = embedded(golden, model) | head(golden, "network.head")
    if model.config.units:
        deep = head(golden)
        parts = found["heads/click/kernel"], deep["heads/click/kernel"]
        found |= mlp(golden, "deep") | {
            "heads/click/kernel": np.concatenate(parts),
            "heads/click/bias": found["heads/click/bias"] + deep["heads/click/bias"],
        }
    residuals = [golden["network.interacting.0.shortcut.weight"].T, np.eye(6)]
    for layer, residual in enumerate(residuals):
        at = f"network.interacting.{layer}.projections"
        own = [golden[f"{at}.{part}.weight"].T for part in range(3)]
        found[f"interacting_{layer}/kernel"] = np.concatenate([*own, residual], axis=1)
    return found


def finalmlp(golden, model):
    """Its gates have tables of their own, with the values of the others here, and read no
    behaviours; ours of the user does."""
    found = embedded(golden, model) | fusion(golden, "network.fusion")
    for path, peer in (("first", "network.gates.fs1"), ("second", "network.gates.fs2")):
        found |= mlp(golden, path, f"network.{path}.mlp")
        found |= linear(golden, f"{path}_gate/hidden/dense_0", f"{peer}_gate.mlp.0")
        found |= linear(golden, f"{path}_gate/factors", f"{peer}_gate.mlp.2")
        for name in golden.named(f"{peer}_ctx_emb"):
            field = name.removesuffix(".weight").rpartition(".")[2]
            np.testing.assert_array_equal(golden[name], found[f"{TABLE}/{field}"])
        if model.config.second_gate == "learned" and path == "second":
            found[f"{path}_gate/vector"] = golden[f"{peer}_ctx_bias"]
    unread = len(COMPARED) * WIDTH if model.schema.sequences else 0
    kernel = "first_gate/hidden/dense_0/kernel"
    return found | {kernel: np.pad(found[kernel], [(0, unread), (0, 0)])}


DEEP = {"units": [6, 5], "activation": "tanh"}
ATTENTION = {"interacting_layers": 2, "attention_heads": 2, "attention_width": 3}
STREAMS = {"first_units": [6, 4], "second_units": [5, 6], "fusion_heads": 2, "gate_units": [4]}
USER, CANDIDATE = 3 + 5, 7 + 4 + 5
"""Rows of the tables of either side's fields."""
# File: our architecture, its settings, its weights, and what the peer trains beyond it.
EQUAL = {
    # W_R of the second layer; the second bias is of the deep part.
    "autoint": ("autoint", ATTENTION, autoint, -6 * 6),
    "autoint_plus": ("autoint", {"scaled": True, **ATTENTION, **DEEP}, autoint, -6 * 6 + 1),
    "dcn": ("dcn", {"cross_layers": 2, **DEEP}, dcn, 0),
    "deepfm": ("deepfm", DEEP, deepfm, 1),
    "fibinet_all": ("fibinet", {"bilinear": "all", **DEEP}, fibinet, 0),
    "fibinet_each": ("fibinet", {"bilinear": "each", **DEEP}, fibinet, 2 * WIDTH * WIDTH),
    "fibinet_interaction": (
        "fibinet",
        {"bilinear": "interaction", "importance": "sigmoid", **DEEP},
        fibinet,
        0,
    ),
    # Two biases of the logit, and the gates' own tables.
    "finalmlp_gates": ("finalmlp", STREAMS, finalmlp, 1 + (USER + CANDIDATE) * WIDTH),
    "finalmlp_learned": (
        "finalmlp",
        {"second_gate": "learned", **STREAMS},
        finalmlp,
        1 + USER * WIDTH,
    ),
    "flat_dnn": ("flat_dnn", DEEP, flat_dnn, 0),
    "fm": ("fm", {}, fm, 0),
    "fmfm": ("fmfm", {}, fmfm, 0),
    "fwfm": ("fwfm", {}, fwfm, 0),
    "pnn_inner": ("pnn", DEEP, pnn, 0),
    "wide_deep": ("wide_deep", DEEP, wide_deep, 0),
    # A bias of its CIN's logit.
    "xdeepfm": ("xdeepfm", {"cin_units": [4, 3], "cin_bias": True, **DEEP}, xdeepfm, 1),
}
# With behaviours: our gate of the user reads them, and of the candidate's fields the item is left.
BEHAVIOURS = {
    "finalmlp_gates": (USER + 7) * WIDTH - 2 * WIDTH * 4 + 1,
    "finalmlp_learned": USER * WIDTH - 2 * WIDTH * 4 + 1,
}


def assert_equal(golden, model, weights, more):
    assign(model, weights(golden, model))
    assert not golden.unread
    assert_outputs(golden, model)
    assert trained(model) + more == golden.parameters


@pytest.mark.parametrize("title", EQUAL)
def test_networks_over_fields_of_every_side_are_the_peers(title):
    name, given, weights, more = EQUAL[title]
    model = build(name, numeric=registry.get(name).body.one_width, **given)
    assert_equal(Golden(f"fuxictr/{title}"), model, weights, more)


@pytest.mark.parametrize("title", EQUAL)
def test_whole_models_with_behaviours_are_the_peers(title):
    name, given, weights, more = EQUAL[title]
    model = build(name, history=True, fields=["gender", "city", "item"], **given)
    golden = Golden(f"fuxictr/{title}_behaviours")
    assert_equal(golden, model, weights, BEHAVIOURS.get(title, more))
