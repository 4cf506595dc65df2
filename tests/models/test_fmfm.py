"""FmFM against the classical, un-split forward."""

import numpy as np
import pytest

from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.interaction import fmfm_forward, fmfm_parameters
from tests.weights import array, field_matrices

OWN_WIDTHS = {"width": 4, "tables": {"item_id": {"width": 3}, "city": {"width": 2}}}


def oracle(model, features):
    """expected(b, n, task): every pair of fields through its matrix."""
    numpy = Embedded(model, features)
    matrices = field_matrices(model.body.pairs)

    def expected(b, n, task):
        fields = [vector[None] for vector in numpy.every_field(b, n)]
        weights, bias = numpy.first_order(b, n)[None], array(model.heads.dense[task].bias)[0]
        return fmfm_forward(fields, matrices, weights, bias).item()

    return expected


@pytest.mark.parametrize("case", list(CASES))
def test_logits_are_those_of_the_un_split_form(rng, case):
    model, features = build("fmfm", case, rng), batch(case, rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("context", [[], ["page", "hour"]])
def test_field_specific_widths(rng, context):
    model = build("fmfm", "full", rng, embedding=OWN_WIDTHS, user_context=context)
    features = batch("full", rng)
    assert_logits(model, features, oracle(model, features))


def test_parameter_count(rng):
    model = build("fmfm", "criteo", rng, embedding={"width": 4, "tables": {"c1": {"width": 2}}})
    # A number is a field of width 1 without a table: it has a first-order weight alone.
    count = fmfm_parameters([1, 1, 1, 6, 6, 6, 6], [1, 1, 1, 4, 2, 4, 4])
    assert model.count_params() == count - 3


def test_identity_matrices_make_a_factorisation_machine(rng):
    model, other = build("fmfm", "census", rng), build("fm", "census", rng)
    features = batch("census", rng)
    # Age, of width 1, is left out of the pairs on both sides.
    kernel = other.embedder.projections["age"].kernel
    kernel.assign(np.zeros(kernel.shape))
    model.body.pairs.matrices.assign([0.0] * 8 + list(np.eye(4).ravel()))
    for table in ("education", "industry", "education/linear", "industry/linear"):
        other.embedder.tables.write(table, 0, model.embedder.tables.table(table))
    other.embedder.projections["age/linear"].kernel.assign(
        model.embedder.projections["age/linear"].kernel
    )
    other.heads.set_weights(model.heads.get_weights())
    for task, logits in model(features).items():
        np.testing.assert_allclose(logits, other(features)[task], atol=1e-5)
