"""Our architectures against FuxiCTR's, with its weights copied in."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest

from tests.layers.sides import signal_pairs
from tests.models.behaviour import gru_weights, mlp_logit
from tests.models.embedded import Embedded
from tests.models.pairs import places, rows_of_pairs
from tests.oracles.dien import dien_interest
from tests.parity.fuxictr import ORDER, head, linear, mlp, tables
from tests.parity.peers import (
    WIDTH,
    Golden,
    assert_close,
    assert_outputs,
    assign,
    build,
    trained,
)
from tests.weights import array

COUNTS = {"user": 2, "context": 1, "candidate": 4}
PAIRS = list(combinations(range(7), 2))
UNITS = {"units": [6, 5]}
TANH = {"activation": "tanh", "numeric": True, **UNITS}
DICE = {"history": True, "attention_units": [5, 3], **UNITS}


def fm(golden, model):
    return tables(golden, "fm.lr_layer.", number=True) | {
        "heads/click/bias": golden["fm.lr_layer.bias"]
    }


def deepfm(golden, model):
    own = mlp(golden, "deep") | head(golden, further=["fm.lr_layer.bias"])
    return tables(golden, "fm.lr_layer.", number=True) | own


def xdeepfm(golden, model):
    """Its pairs run over x^0 first; the biases of its rows are zero."""
    found = mlp(golden, "deep") | head(golden, further=["cin.fc.bias"])
    for layer, kernel in enumerate(model.body.cin.kernels):
        rows, fields, width = kernel.shape
        of_pairs = golden[f"cin.cin_layer.layer_{layer + 1}.weight"].T
        of_pairs = of_pairs.reshape(fields, rows, width)
        found[f"cin/{layer}_kernel"] = np.swapaxes(of_pairs, 0, 1)
        assert not golden[f"cin.cin_layer.layer_{layer + 1}.bias"].any()
    deep = found["heads/click/kernel"]
    found["heads/click/kernel"] = np.concatenate([golden["cin.fc.weight"].T, deep])
    return tables(golden, "lr.", number=True) | found


def pnn(golden, model):
    """Products of pairs follow all fields; ours stand by the sides of their fields."""
    signals = [PAIRS.index(pair) for pair in signal_pairs(COUNTS)]
    order = np.concatenate([np.arange(7 * WIDTH), 7 * WIDTH + np.array(signals)])
    return tables(golden, number=True) | mlp(golden, "deep", order=order) | head(golden)


def dcn(golden, model):
    cross = [f"cross.cross_net.{layer}" for layer in (0, 1)]
    return {
        **tables(golden),
        **mlp(golden, "deep"),
        **head(golden, "fc"),
        "cross/split/kernel": np.concatenate([golden[f"{at}.weight.weight"] for at in cross]).T,
        "cross/bias": np.stack([golden[f"{at}.bias"] for at in cross]),
    }


def fibinet(golden, model):
    """Plain pairs come first in either; ours are by the sides of their fields."""
    found = tables(golden, "lr.", number=True) | mlp(golden, "deep") | head(golden)
    found["senet/reduce/kernel"] = golden["senet.excitation.0.weight"].T
    found["senet/expand/kernel"] = golden["senet.excitation.2.weight"].T
    rows = []
    for layer, half in zip(
        (model.body.plain, model.body.weighted), np.split(found["deep/split/kernel"], 2)
    ):
        kernels = golden[f"{layer.name}.bilinear_W"].reshape(-1, WIDTH, WIDTH)
        if layer.kind == "interaction":
            kernels = kernels[np.argsort(places(layer))]
        # Its last field has a matrix that it does not read.
        found[f"{layer.name}/kernel"] = kernels[: layer.kernel.shape[0]]
        rows.append(np.empty_like(half))
        rows[-1][rows_of_pairs(layer, WIDTH)] = half
    return found | {"deep/split/kernel": np.concatenate(rows)}


def crossed(golden, network):
    """Tables, MLP and head of DCN-v2, whose x_0 is in another order.

    Args:
        network: the MLP, over x_0 beside the cross network or over its output; both are in that
            order, and in the first case the head reads the cross network's output as well.
    """
    found = head(golden, "fc")
    if network == "parallel_dnn":
        of_cross, of_deep = np.split(found["heads/click/kernel"], [len(ORDER)])
        found["heads/click/kernel"] = np.concatenate([of_cross[ORDER], of_deep])
    return tables(golden) | mlp(golden, "deep", f"{network}.mlp", ORDER) | found


def dcn_v2(golden, model, network="parallel_dnn"):
    found = crossed(golden, network)
    for layer in (0, 1):
        at = f"crossnet.cross_layers.{layer}"
        found[f"cross_{layer}/down/kernel"] = golden[f"{at}.weight"].T[ORDER][:, ORDER]
        found[f"cross_{layer}/down/bias"] = golden[f"{at}.bias"][ORDER]
    return found


def dcn_v2_experts(golden, model):
    found = crossed(golden, "parallel_dnn")
    gates = np.concatenate([golden[name] for name in golden.named("crossnet.gating")]).T[ORDER]
    for layer in (0, 1):
        up, down, middle = (golden[f"crossnet.{part}_list.{layer}"] for part in "UVC")
        found |= {
            f"cross_{layer}/gates/kernel": gates,
            f"cross_{layer}/down/kernel": np.concatenate(down, axis=1)[ORDER],
            f"cross_{layer}/middle/kernel": middle.swapaxes(1, 2),
            f"cross_{layer}/up_kernel": np.concatenate(up.swapaxes(1, 2))[:, ORDER],
            f"cross_{layer}/bias": golden[f"crossnet.bias.{layer}"][ORDER, 0],
        }
    return found


def finalmlp(golden, model, order=ORDER):
    found = tables(golden)
    for path, peer in (("first", "mlp1.mlp"), ("second", "mlp2.mlp")):
        found |= mlp(golden, path, peer, order)
    weights = [golden[f"fusion_module.{name}.weight"].T for name in ("w_x", "w_y")]
    biases = [golden[f"fusion_module.{name}.bias"] for name in ("w_x", "w_y")]
    return found | {
        "fusion/kernel": golden["fusion_module.w_xy"].reshape(2, 2, 3),
        "heads/click/kernel": np.concatenate(weights),
        "heads/click/bias": sum(biases),
    }


def finalmlp_gates(golden, model):
    found = finalmlp(golden, model, slice(None))
    for path, peer in (("first_gate", "gates.fs1_gate"), ("second_gate", "gates.fs2_gate")):
        found |= linear(golden, f"{path}/hidden/dense_0", f"{peer}.mlp.0")
        found |= linear(golden, f"{path}/factors", f"{peer}.mlp.2")
    found["second_gate/vector"] = golden["gates.fs2_ctx_bias"]
    for field in ("gender", "city"):
        # The gate's own tables have the values of the others here.
        own = golden[f"gates.fs1_ctx_emb.embedding_layer.embedding_layers.{field}.weight"]
        np.testing.assert_array_equal(own, found[f"embedder/tables/{field}"])
    return found


def din(golden, model):
    unit = "attention_layers.attention_layer.mlp"
    return {
        **tables(golden),
        **mlp(golden, "mlp", "dnn.mlp", ORDER),
        **head(golden, "dnn.mlp.4"),
        **mlp(golden, "history_attention/mlp", unit),
        **linear(golden, "history_attention/score", f"{unit}.4"),
    }


def first_gru(golden, path, peer):
    """A PyTorch GRU: gates reset, keep, candidate, and a second bias within the reset product.

    Its z weighs the old state, ours the new one: the same function of negated weights.
    """
    weights = golden[f"{peer}.weight_ih_l0"].T, golden[f"{peer}.weight_hh_l0"].T
    biases = golden[f"{peer}.bias_ih_l0"], golden[f"{peer}.bias_hh_l0"]
    parts = [np.split(x, 3, axis=-1) for x in (*weights, sum(biases))]
    kernel, recurrent, bias = (np.concatenate([-z, r, n], axis=-1) for r, z, n in parts)
    return {f"{path}/kernel": kernel, f"{path}/recurrent": recurrent, f"{path}/bias": bias}


def second_gru(golden, path, peer, gates=3):
    """Its cell with attention: gates update, reset, candidate, as ours."""
    weights = golden[f"{peer}.x2h.weight"].T, golden[f"{peer}.h2h.weight"].T
    bias = golden[f"{peer}.x2h.bias"] + golden[f"{peer}.h2h.bias"]
    kept = slice(bias.size // 3 * (3 - gates), None)
    names = ("kernel", "recurrent", "bias")
    return {f"{path}/{name}": x[..., kept] for name, x in zip(names, (*weights, bias))}


def dien(golden, model):
    """Its attention reads the item and its category, ours all of the candidate's fields."""
    kind = model.config.recurrence
    found = {
        **tables(golden),
        **mlp(golden, "mlp", "dnn.mlp", ORDER),
        **head(golden, "dnn.mlp.4"),
        **first_gru(golden, "history_extractor", "extraction_modules.0"),
    }
    if kind == "gru":
        return found | first_gru(golden, "history_evolving", "evolving_modules.0")
    kernel = golden["attention_modules.0.W_kernel"]
    found["history_attention/kernel"] = np.pad(kernel, [[0, 0], [0, WIDTH]])
    gates = 2 if kind == "agru" else 3
    return found | second_gru(golden, "history_evolving", "evolving_modules.0.gru_cell", gates)


def dien_config(kind):
    return {
        "recurrence": kind,
        "auxiliary": 0.0,
        "activation": "relu",
        "history": True,
        **UNITS,
    }


CROSS = {"cross_layers": 2, "history": True, **UNITS}
EXPERTS = {"rank": 2, "experts": 3, **CROSS}
STREAMS = {"first_units": [6, 4], "second_units": [5, 6], "fusion_heads": 2, "gate_units": [4]}
NO_GATES = {"first_gate": "none", "second_gate": "none"}
# Two GRUs of width 8 have a second bias for each of three gates.
GRUS = 2 * 3 * 8
# File: our architecture, its settings, its weights, and what the peer trains beyond it.
EQUAL = {
    "dcn": ("dcn", {"cross_layers": 2, "activation": "tanh", **UNITS}, dcn, 0),
    "dcn_v2": ("dcn_v2", CROSS, dcn_v2, 0),
    "dcn_v2_stacked": (
        "dcn_v2",
        {"structure": "stacked", "batch_norm": True, **CROSS},
        partial(dcn_v2, network="stacked_dnn"),
        0,
    ),
    # Its cross layers share one gate; ours have one each, which equation 3 leaves open.
    "dcn_v2_experts": ("dcn_v2", EXPERTS, dcn_v2_experts, -3 * 32),
    "deepfm": ("deepfm", TANH, deepfm, 1),
    # Its attention has no columns for the brand; its AGRU has the weights of an unread update gate.
    "dien_gru": ("dien", dien_config("gru"), dien, GRUS),
    "dien_agru": ("dien", dien_config("agru"), dien, GRUS - 8 * 4 + 8 * (8 + 8 + 1)),
    "dien_augru": ("dien", dien_config("augru"), dien, GRUS - 8 * 4),
    "din": ("din", DICE, din, 0),
    # Padding is a row of zeros here, whose mean it is where nothing else is left.
    "din_softmax": ("din", {"softmax": True, **DICE}, din, 0),
    "fibinet_all": ("fibinet", {"bilinear": "all", **TANH}, fibinet, 0),
    "fibinet_each": ("fibinet", {"bilinear": "each", **TANH}, fibinet, 2 * WIDTH * WIDTH),
    "fibinet_interaction": (
        "fibinet",
        {"bilinear": "interaction", "importance": "sigmoid", **TANH},
        fibinet,
        0,
    ),
    # Two biases of the logit, and tables of its own for the user's fields of the gate.
    "finalmlp_gates": (
        "finalmlp",
        {"first_gate": "user", "second_gate": "learned", **STREAMS},
        finalmlp_gates,
        1 + (3 + 5) * WIDTH,
    ),
    "fm": ("fm", {"numeric": True}, fm, 0),
    "pnn_inner": ("pnn", TANH, pnn, 0),
    "xdeepfm": ("xdeepfm", {"cin_units": [4, 3], **TANH}, xdeepfm, 4 + 3 + 1),
}


@pytest.mark.parametrize("title", EQUAL)
def test_logits_and_parameters_are_the_peers(title):
    name, given, weights, more = EQUAL[title]
    golden, model = Golden(f"fuxictr/{title}"), build(name, **given)
    assign(model, weights(golden, model))
    assert not golden.unread
    assert_outputs(golden, model)
    assert trained(model) + more == golden.parameters


def test_the_peers_finalmlp_makes_gates_that_it_does_not_apply():
    """Mao et al. 2023, section 3: streams read gated features, 2 sigmoid(MLP(c)) * e; ours.

    The model in the peer's package hands the same features to both, whatever its `use_fs`: it is
    ours without gates. Gates applied, by the same package's module, are ours: `finalmlp_gates`.
    """
    golden = Golden("fuxictr/finalmlp")
    model = build("finalmlp", history=True, **STREAMS, **NO_GATES)
    assign(model, finalmlp(golden, model))
    unread = golden.unread
    assert unread and all(name.startswith("fs_module") for name in unread)
    assert_outputs(golden, model)
    gates = sum(golden[name].size for name in list(unread))
    assert trained(model) + 1 + gates == golden.parameters


def test_grus_of_the_peer_have_a_second_bias_within_the_reset_product():
    """Zhou et al. 2019, equation 4: tanh(W i_t + r_t * (U h_{t-1}) + b), ours.

    PyTorch's and the peer's cells add a bias to U h_{t-1}, r_t * (U h_{t-1} + b'). All else is
    equal where b' is zero, as in the files of the other tests; here it is not.
    """
    golden = Golden("fuxictr/dien_augru_biases")
    model = build("dien", **dien_config("augru"))
    assign(model, dien(golden, model))
    features, body = golden.features(model), model.body
    numpy, weight = Embedded(model, features), array(model.body.attention[0].kernel)
    inner = [golden["extraction_modules.0.bias_hh_l0"]]
    inner.append(golden["evolving_modules.0.gru_cell.h2h.bias"])
    inner = [np.split(bias, 3)[2] for bias in inner]

    def logits(biases):
        cells = []
        for layer, bias, own in zip((body.extractors[0], body.evolving[0]), inner, biases):
            cell = gru_weights(layer)
            # Ours has both biases outside.
            outside = cell.bias_candidate - bias if own is not None else cell.bias_candidate
            cells.append(cell._replace(bias_candidate=outside, bias_state=own))
        found = np.zeros(features["item"].shape)
        for b, n in np.ndindex(found.shape):
            values, mask = numpy.behaviours("history", b)
            candidate = numpy.candidate(b, n)
            rows = np.concatenate(list(values.values()), axis=-1)
            target = np.concatenate(candidate)
            interest = dien_interest(rows, mask, target, cells[0], weight, cells[1], "augru")
            fields = [*numpy.user(b), interest, *numpy.context(b), *candidate]
            found[b, n] = mlp_logit(model, fields, "click")
        return found

    assert_close(logits(inner), golden.outputs["logit/click"])
    assert_close(model(features)["click"], logits([None, None]))
    assert np.abs(logits(inner) - logits([None, None])).max() > 0.01
