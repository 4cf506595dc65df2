"""Wide & Deep against the classical, un-split forward."""

import numpy as np
import pytest

from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.blocks import mlp
from tests.oracles.interaction_deep import flat_dnn_parameters
from tests.weights import activations_of, layer_pair, split_mlp_layers


def oracle(model, features):
    """expected(b, n, task): a linear model and an MLP over one concatenation."""
    numpy, deep = Embedded(model, features), model.body.deep

    def expected(b, n, task):
        layers = [*split_mlp_layers(deep), layer_pair(model.heads.dense[task])]
        x = np.concatenate(numpy.every_field(b, n))
        own = mlp(x, layers, activations_of(deep), final_linear=True).item()
        return numpy.first_order(b, n).sum() + own

    return expected


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("given", [{}, {"activation": "prelu"}], ids=["relu", "prelu"])
def test_logits_are_those_of_the_un_split_form(rng, case, given):
    model, features = build("wide_deep", case, rng, **given), batch(case, rng)
    assert_logits(model, features, oracle(model, features))


def test_context_in_the_user_tower(rng):
    model, features = build("wide_deep", "full", rng, user_context=["hour"]), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


def test_a_silent_deep_part_leaves_the_linear_model(rng):
    model, features = build("wide_deep", "criteo", rng), batch("criteo", rng)
    dense = model.heads.dense["click"]
    dense.kernel.assign(np.zeros(dense.kernel.shape))
    numpy, bias = Embedded(model, features), layer_pair(dense)[1].item()
    assert_logits(model, features, lambda b, n, task: numpy.first_order(b, n).sum() + bias)


def test_parameter_count(rng):
    model = build("wide_deep", "criteo", rng, batch_norm=False)
    wide, embeddings = 4 * 6 + 3, 4 * 6 * 4
    deep = flat_dnn_parameters(4, 4, [6, 5], values=3)
    assert model.count_params() == wide + embeddings + deep
