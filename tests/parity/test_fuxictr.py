"""Our architectures against those of FuxiCTR's package, with its weights copied in."""

from functools import partial

import numpy as np
import pytest

from tests.models.behaviour import gru_weights, mlp_logit
from tests.models.embedded import Embedded
from tests.oracles.dien import dien_interest
from tests.parity.fuxictr import ORDER, fusion, head, linear, mlp, tables
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

UNITS = {"units": [6, 5]}
DICE = {"history": True, "attention_units": [5, 3], **UNITS}


def crossed(golden, model, network):
    """Tables, MLP and head of DCN-v2, whose x_0 is in another order.

    Args:
        network: the MLP, over x_0 beside the cross network or over its output; both are in that
            order, and in the first case the head reads the cross network's output as well.
    """
    found = head(golden, "fc")
    if network == "parallel_dnn":
        of_cross, of_deep = np.split(found["heads/click/kernel"], [len(ORDER)])
        found["heads/click/kernel"] = np.concatenate([of_cross[ORDER], of_deep])
    return tables(golden, model) | mlp(golden, "deep", f"{network}.mlp", ORDER) | found


def dcn_v2(golden, model, network="parallel_dnn"):
    found = crossed(golden, model, network)
    for layer in (0, 1):
        at = f"crossnet.cross_layers.{layer}"
        found[f"cross_{layer}/down/kernel"] = golden[f"{at}.weight"].T[ORDER][:, ORDER]
        found[f"cross_{layer}/down/bias"] = golden[f"{at}.bias"][ORDER]
    return found


def dcn_v2_experts(golden, model):
    found = crossed(golden, model, "parallel_dnn")
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


def finalmlp(golden, model):
    found = tables(golden, model)
    for path, peer in (("first", "mlp1.mlp"), ("second", "mlp2.mlp")):
        found |= mlp(golden, path, peer, ORDER)
    return found | fusion(golden, "fusion_module")


def din(golden, model):
    unit = "attention_layers.attention_layer.mlp"
    return {
        **tables(golden, model),
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
        **tables(golden, model),
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
    "dcn_v2": ("dcn_v2", CROSS, dcn_v2, 0),
    "dcn_v2_stacked": (
        "dcn_v2",
        {"structure": "stacked", "batch_norm": True, **CROSS},
        partial(dcn_v2, network="stacked_dnn"),
        0,
    ),
    # Its cross layers share one gate; ours have one each, which equation 3 leaves open.
    "dcn_v2_experts": ("dcn_v2", EXPERTS, dcn_v2_experts, -3 * 32),
    # Its attention has no columns for the brand; its AGRU has the weights of an unread update gate.
    "dien_gru": ("dien", dien_config("gru"), dien, GRUS),
    "dien_agru": ("dien", dien_config("agru"), dien, GRUS - 8 * 4 + 8 * (8 + 8 + 1)),
    "dien_augru": ("dien", dien_config("augru"), dien, GRUS - 8 * 4),
    "din": ("din", DICE, din, 0),
    # Padding is a row of zeros here, whose mean it is where nothing else is left.
    "din_softmax": ("din", {"softmax": True, **DICE}, din, 0),
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
