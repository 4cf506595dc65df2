"""DIEN against its equations, step by step, and its auxiliary loss in training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf import registry
from ctr_tf.types import Widths
from tests.cases import CASES, batch, build
from tests.contracts.steps import assert_same, both_ways
from tests.models.behaviour import gru_weights, mlp_logit, rows_of
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.dien import dien_count, dien_interest
from tests.weights import array

KINDS = ["gru", "aigru", "agru", "augru", "augru_keep"]


def oracle(model, features):
    """expected(b, n, task) from the recurrences run anew for each candidate."""
    numpy, body = Embedded(model, features), model.body
    extractor, evolving = gru_weights(body.extractors[0]), gru_weights(body.evolving[0])
    kind = model.config.recurrence
    # Plain GRUs attend to nothing.
    width = body.extractors[0].width
    weight = array(body.attention[0].kernel) if body.attention else np.zeros((width, 17))

    def expected(b, n, task):
        values, mask = numpy.behaviours("history", b)
        candidate = numpy.candidate(b, n)
        target = np.concatenate(candidate)
        interest = dien_interest(rows_of(values), mask, target, extractor, weight, evolving, kind)
        fields = [*numpy.user(b), interest, *numpy.context(b), *candidate]
        return mlp_logit(model, fields, task)

    return expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "given",
    [{}, {"evolution": 5, "auxiliary": 0.0, "width": 7, "user_context": ["page"]}],
    ids=["default", "widths"],
)
def test_logits_are_those_of_the_equations(rng, kind, given):
    model = build("dien", "full", rng, recurrence=kind, **given)
    features = batch("full", rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_row_wise_training(rng, kind):
    model = build("dien", "full", rng, recurrence=kind)
    features = batch("full", rng, requests=7, behaviours=6)
    (_, gradients, _), (_, row_gradients, _), _ = both_ways(model, "full", features, rng)
    assert_same(row_gradients, gradients, 1e-5)


@pytest.mark.parametrize("kind", ["aigru", "agru", "augru"])
def test_parameter_count(rng, kind):
    model = build("dien", "full", rng, recurrence=kind, activation="relu")
    tables = 4 * sum(CASES["full"].rows.values())
    poster = 5 * 3 + 3 * 4
    body = dien_count(12, 17, 12, 9 + 8 + 17, [6, 5, 1], kind)
    assert model.count_params() == tables + poster + body + (5 + 1)


def test_a_plain_gru_is_of_the_user_alone(rng):
    spec = build("dien", "full", rng, recurrence="gru").state_spec()
    assert spec == {"user": ((None, 6), "float32"), "interest": ((None, 6), "float32")}


def trained(model, features):
    model(features, training=True)
    return [float(loss) for loss in model.losses]


def test_the_auxiliary_loss_is_of_training_alone_and_weighted(rng):
    model, features = build("dien", "full", rng), batch("full", rng)
    model(features)
    assert model.losses == []
    keras.utils.set_random_seed(1)
    (loss,) = trained(model, features)
    assert np.isfinite(loss) and loss > 0
    twice = build("dien", "full", np.random.default_rng(20), auxiliary=2.0)
    for variable, value in zip(twice.variables, model.variables):
        variable.assign(value)
    seeds = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    assert len(seeds) == 1
    # The seed moves on with each draw.
    same = [v for v in twice.variables if v.path.endswith("seed_generator_state")]
    state = seeds[0].numpy()
    seeds[0].assign(state), same[0].assign(state)
    (once,), (double,) = trained(model, features), trained(twice, features)
    np.testing.assert_allclose(double, 2 * once, rtol=1e-5)
    # The draws follow from the seed's state.
    seeds[0].assign(state)
    assert trained(model, features) == [once]
    assert trained(model, features) != [once]
    # A request counts by its valid candidates.
    features["candidates_mask"][:] = False
    seeds[0].assign(state)
    assert trained(model, features) == [0.0]


@pytest.mark.parametrize("units", [[], [4]])
def test_the_auxiliary_loss_trains_what_it_sees(rng, units):
    model, features = build("dien", "full", rng, auxiliary_units=units), batch("full", rng)
    with tf.GradientTape() as tape:
        model(features, training=True)
        loss = tf.add_n(model.losses)
    variables = {v.path: v.value for v in model.trainable_variables}
    found = tape.gradient(loss, variables)
    reached = {path for path, gradient in found.items() if gradient is not None}
    own = {path for path in variables if "history_next" in path or "history_extractor" in path}
    assert own <= reached and bool(units) == any("history_next" in path for path in own)
    assert not any("mlp/split" in path for path in reached if "history_next" not in path)


def test_errors():
    entry = registry.get("dien")
    with pytest.raises(ValueError, match="dien needs a behaviour sequence; the schema has none"):
        entry.body(entry.config(), Widths(candidate={"item_id": 4}))
    widths = Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 4}})
    with pytest.raises(ValueError, match="model.width: .* width 4 in 'history'; got 8"):
        entry.body(entry.config(width=8), widths)
    assert entry.body(entry.config(width=8, auxiliary_units=[3]), widths)
    with pytest.raises(ValueError, match="dien needs a candidate feature"):
        entry.body(entry.config(), Widths(sequences={"history": {"item_id": 4}}))
