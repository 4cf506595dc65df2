"""FlatDNN against the classical, un-split forward."""

import numpy as np
import pytest

from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.blocks import mlp
from tests.oracles.interaction_deep import flat_dnn_parameters
from tests.weights import activations_of, layer_pair, split_mlp_layers


def oracle(model, features):
    """expected(b, n, task): an MLP over one concatenation."""
    numpy, deep = Embedded(model, features), model.body.deep

    def expected(b, n, task):
        layers = [*split_mlp_layers(deep), layer_pair(model.heads.dense[task])]
        x = np.concatenate(numpy.every_field(b, n))
        return mlp(x, layers, activations_of(deep), final_linear=True).item()

    return expected


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("given", [{}, {"activation": "dice"}], ids=["relu", "dice"])
def test_logits_are_those_of_the_un_split_form(rng, case, given):
    model, features = build("flat_dnn", case, rng, **given), batch(case, rng)
    assert_logits(model, features, oracle(model, features))


def test_context_in_the_user_tower(rng):
    model, features = build("flat_dnn", "full", rng, user_context=["hour"]), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


def test_parameter_count(rng):
    model = build("flat_dnn", "criteo", rng, batch_norm=False)
    assert model.count_params() == 4 * 6 * 4 + flat_dnn_parameters(4, 4, [6, 5], values=3)
