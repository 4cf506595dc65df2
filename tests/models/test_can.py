"""CAN against its equations, pair by pair."""

import numpy as np
import pytest

from ctr_tf import registry
from ctr_tf.types import Widths
from tests.cases import CASES, batch, build
from tests.models.behaviour import COMPARED, mlp_logit, rows_of
from tests.models.embedded import Embedded, assert_logits
from tests.models.test_din import unit_interest
from tests.oracles.can import can_count, co_actions, induction_count
from tests.weights import array

FEEDS = ["history.item_id", "history.rating", "history.genres", "age", "city", "interests"]


def oracle(model, features):
    """expected(b, n, task) from the co-actions of all pairs."""
    numpy, config, body = Embedded(model, features), model.config, model.body

    def expected(b, n, task):
        values, mask = numpy.behaviours("history", b)
        views, _ = numpy.behaviours("history", b, "/feed")
        feeds, masks = [], []
        for name in body.feeds:
            sequence, _, attribute = name.rpartition(".")
            feeds.append(views[attribute] if sequence else numpy.fields([name], b, "/feed")[0])
            masks.append(mask if sequence else None)
        crossed = co_actions(
            feeds,
            masks,
            numpy.fields(body.induction, (b, n), "/induction"),
            [config.feed_width, *config.micro_units],
            config.pair_independent,
            config.pool,
            orders=config.orders,
            independent=config.order_independent,
            biases=config.biases,
            last_activation="tanh" if config.last_activation else None,
            combine=config.combine,
        )
        user, interest = numpy.user(b), []
        if config.base == "din":
            query = np.concatenate(numpy.fields(COMPARED, (b, n)))
            keys = rows_of(values, [*COMPARED, "rating"])
            interest = [unit_interest(body.attention[0], query, keys, mask)]
        else:
            user = [*user, *numpy.pooled_history(b)]
        fields = [*user, *interest, *numpy.context(b), *numpy.candidate(b, n), crossed]
        return mlp_logit(model, fields, task)

    return expected


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"base": "mlp", "orders": 1, "biases": False, "last_activation": False},
        {"pool": "inputs", "folded": True, "softmax": True},
        {"order_independent": True, "combine": "concat", "orders": 3},
        {"pair_independent": True, "induction": ["item_id", "price", "title", "poster"]},
        {"pair_independent": True, "order_independent": True, "pool": "inputs", "base": "mlp"},
        {"feeds": ["history.genres", "age", "page"], "user_context": ["page"]},
    ],
    ids=str,
)
def test_logits_are_those_of_the_equations(rng, given):
    model, features = build("can", "full", rng, **given), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize(
    "given",
    [{}, {"orders": 3, "combine": "concat", "order_independent": True}, {"pair_independent": True}],
    ids=str,
)
def test_parameter_count(rng, given):
    model = build("can", "full", rng, base="mlp", activation="relu", **given)
    rows = CASES["full"].rows
    tables, poster = 4 * sum(rows.values()), 5 * 3 + 3 * 4
    # A number's feed is a multiple of one row.
    feeds = [rows["item_id"], rows["history_rating"], rows["genres"], 1, rows["city"]]
    body = can_count(
        [*feeds, rows["interests"]],
        [rows["item_id"], rows["genres"]],
        [3, 3, 2],
        9 + 12 + 8 + 17,
        [6, 5, 1],
        orders=given.get("orders", 2),
        independent=given.get("order_independent", False),
        per_pair=given.get("pair_independent", False),
        combine=given.get("combine", "sum"),
    )
    assert model.count_params() == tables + poster + body + (5 + 1)


def test_views_are_of_the_features_that_have_them(rng):
    model = build("can", "full", rng)
    assert model.body.feeds == FEEDS and model.body.induction == COMPARED
    found = {name: spec.width for name, spec in model.embedder.tables.specs.items() if "/" in name}
    width = induction_count([3, 3, 2])
    assert found == {
        "item_id/induction": width,
        "genres/induction": width,
        **{f"{name}/feed": 3 for name in ("item_id", "genres", "history_rating")},
        **{f"{name}/feed": 3 for name in ("city", "interests")},
    }


def test_fed_inputs_are_one_vector_a_sequence(rng):
    spec = build("can", "full", rng, folded=True, pool="inputs").state_spec()
    assert {name: shape for name, (shape, _) in spec.items() if name.startswith("feed")} == {
        f"feed_{i}": (None, 3) for i in range(len(FEEDS))
    }


def test_the_folded_form_costs_as_much_for_one_candidate():
    """Products a behaviour, by the sizes of `configs/movielens`: 48 wide, 32 of it compared."""
    config = registry.get("can").config()
    (a, b), (c, d), (e, f) = config.attention_units, config.folded_units, config.micro_units
    # Three attributes, each past the micro-MLPs of two features, in each order.
    fed = 3 * 2 * config.orders * (config.feed_width * e + e * f)
    original = (4 * 32 + 16) * a + a * b + b + fed
    folded = 48 * c + c * d + d * 32 + 32
    assert 0.85 < folded / original <= 1.0


def test_without_feeds_the_candidate_does_not_act(rng):
    model, features = build("can", "full", rng, biases=False), batch("full", rng)
    expected = model(features)
    tables = model.embedder.tables
    changed = False
    for name in tables.specs:
        if name.endswith("/feed"):
            tables.write(name, 0, np.zeros_like(tables.table(name)))
    for key, projection in model.embedder.projections.items():
        if key.endswith("/feed"):
            projection.kernel.assign(np.zeros(projection.kernel.shape))
    without = model(features)
    for name in tables.specs:
        if name.endswith("/induction"):
            tables.write(name, 0, 7 + tables.table(name))
    for task, value in model(features).items():
        changed |= np.abs(array(value) - array(expected[task])).max() > 1e-3
        np.testing.assert_allclose(value, without[task], atol=1e-6)
    assert changed


def test_errors():
    entry = registry.get("can")
    with pytest.raises(ValueError, match="can needs a behaviour sequence; the schema has none"):
        entry.body(entry.config(), Widths(candidate={"item_id": 4}))
    widths = Widths(
        user={"age": 1}, candidate={"item_id": 4}, sequences={"history": {"item_id": 4}}
    )
    with pytest.raises(ValueError, match="induction.0: no candidate feature 'item'; did you mean"):
        entry.body(entry.config(induction=["item"]), widths)
    with pytest.raises(ValueError, match="feeds.1: no user field .* 'item_id'; did you mean"):
        entry.body(entry.config(feeds=["age", "item_id"]), widths)
    other = Widths(candidate={"item_id": 4}, sequences={"history": {"rating": 4}})
    with pytest.raises(ValueError, match="can compares .* shares no name"):
        entry.body(entry.config(), other)
    with pytest.raises(ValueError, match="model.induction: must name candidate features"):
        entry.body(entry.config(base="mlp"), other)
