"""FinalMLP against the classical, un-split forward."""

import numpy as np
import pytest

from ctr_tf import registry
from ctr_tf.types import Widths
from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.blocks import mlp
from tests.oracles.finalmlp import bilinear_fusion, feature_gate, finalmlp_parameters
from tests.weights import activations_of, array, layer_pair, split_mlp_layers


def oracle(model, features):
    """expected(b, n, task): gated streams over all fields and their fusion."""
    numpy = Embedded(model, features)
    body = model.body

    def stream(number, b, n):
        e = np.concatenate(numpy.every_field(b, n))[None]
        gate, source = body.gates[number], body.sources[number]
        if source != "none":
            sides = {
                "user": lambda: [*numpy.user(b), *numpy.pooled_history(b)],
                "context": lambda: numpy.context(b),
                "candidate": lambda: numpy.candidate(b, n),
                "learned": lambda: [array(gate.vector)[0]],
            }
            layers = [*map(layer_pair, gate.hidden.dense), layer_pair(gate.factors)]
            e = feature_gate(e, np.concatenate(sides[source]())[None], layers)
        own = body.streams[number]
        return mlp(e, split_mlp_layers(own), activations_of(own), final_linear=False)

    def expected(b, n, task):
        outputs = stream(0, b, n), stream(1, b, n)
        kernel, bias = layer_pair(model.heads.dense[task])
        first = outputs[0].shape[1]
        weights = kernel[:first, 0], kernel[first:, 0]
        return bilinear_fusion(*outputs, bias.item(), *weights, array(body.fusion.kernel)).item()

    return expected


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"first_gate": "context", "second_gate": "user", "fusion_heads": 1},
        {"first_gate": "learned", "second_gate": "none"},
        {"first_gate": "none", "second_gate": "none", "activation": "dice", "batch_norm": False},
        {"gate_units": []},
    ],
    ids=["both", "context", "learned", "none", "linear_gates"],
)
def test_logits_are_those_of_the_un_split_form(rng, case, given):
    model, features = build("finalmlp", case, rng, **given), batch(case, rng)
    assert_logits(model, features, oracle(model, features))


def test_context_in_the_user_tower(rng):
    model = build("finalmlp", "full", rng, user_context=["hour", "page"], first_gate="context")
    assert model.body.sources == ("learned", "candidate")
    features = batch("full", rng)
    assert_logits(model, features, oracle(model, features))


def test_what_the_state_holds(rng):
    def state(**given):
        return {name: shape[1:] for name, (shape, _) in build(
            "finalmlp", "full", rng, **given).state_spec().items()}  # fmt: skip

    assert state() == {"first_product": (6,), "first_gate": (25,), "user": (21,)}
    both = {"first_gate": "user", "second_gate": "learned"}
    assert state(**both) == {"first_product": (6,), "first_gate": (25,), "second_product": (5,)}


@pytest.mark.parametrize("heads", [1, 2])
def test_parameter_count(rng, heads):
    model = build("finalmlp", "criteo", rng, fusion_heads=heads, batch_norm=False)
    width = 3 + 4 * 4
    # No user side: the first gate reads a learned vector.
    gates = ([4, 4], [width, 4])
    expected = finalmlp_parameters(width, ([6, 4], [5, 6]), heads, gates, learned=4)
    assert model.count_params() == 4 * 6 * 4 + expected


def test_gates_of_zeros_are_no_gates(rng):
    gated = build("finalmlp", "full", rng)
    plain = build("finalmlp", "full", rng, first_gate="none", second_gate="none")
    for gate in gated.body.gates:
        for variable in gate.weights:
            variable.assign(np.zeros(variable.shape))
    of_gates = {id(v) for gate in gated.body.gates for v in gate.weights}
    kept = [v for v in gated.weights if id(v) not in of_gates]
    for own, other in zip(plain.weights, kept, strict=True):
        own.assign(other)
    features = batch("full", rng)
    for task, logits in gated(features).items():
        np.testing.assert_allclose(plain(features)[task], logits, atol=1e-5)


def test_errors():
    entry = registry.get("finalmlp")
    config = entry.config(first_units=[4], second_units=[6], fusion_heads=4)
    with pytest.raises(ValueError, match="fusion_heads: must divide .* 4 and 6; got 4"):
        entry.body(config, Widths(candidate={"item_id": 4}))
