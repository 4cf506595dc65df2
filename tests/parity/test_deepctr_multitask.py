"""Our multi-task networks against DeepCTR's, with its weights copied in.

The peer's networks read the embeddings; ours stand behind a body, here one layer that passes them
on: an identity matrix, no bias and no activation.
"""

import numpy as np
import pytest

from tests.parity.deepctr import stacked, tables
from tests.parity.peers import FIELDS, WIDTH, Golden, assert_outputs, assign, build, trained

TASKS = ("click", "buy")
TOWERS = {"tower_units": [4], "activation": "tanh"}


def networks(golden, path, *peers, layers=1):
    """`DNN`s of one shape as one `ParallelMLP`."""
    found = {}
    for layer in range(layers):
        for ours, own in (("kernel", "kernel"), ("bias", "bias")):
            names = [f"{peer}/{own}{layer}" for peer in peers]
            found[f"heads/{path}/dense_{layer}/{ours}"] = stacked(golden, *names)
    return found


def towers(golden, *peers, last="prediction_layer"):
    """The tower of each task and its logit."""
    biases = stacked(golden, "click/global_bias", f"{last}/global_bias")
    return networks(golden, "towers", *peers) | {
        "heads/logits/kernel": stacked(golden, "dense/kernel", "dense_1/kernel"),
        "heads/logits/bias": biases,
    }


def shared_bottom(golden):
    return networks(golden, "bottom", "dnn", layers=2)


def mmoe(golden):
    gates = stacked(golden, "gate_softmax_click/kernel", "gate_softmax_buy/kernel")
    experts = networks(golden, "experts", *(f"expert_{i}" for i in range(3)), layers=2)
    return experts | {"heads/gates/gate/kernel": gates}


def ple(golden):
    found, levels = {}, 2 if golden.named("level_1_") else 1
    for level in range(levels):
        at = f"level_{level}_"
        # In order: the tasks', each task's experts together.
        own = [name.removesuffix("/kernel0") for name in golden.named(at, "specific", "kernel0")]
        shared = [name.removesuffix("/kernel0") for name in golden.named(at, "shared", "kernel0")]
        gates = [f"{at}gate_softmax_specific_{task}/kernel" for task in TASKS]
        found |= networks(golden, f"task_experts_{level}", *own)
        found |= networks(golden, f"shared_experts_{level}", *shared)
        found[f"heads/gates_{level}/gate/kernel"] = stacked(golden, *gates)
        if level < levels - 1:
            kernel = stacked(golden, f"{at}gate_softmax_shared/kernel")
            found[f"heads/shared_gate_{level}/gate/kernel"] = kernel
    return found


def built(golden, numeric, heads):
    """A model with such heads on the embeddings themselves."""
    width = WIDTH * len(FIELDS) + numeric
    given = {"units": [width], "activation": "linear", "heads": {**TOWERS, **heads}}
    model = build("flat_dnn", numeric=numeric, tasks=TASKS, **given)
    passed = {"deep/split/kernel": np.eye(width), "deep/split/bias": np.zeros(width)}
    return model, tables(golden) | passed, width * width + width


SHARED = {"kind": "shared_bottom", "units": [6, 5]}
MMOE = {"kind": "mmoe", "experts": 3, "expert_units": [6, 5]}
PLE = {"kind": "ple", "expert_units": [5], "levels": 2, "task_experts": 2, "shared_experts": 1}
CGC = {**PLE, "levels": 1, "task_experts": 1, "shared_experts": 2}
EQUAL = {
    "shared_bottom": (SHARED, True, shared_bottom),
    "mmoe": (MMOE, True, mmoe),
    "ple": (PLE, False, ple),
    "cgc": (CGC, False, ple),
}


@pytest.mark.parametrize("title", EQUAL)
def test_outputs_and_parameters_are_the_peers(title):
    heads, numeric, weights = EQUAL[title]
    golden = Golden(f"deepctr/{title}")
    model, before, passed = built(golden, numeric, heads)
    own = towers(golden, "tower_click", "tower_buy", last="buy")
    assign(model, before | own | weights(golden))
    assert not golden.unread
    assert_outputs(golden, model)
    assert trained(model) == golden.parameters + passed


def test_esmm_has_the_peers_probabilities():
    """Ma et al. 2018, equation 1: pCTCVR = pCTR pCVR, in the peer a product of probabilities, here
    a logit; its further output `buy_given_click` is the peer's second tower."""
    golden = Golden("deepctr/esmm")
    model, before, passed = built(golden, True, {"kind": "esmm"})
    assign(model, before | towers(golden, "dnn", "dnn_1"))
    assert not golden.unread
    assert sorted(golden.outputs) == [
        "logit/buy_given_click",
        "logit/click",
        "probability/buy",
        "probability/click",
    ]
    assert_outputs(golden, model)
    assert trained(model) == golden.parameters + passed
