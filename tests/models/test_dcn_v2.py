"""DCN-v2 against the classical, un-split forward."""

import numpy as np
import pytest

from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.dcn_v2 import cross_full, cross_low_rank, dcn_v2_forward
from tests.weights import activations_of, array, layer_pair, split_mlp_layers


def oracle(model, features):
    """expected(b, n, task): cross and deep network over one concatenation."""
    numpy = Embedded(model, features)
    if model.config.rank is None:
        cross, layers = cross_full, [layer_pair(layer.down) for layer in model.body.cross]
    else:
        cross = cross_low_rank
        layers = [(array(x.down.kernel), *layer_pair(x.up)) for x in model.body.cross]

    def expected(b, n, task):
        return dcn_v2_forward(
            np.concatenate(
                [
                    *numpy.user(b),
                    *numpy.pooled_history(b),
                    *numpy.context(b),
                    *numpy.candidate(b, n),
                ]
            ),
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
@pytest.mark.parametrize("rank", [None, 2])
def test_parameter_count(rng, structure, rank):
    model = build("dcn_v2", "criteo", rng, structure=structure, rank=rank, batch_norm=False)
    width = 3 + 4 * 4
    cross = width * width + width if rank is None else 2 * width * rank + width
    deep = width * 6 + 6 + 6 * 5 + 5
    head = (5 if structure == "stacked" else width + 5) + 1
    assert model.count_params() == 4 * 6 * 4 + 3 * cross + deep + head
