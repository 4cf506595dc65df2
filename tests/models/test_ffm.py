"""FFM against the classical, un-split forward."""

import numpy as np
import pytest

from ctr_tf import registry
from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.interaction import ffm_forward, ffm_parameters
from tests.weights import array


def oracle(model, features):
    """expected(b, n, task): every pair of fields, by what each shows to the other."""
    numpy = Embedded(model, features)

    def expected(b, n, task):
        fields = np.array(numpy.every_field(b, n))
        x = fields.reshape(1, len(fields), len(fields), model.config.embedding.width)
        weights, bias = numpy.first_order(b, n), array(model.heads.dense[task].bias)[0]
        return ffm_forward(x, weights[None], bias).item()

    return expected


@pytest.mark.parametrize("case", list(CASES))
def test_logits_are_those_of_the_un_split_form(rng, case):
    model, features = build("ffm", case, rng), batch(case, rng)
    assert_logits(model, features, oracle(model, features))


def test_context_in_the_user_tower(rng):
    model, features = build("ffm", "full", rng, user_context=["hour"]), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


def test_parameter_count(rng):
    model = build("ffm", "criteo", rng, embedding={"width": 3})
    assert model.count_params() == ffm_parameters(4 * 6 + 3, 7, 3, first_order=True)


def test_a_row_holds_a_vector_towards_each_field(rng):
    entry, schema = registry.get("ffm"), CASES["full"].schema
    same = entry.config(embedding={"width": 3, "tables": {"genres": {"width": 3, "l2": 0.1}}})
    embedding = entry.body.embedding(same, schema)
    # Ten features and three attributes of behaviours.
    assert embedding.width == 39
    assert (embedding.table("genres").width, embedding.table("genres").l2) == (39, 0.1)
    with pytest.raises(ValueError, match="tables.genres.width: ffm needs one width, 3, got 4"):
        build("ffm", "full", rng, embedding={"width": 3, "tables": {"genres": {"width": 4}}})
