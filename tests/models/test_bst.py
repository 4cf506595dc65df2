"""BST against the transformer over every row, for each candidate."""

import dataclasses

import numpy as np
import pytest

from ctr_tf import registry
from ctr_tf.schema import Schema
from ctr_tf.types import Widths
from tests import cases
from tests.cases import CASES, batch, build
from tests.contracts.steps import assert_same, both_ways
from tests.layers.encoder import block_weights
from tests.models.behaviour import COMPARED, mlp_logit, rows_of
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.bst import (
    Block,
    bst_count,
    bst_encode,
    bst_pool,
    bst_rows,
    index_positions,
    time_positions,
)
from tests.weights import array

ORDER = [*COMPARED, "rating"]


@pytest.fixture
def untimed(monkeypatch):
    """The full case without times of behaviours."""
    schema = CASES["full"].schema.model_dump()
    schema["sequences"]["history"]["timestamps"] = False
    case = dataclasses.replace(CASES["full"], schema=Schema(**schema))
    monkeypatch.setitem(cases.CASES, "untimed", case)
    return "untimed"


def oracle(model, features):
    """expected(b, n, task), the transformer run anew for each candidate."""
    numpy, config = Embedded(model, features), model.config
    (layer,) = model.body.transformers
    blocks = []
    for block in layer.blocks:
        weights = block_weights(block)
        blocks.append(
            Block(*(weights[n] for n in ("projection", "output", "feed_forward", "norms")))
        )
    table = array(layer.positions)

    def expected(b, n, task):
        values, mask = numpy.behaviours("history", b)
        target = np.concatenate([*(numpy.fields([c], (b, n))[0] for c in COMPARED), np.zeros(4)])
        if "history_time" in features:
            times, now = features["history_time"][b], features["request_time"][b]
            index = time_positions(times, mask, now, len(table), unit=config.time_unit)
        else:
            index = np.minimum(index_positions(mask, "recency"), len(table) - 1)
        combine = "concat" if config.position_width else "add"
        rows = bst_rows(rows_of(values, ORDER), target, index, table, combine)
        encoded = bst_encode(rows, mask, config.attention_heads, blocks, slope=0.2)
        if config.pool == "flatten":
            places = np.zeros((config.length, encoded.shape[1]))
            latest = encoded[:-1][mask][::-1][: config.length]
            places[: len(latest)] = latest
            pooled = np.concatenate([places.reshape(-1), encoded[-1]])
        else:
            pooled = bst_pool(encoded, mask, config.pool)
        fields = [*numpy.user(b), pooled, *numpy.context(b), *numpy.candidate(b, n)]
        return mlp_logit(model, fields, task)

    return expected


GIVEN = [
    {},
    {"pool": "target"},
    {"pool": "mean", "time_unit": 60},
    {"pool": "flatten", "length": 3, "blocks": 2},
    {"pool": "target", "blocks": 2, "position_width": 0},
    {"pool": "mean", "blocks": 3, "feed_forward": None, "user_context": ["page"]},
]


@pytest.mark.parametrize("given", GIVEN, ids=str)
def test_logits_are_those_of_the_whole_transformer(rng, given):
    model, features = build("bst", "full", rng, **given), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("given", GIVEN[:4], ids=str)
def test_without_times_positions_are_counted_back(rng, untimed, given):
    model, features = build("bst", untimed, rng, **given), batch(untimed, rng)
    assert "history_times" not in model.state_spec()
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("given", GIVEN[:4], ids=str)
def test_gradients_are_those_of_row_wise_training(rng, given):
    model = build("bst", "full", rng, **given)
    features = batch("full", rng, requests=7, behaviours=6)
    (_, gradients, _), (_, row_gradients, _), _ = both_ways(model, "full", features, rng)
    assert_same(row_gradients, gradients, 1e-5)


@pytest.mark.parametrize("pool", ["flatten", "mean", "target"])
def test_parameter_count(rng, pool):
    model = build("bst", "full", rng, pool=pool, blocks=2, units=[6, 5])
    tables = 4 * sum(CASES["full"].rows.values())
    poster = 5 * 3 + 3 * 4
    body = bst_count(12, 4, 9, 6, 7, 2, 9 + 8 + 17, [6, 5, 1], pool)
    assert model.count_params() == tables + poster + body + (5 + 1)


def test_one_block_for_the_candidate_keeps_keys_and_rows_alone(rng, untimed):
    spec = build("bst", untimed, rng, pool="target").state_spec()
    assert {name for name in spec if name.startswith("history")} == {
        "history_rows", "history_projected", "history_mask",
    }  # fmt: skip
    spec = build("bst", untimed, rng, pool="mean").state_spec()
    assert {"history_among", "history_mass"} < set(spec)


def test_errors():
    entry = registry.get("bst")
    with pytest.raises(ValueError, match="bst needs a behaviour sequence; the schema has none"):
        entry.body(entry.config(), Widths(candidate={"item_id": 4}))
    widths = Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 4}})
    with pytest.raises(
        ValueError, match="attention_heads: must divide .* 'history', 20 with .* got 8"
    ):
        entry.body(entry.config(), widths)
    with pytest.raises(ValueError, match=r"bst compares .* shares no name"):
        entry.body(
            entry.config(), Widths(candidate={"item_id": 4}, sequences={"history": {"rating": 4}})
        )
