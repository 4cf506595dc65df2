"""DCN-v2 against the classical, un-split forward."""

import numpy as np
import pytest

from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.dcn_v2 import cross_full, cross_low_rank, cross_mixture, dcn_v2_forward
from tests.weights import (
    activations_of,
    array,
    layer_pair,
    oracle_activation,
    split_mlp_layers,
)


def mixture_of(layer):
    """What the oracle of a mixture takes after (x0, x)."""
    columns = [slice(i * layer.rank, (i + 1) * layer.rank) for i in range(layer.experts)]
    down, middle, up = array(layer.down.kernel), array(layer.middle.kernel), array(layer.up)
    experts = [(down[:, own], middle[i], up[own]) for i, own in enumerate(columns)]
    activation = oracle_activation(layer.activation)
    gates, bias = array(layer.gates.kernel), array(layer.bias)
    return experts, gates, bias, activation, layer.gate.__name__


def oracle(model, features):
    """expected(b, n, task): cross and deep network over one concatenation."""
    numpy = Embedded(model, features)
    if model.config.experts is not None:
        cross, layers = cross_mixture, [mixture_of(layer) for layer in model.body.cross]
    elif model.config.rank is None:
        cross, layers = cross_full, [layer_pair(layer.down) for layer in model.body.cross]
    else:
        cross = cross_low_rank
        layers = [(array(x.down.kernel), *layer_pair(x.up)) for x in model.body.cross]

    def expected(b, n, task):
        return dcn_v2_forward(
            np.concatenate(numpy.every_field(b, n)),
            layers,
            split_mlp_layers(model.body.deep),
            layer_pair(model.heads.dense[task]),
            model.config.structure,
            cross,
            activations_of(model.body.deep),
        )

    return expected


@pytest.mark.parametrize("structure", ["stacked", "parallel"])
@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("case", list(CASES))
def test_logits_are_those_of_the_un_split_form(rng, structure, rank, case):
    model = build("dcn_v2", case, rng, structure=structure, rank=rank, cross_layers=2)
    features = batch(case, rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("structure", ["stacked", "parallel"])
@pytest.mark.parametrize(
    "given", [{}, {"gate": "sigmoid", "expert_activation": "linear"}], ids=["softmax", "sigmoid"]
)
@pytest.mark.parametrize("case", list(CASES))
def test_a_mixture_of_low_rank_experts(rng, structure, given, case):
    model = build("dcn_v2", case, rng, structure=structure, rank=2, experts=3, **given)
    features = batch(case, rng)
    assert_logits(model, features, oracle(model, features))


def test_experts_need_a_rank(rng):
    with pytest.raises(ValueError, match="model.rank: experts need a rank; there is none"):
        build("dcn_v2", "criteo", rng, experts=3)


def test_context_in_the_user_tower(rng):
    model = build("dcn_v2", "full", rng, user_context=["page"], activation="dice")
    features = batch("full", rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("rank", [None, 2])
def test_zero_cross_weights_leave_the_embeddings(rng, rank):
    model = build("dcn_v2", "full", rng, rank=rank)
    for layer in model.body.cross:
        for variable in layer.weights:
            variable.assign(np.zeros(variable.shape))
    features = batch("full", rng)
    numpy = Embedded(model, features)
    for dense in model.heads.dense.values():
        kernel = array(dense.kernel)
        kernel[-model.config.units[-1] :] = 0  # of the deep network
        dense.kernel.assign(kernel)

    def expected(b, n, task):
        fields = [numpy.user(b), numpy.pooled_history(b), numpy.context(b), numpy.candidate(b, n)]
        x0 = np.concatenate([vector for side in fields for vector in side])
        kernel, bias = layer_pair(model.heads.dense[task])
        return (x0 @ kernel[: len(x0)] + bias).item()

    assert_logits(model, features, expected)


@pytest.mark.parametrize("structure", ["stacked", "parallel"])
@pytest.mark.parametrize(("rank", "experts"), [(None, None), (2, None), (2, 3)])
def test_parameter_count(rng, structure, rank, experts):
    given = {"structure": structure, "rank": rank, "experts": experts}
    model = build("dcn_v2", "criteo", rng, batch_norm=False, **given)
    width = 3 + 4 * 4
    cross = width * width + width if rank is None else 2 * width * rank + width
    if experts is not None:
        cross = experts * (width + 2 * width * rank + rank * rank) + width
    deep = width * 6 + 6 + 6 * 5 + 5
    head = (5 if structure == "stacked" else width + 5) + 1
    assert model.count_params() == 4 * 6 * 4 + 3 * cross + deep + head
