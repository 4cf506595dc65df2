"""DSIN against its equations, session by session."""

import numpy as np
import pytest

from ctr_tf import registry
from ctr_tf.types import Widths
from tests.cases import CASES, batch, build
from tests.contracts.steps import assert_same, both_ways
from tests.layers.encoder import block_weights
from tests.models.behaviour import lstm_weights, mlp_logit, rows_of
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.dsin import (
    Extractor,
    activate_sessions,
    bi_lstm,
    divide_sessions,
    dsin_count,
    session_interests,
    session_rows,
)
from tests.weights import array


def timed_batch(rng, **sizes):
    """A batch whose behaviours come in order, some pauses longer than the gap of 100."""
    features = batch("full", rng, **sizes)
    mask = features["history_mask"]
    pauses = rng.choice([1, 99, 100, 101, 500], mask.shape)
    features["history_time"] = np.where(mask, np.cumsum(pauses, axis=1), 0).astype("int32")
    return features


def oracle(model, features):
    """expected(b, n, task) from sessions divided by loops."""
    numpy, config, body = Embedded(model, features), model.config, model.body
    (layer,), (lstm,) = body.extractors, body.lstms
    block = block_weights(layer.block)
    weights = Extractor(
        array(layer.bias_session),
        array(layer.bias_position),
        array(layer.bias_unit),
        *(block[name] for name in ("projection", "output", "feed_forward", "norms")),
    )
    directions = [lstm_weights(direction) for direction in lstm.directions]
    kernels = [array(own[0].kernel) for own in (body.attention, body.course_attention)]

    def expected(b, n, task):
        values, mask = numpy.behaviours("history", b)
        shape = config.sessions, config.session_length
        divided = divide_sessions(features["history_time"][b], mask, *shape, config.gap)
        rows, valid = session_rows(rows_of(values), divided, *shape)
        interests, present = session_interests(
            rows, valid, config.attention_heads, weights, scale="head"
        )
        course = bi_lstm(interests, present, *directions, config.merge)
        candidate = numpy.candidate(b, n)
        target = np.concatenate(candidate)
        found = [
            activate_sessions(x, present, target, kernel)
            for x, kernel in zip((interests, course), kernels)
        ]
        fields = [*numpy.user(b), *found, *numpy.context(b), *candidate]
        return mlp_logit(model, fields, task)

    return expected


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"merge": "sum", "peepholes": False},
        {"sessions": 2, "session_length": 2, "user_context": ["page"]},
        {"sessions": 1, "session_length": 1},
        {"sessions": 9, "session_length": 9, "feed_forward": None},
    ],
    ids=str,
)
def test_logits_are_those_of_the_equations(rng, given):
    model, features = build("dsin", "full", rng, **given), timed_batch(rng, behaviours=11)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("activation", ["relu", "dice"])
def test_gradients_are_those_of_row_wise_training(rng, activation):
    model = build("dsin", "full", rng, activation=activation)
    features = timed_batch(rng, requests=7, behaviours=9)
    (_, gradients, _), (_, row_gradients, _), _ = both_ways(model, "full", features, rng)
    assert_same(row_gradients, gradients, 1e-5)


@pytest.mark.parametrize("merge, peepholes", [("concat", True), ("sum", True), ("concat", False)])
def test_parameter_count(rng, merge, peepholes):
    model = build("dsin", "full", rng, merge=merge, peepholes=peepholes)
    tables = 4 * sum(CASES["full"].rows.values())
    poster = 5 * 3 + 3 * 4
    kind = "matrix" if peepholes else None
    body = dsin_count(12, 17, 3, 3, 7, 3, 9 + 8 + 17, [6, 5, 1], merge, kind)
    assert model.count_params() == tables + poster + body + (5 + 1)


def test_only_sessions_reach_the_item_tower(rng):
    spec = build("dsin", "full", rng).state_spec()
    assert {name: shape for name, (shape, _) in spec.items()} == {
        "user": (None, 6),
        "history_interests": (None, 3, 12),
        "history_interest_keys": (None, 3, 17),
        "history_course": (None, 3, 6),
        "history_course_keys": (None, 3, 17),
        "history_mask": (None, 3),
    }


def test_errors():
    entry = registry.get("dsin")
    with pytest.raises(ValueError, match="dsin needs a behaviour sequence; the schema has none"):
        entry.body(entry.config(), Widths(candidate={"item_id": 4}))
    sequences = {"history": {"item_id": 12}}
    widths = Widths(candidate={"item_id": 12}, sequences=sequences)
    with pytest.raises(ValueError, match="schema.sequences.history.timestamps: dsin divides"):
        entry.body(entry.config(), widths)
    widths = Widths(candidate={"item_id": 12}, sequences=sequences, timed=("history",))
    with pytest.raises(
        ValueError, match="model.attention_heads: must divide .* 'history', 12; got 8"
    ):
        entry.body(entry.config(), widths)
    with pytest.raises(ValueError, match="dsin needs a candidate feature"):
        entry.body(entry.config(), Widths(sequences=sequences, timed=("history",)))
