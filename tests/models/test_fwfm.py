"""FwFM against the classical, un-split forward."""

import numpy as np
import pytest

from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.interaction import fwfm_forward, fwfm_parameters, linear_vectors
from tests.weights import array, field_strengths


def oracle(model, features):
    """expected(b, n, task): every pair of fields, times its strength."""
    numpy = Embedded(model, features)
    strengths = field_strengths(model.body.pairs)

    def expected(b, n, task):
        x = np.array(numpy.every_field(b, n))[None]
        if model.config.linear == "field_vectors":
            first_order = linear_vectors(x, array(model.body.vectors.kernel).reshape(x[0].shape))
        else:
            first_order = numpy.first_order(b, n)[None]
        return fwfm_forward(
            x, strengths, first_order, array(model.heads.dense[task].bias)[0]
        ).item()

    return expected


@pytest.mark.parametrize("linear", ["feature_weights", "field_vectors"])
@pytest.mark.parametrize("case", list(CASES))
def test_logits_are_those_of_the_un_split_form(rng, case, linear):
    model, features = build("fwfm", case, rng, linear=linear), batch(case, rng)
    assert_logits(model, features, oracle(model, features))


def test_context_in_the_user_tower(rng):
    model, features = build("fwfm", "full", rng, user_context=["page"]), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize(
    ("linear", "paper"), [("feature_weights", "LW"), ("field_vectors", "FiLV")]
)
def test_parameter_count(rng, linear, paper):
    model = build("fwfm", "criteo", rng, linear=linear)
    assert model.count_params() == fwfm_parameters(4 * 6 + 3, 7, 4, paper)


def test_unit_strengths_make_a_factorisation_machine(rng):
    model, other = build("fwfm", "full", rng), build("fm", "full", rng)
    features = batch("full", rng)
    model.body.pairs.strengths.assign(np.ones(model.body.pairs.strengths.shape))
    other.embedder.set_weights(model.embedder.get_weights())
    other.heads.set_weights(model.heads.get_weights())
    for task, logits in model(features).items():
        np.testing.assert_allclose(logits, other(features)[task], atol=1e-4)
