"""Our interaction architectures against DeepCTR's, with its weights copied in."""

from itertools import combinations

import numpy as np
import pytest

from tests.layers.sides import signal_pairs
from tests.models.pairs import places, rows_of_pairs
from tests.parity.deepctr import head, mlp, stacked, tables
from tests.parity.peers import Golden, assert_outputs, assign, build, trained

COUNTS = {"user": 2, "context": 1, "candidate": 3}
COUNT, WIDTH = 6, 4
PAIRS = list(combinations(range(COUNT), 2))
UNITS = {"units": [6, 5]}


def deepfm(golden, model):
    return mlp(golden, "deep") | head(golden, "dense/kernel")


def wide_deep(golden, model):
    number = {"price_linear_projection/kernel": golden["linear/linear_kernel"]}
    return mlp(golden, "deep") | head(golden, "dense/kernel") | number


def fwfm(golden, model):
    strengths = golden["fw_fm_layer/field_pair_strengths"][np.triu_indices(COUNT, 1)]
    return {
        "pairs/strengths": strengths,
        "heads/click/bias": golden["prediction_layer/global_bias"],
    }


def xdeepfm(golden, model):
    """The peer's pairs run over x^0 first; its biases have no place in ours."""
    cin = {}
    for layer, kernel in enumerate(model.body.cin.kernels):
        rows, fields, width = kernel.shape
        of_pairs = golden[f"cin/filter{layer}"].reshape(fields, rows, width)
        cin[f"cin/{layer}_kernel"] = np.swapaxes(of_pairs, 0, 1)
    return cin | mlp(golden, "deep") | head(golden, "dense_1/kernel", "dense/kernel")


def pnn(golden, model):
    """The peer's pairs follow all fields; ours stand by the sides of their fields."""
    kernel = golden["dnn/kernel0"]
    fields, signals = np.split(kernel, [COUNT * WIDTH])
    order = [PAIRS.index(pair) for pair in signal_pairs(COUNTS)]
    found = mlp(golden, "deep") | head(golden, "dense/kernel")
    return found | {"deep/split/kernel": np.concatenate([fields, signals[order]])}


def pnn_kernel(golden, model):
    """phi_ij is [:, p, :] transposed, p the number of the pair."""
    matrices = np.moveaxis(golden["outter_product_layer/kernel"], 1, 0).swapaxes(1, 2)
    strips = [
        np.concatenate([matrices[PAIRS.index((i, j))] for j in range(i + 1, COUNT)], axis=1)
        for i in range(COUNT - 1)
    ]
    flat = np.concatenate([strip.reshape(-1) for strip in strips])
    return pnn(golden, model) | {"products/kernels/matrices": flat}


def dcn(golden, model):
    layers = range(2)
    cross = {
        "cross/split/kernel": np.concatenate(
            [golden[f"cross_net/kernel{layer}"] for layer in layers], axis=1
        ),
        "cross/bias": np.stack([golden[f"cross_net/bias{layer}"][:, 0] for layer in layers]),
    }
    return cross | mlp(golden, "deep") | head(golden, "dense/kernel")


def dcn_v2(golden, model):
    cross = {}
    for layer in range(2):
        cross[f"cross_{layer}/down/kernel"] = golden[f"cross_net/kernel{layer}"].T
        cross[f"cross_{layer}/down/bias"] = golden[f"cross_net/bias{layer}"][:, 0]
    return cross | mlp(golden, "deep") | head(golden, "dense/kernel")


def dcn_v2_experts(golden, model):
    gates = np.concatenate([golden[name] for name in golden.named("cross_net_mix/dense")], axis=1)
    cross = {}
    for layer in range(2):
        up, down, middle = (golden[f"cross_net_mix/{part}_list{layer}"] for part in "UVC")
        cross |= {
            f"cross_{layer}/gates/kernel": gates,
            f"cross_{layer}/down/kernel": np.concatenate(down, axis=1),
            f"cross_{layer}/middle/kernel": middle.swapaxes(1, 2),
            f"cross_{layer}/up_kernel": np.concatenate(up.swapaxes(1, 2)),
            f"cross_{layer}/bias": golden[f"cross_net_mix/bias{layer}"][:, 0],
        }
    return cross | mlp(golden, "deep") | head(golden, "dense_3/kernel")


def autoint(golden, model):
    found = head(golden, "dense/kernel")
    for layer, name in enumerate(["interacting_layer", "interacting_layer_1"]):
        found[f"interacting_{layer}/kernel"] = np.concatenate(
            [golden[f"{name}/{part}"] for part in ("query", "key", "value", "res")], axis=1
        )
    return found | (mlp(golden, "deep") if model.config.units else {})


def fibinet(golden, model):
    """The peer has each pair weighted, then plain; ours are by sides, plain ones first."""
    found = mlp(golden, "deep") | head(golden, "dense/kernel")
    found["senet/reduce/kernel"] = golden["senet_layer/W_1"]
    found["senet/expand/kernel"] = golden["senet_layer/W_2"]
    kernel = golden["dnn/kernel0"].reshape(len(PAIRS), 2, WIDTH, -1)
    halves = [half.reshape(len(PAIRS) * WIDTH, -1) for half in np.moveaxis(kernel, 1, 0)]
    body, rows = model.body, {}
    for layer, peer, half in (
        (body.weighted, "bilinear_interaction/", halves[0]),
        (body.plain, "bilinear_interaction_1/", halves[1]),
    ):
        kernels = stacked(golden, *golden.named(peer))
        if layer.kind == "interaction":
            kernels = kernels[np.argsort(places(layer))]
        found[f"{layer.name}/kernel"] = kernels
        rows[layer.name] = np.empty_like(half)
        rows[layer.name][rows_of_pairs(layer, WIDTH)] = half
    return found | {"deep/split/kernel": np.concatenate([rows["plain"], rows["weighted"]])}


# File: our architecture, its settings, its weights, and what the peer trains beyond it.
EQUAL = {
    "autoint": ("autoint", {"interacting_layers": 2, "attention_width": 3}, autoint, 0),
    "autoint_plus": (
        "autoint",
        {"interacting_layers": 2, "attention_width": 3, **UNITS},
        autoint,
        0,
    ),
    "dcn": ("dcn", {"cross_layers": 2, "numeric": True, **UNITS}, dcn, 0),
    "dcn_v2": ("dcn_v2", {"cross_layers": 2, "numeric": True, **UNITS}, dcn_v2, 0),
    # Its cross layers share one gate; ours have one each, which equation 3 leaves open.
    "dcn_v2_experts": (
        "dcn_v2",
        {"cross_layers": 2, "rank": 2, "experts": 3, "numeric": True, **UNITS},
        dcn_v2_experts,
        -3 * 25,
    ),
    "deepfm": ("deepfm", UNITS, deepfm, 0),
    "fibinet_all": ("fibinet", {"bilinear": "all", **UNITS}, fibinet, 0),
    "fibinet_each": ("fibinet", {"bilinear": "each", **UNITS}, fibinet, 0),
    "fibinet_interaction": ("fibinet", {"bilinear": "interaction", **UNITS}, fibinet, 0),
    "flat_dnn": ("flat_dnn", {"numeric": True, **UNITS}, deepfm, 0),
    # Its strengths are a matrix, of which it reads what is above the diagonal.
    "fwfm": ("fwfm", {}, fwfm, 6 * 6 - 15),
    "pnn_inner": ("pnn", UNITS, pnn, 0),
    "pnn_outer": ("pnn", {"product": "kernel", **UNITS}, pnn_kernel, 0),
    "wide_deep": ("wide_deep", {"numeric": True, **UNITS}, wide_deep, 0),
    # Its rows have a bias, zero here: see the test of it.
    "xdeepfm": ("xdeepfm", {"cin_units": [4, 3], **UNITS}, xdeepfm, 4 + 3),
    "xdeepfm_split": (
        "xdeepfm",
        {"cin_units": [4, 6, 3], "cin_split_half": True, "cin_activation": "relu", **UNITS},
        xdeepfm,
        4 + 6 + 3,
    ),
}


@pytest.mark.parametrize("title", EQUAL)
def test_outputs_and_parameters_are_the_peers(title):
    name, given, weights, more = EQUAL[title]
    golden, model = Golden(f"deepctr/{title}"), build(name, **given)
    assign(model, tables(golden) | weights(golden, model))
    assert not any(golden[name].any() for name in list(golden.unread))
    assert_outputs(golden, model)
    assert trained(model) + more == golden.parameters


def test_normalisation_of_the_peer_adds_keras_epsilon_to_the_variance():
    """Ioffe & Szegedy 2015, algorithm 1, adds a constant for stability: 1e-5 in ours, as in PyTorch
    and FuxiCTR (`dcn_v2_stacked`), Keras's 1e-3 in the peer's. All else is equal."""
    golden = Golden("deepctr/deepfm_batch_norm")
    model, values = build("deepfm", batch_norm=True, **UNITS), {}
    norms = model.body.deep.rest.norms
    for number, name in enumerate(["batch_normalization", "batch_normalization_1"]):
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            values[f"deep/rest/norm_{number}/{part}"] = golden[f"dnn/{name}/{part}"]
    assign(model, tables(golden) | deepfm(golden, model) | values)
    assert not golden.unread
    assert trained(model) == golden.parameters
    wanted = golden.outputs["logit/click"]
    apart = np.abs(model(golden.features(model))["click"] - wanted).max()
    assert 1e-4 < apart < 1e-2
    for norm in norms:
        assert norm.epsilon == 1e-5
        norm.epsilon = 1e-3
    assert_outputs(golden, model)


def test_rows_of_the_peers_compressed_interaction_network_have_a_bias():
    """Lian et al. 2018, equation 6: x^k_h = sum_ij W^{k,h}_ij (x^{k-1}_i * x^0_j), ours by default.

    The peer adds a bias to each row, as the authors' code does, and ours by `cin_bias`. It is no
    constant of the logit: a row of the first layer meets x^0 again in the second.
    """
    golden = Golden("deepctr/xdeepfm_biases")
    model = build("xdeepfm", cin_units=[4, 3], cin_bias=True, **UNITS)
    biases = {f"cin/{layer}_bias": golden[f"cin/bias{layer}"] for layer in (0, 1)}
    weights = tables(golden) | xdeepfm(golden, model)
    assign(model, weights | biases)
    assert not any(golden[name].any() for name in list(golden.unread))
    assert_outputs(golden, model)
    assert trained(model) == golden.parameters

    assign(model, weights | {name: np.zeros_like(bias) for name, bias in biases.items()})
    apart = model(golden.features(model))["click"] - golden.outputs["logit/click"]
    assert np.std(apart) > 0.1
