"""FM against the classical, un-split forward."""

import numpy as np
import pytest

from ctr_tf import registry
from ctr_tf.types import Widths
from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.interaction import fm_forward, fm_parameters
from tests.weights import array


def oracle(model, features):
    """expected(b, n, task): every pair of fields of a candidate."""
    numpy = Embedded(model, features)

    def expected(b, n, task):
        x, weights = np.array(numpy.every_field(b, n)), numpy.first_order(b, n)
        return fm_forward(x[None], weights[None], array(model.heads.dense[task].bias)[0]).item()

    return expected


@pytest.mark.parametrize("case", list(CASES))
def test_logits_are_those_of_the_un_split_form(rng, case):
    model, features = build("fm", case, rng), batch(case, rng)
    assert_logits(model, features, oracle(model, features))


def test_context_in_the_user_tower(rng):
    model, features = build("fm", "full", rng, user_context=["page"]), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


def test_parameter_count(rng):
    # Four tables of 6 rows and three numbers, one row each.
    assert build("fm", "criteo", rng).count_params() == fm_parameters(4 * 6 + 3, 4)


def test_what_behaviours_alone_have_has_no_first_order_weight(rng):
    tables = build("fm", "full", rng).embedder.tables.specs
    assert [name for name in tables if name.startswith("history")] == ["history_rating"]
    assert [n for n in tables if n.startswith("genres")] == ["genres", "genres/linear"]


@pytest.mark.parametrize("name", ["fm", "fwfm", "fmfm", "ffm", "wide_deep", "deepfm"])
def test_first_order_weights_need_a_feature(name):
    entry = registry.get(name)
    with pytest.raises(ValueError, match=f"{name} needs a feature that is no behaviour"):
        entry.body.check(entry.config(), Widths(sequences={"history": {"item_id": 4}}))
