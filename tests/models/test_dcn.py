"""DCN against the classical, un-split forward."""

import numpy as np
import pytest

from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.dcn_v2 import dcn_v2_forward
from tests.oracles.interaction_deep import cross_vector, dcn_parameters
from tests.weights import activations_of, array, layer_pair, split_mlp_layers


def oracle(model, features):
    """expected(b, n, task): cross and deep network over one concatenation."""
    numpy, body = Embedded(model, features), model.body
    cross = list(zip(array(body.cross.split.kernel).T, array(body.cross.bias)))

    def expected(b, n, task):
        return dcn_v2_forward(
            np.concatenate(numpy.every_field(b, n)),
            cross,
            split_mlp_layers(body.deep),
            layer_pair(model.heads.dense[task]),
            "parallel",
            cross_vector,
            activations_of(body.deep),
        )

    return expected


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("case", list(CASES))
def test_logits_are_those_of_the_un_split_form(rng, case, layers):
    model, features = build("dcn", case, rng, cross_layers=layers), batch(case, rng)
    assert_logits(model, features, oracle(model, features))


def test_context_in_the_user_tower(rng):
    model = build("dcn", "full", rng, user_context=["page"], activation="dice")
    features = batch("full", rng)
    assert_logits(model, features, oracle(model, features))


def test_parameter_count(rng):
    model = build("dcn", "criteo", rng, batch_norm=False)
    assert model.count_params() == 4 * 6 * 4 + dcn_parameters(3 + 4 * 4, 3, [6, 5])
