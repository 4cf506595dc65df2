"""DIN against the classical, un-split forward."""

import numpy as np
import pytest

from ctr_tf import registry
from ctr_tf.layers import FoldedUnit
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import Schema
from ctr_tf.types import Widths
from tests.cases import CASES, batch, build, small_config
from tests.models.behaviour import COMPARED, mlp_logit, rows_of
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.blocks import mlp, softmax_masked
from tests.oracles.din import attention_pooling, din_forward
from tests.weights import activations_of, array, layer_pair, oracle_activation, split_mlp_layers


def unit_layers(unit):
    """The layers of an activation unit in the paper's form, the rating being of a key alone."""
    (split, bias), *rest = split_mlp_layers(unit.mlp)
    width, total = unit.width, unit.width + unit.mlp.split.part_widths["extra"]
    # The candidate has no rating: of [q, k, q - k, q * k], its columns count in k alone.
    kernel = np.zeros((4 * total, split.shape[1]))
    for part in range(4):
        kernel[part * total : part * total + width] = split[part * width : (part + 1) * width]
    kernel[total + width : 2 * total] = split[4 * width :]
    return [(kernel, bias), *rest, layer_pair(unit.score)]


def unit_interest(unit, query, keys, mask):
    """The interest that a unit of either kind gives to one candidate."""
    query = np.concatenate([query, np.full(keys.shape[1] - len(query), 9.0)])
    if isinstance(unit, FoldedUnit):
        layers = [layer_pair(dense) for dense in unit.mlp.dense]
        acts = [oracle_activation(layer) for layer in unit.mlp.activations]
        hidden = mlp(keys, layers, acts, final_linear=False)
        kernel = array(unit.attention.kernel)
        scores = hidden @ kernel @ query[: kernel.shape[1]]
        softmax = unit.attention.softmax
        weights = softmax_masked(scores, mask) if softmax else np.where(mask, scores, 0.0)
        return weights @ keys
    acts = activations_of(unit.mlp)
    return attention_pooling(query, keys, mask, unit_layers(unit), acts, unit.softmax)


def oracle(model, features):
    """expected(b, n, task) from the paper's form."""
    numpy = Embedded(model, features)
    (unit,) = model.body.attention
    attention = unit_layers(unit)
    total = unit.width + unit.mlp.split.part_widths["extra"]

    def expected(b, n, task):
        values, mask = numpy.behaviours("history", b)
        query = [numpy.fields([name], (b, n))[0] for name in COMPARED]
        return din_forward(
            numpy.user(b),
            np.concatenate([*query, np.full(total - unit.width, 9.0)]),
            np.concatenate([values[name] for name in [*COMPARED, "rating"]], axis=-1),
            mask,
            numpy.context(b),
            numpy.candidate(b, n),
            attention,
            activations_of(unit.mlp),
            [*split_mlp_layers(model.body.mlp), layer_pair(model.heads.dense[task])],
            activations_of(model.body.mlp),
            model.config.softmax,
        )

    return expected


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"softmax": True},
        {"attention_activation": "relu", "activation": "prelu"},
        {"user_context": ["page"], "attention_activation": "sigmoid"},
    ],
    ids=["dice", "softmax", "prelu", "user_context"],
)
def test_logits_are_those_of_the_un_split_form(rng, given):
    model, features = build("din", "full", rng, **given), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("act", ["dice", "relu"])
def test_folded_logits_are_those_of_dot_products(rng, softmax, act):
    given = {"folded": True, "softmax": softmax, "attention_activation": act}
    model, features = build("din", "full", rng, **given), batch("full", rng)
    numpy = Embedded(model, features)
    (unit,) = model.body.attention

    def expected(b, n, task):
        values, mask = numpy.behaviours("history", b)
        query = np.concatenate(numpy.fields(COMPARED, (b, n)))
        keys = rows_of(values, [*COMPARED, "rating"])
        interest = unit_interest(unit, query, keys, mask)
        fields = [*numpy.user(b), interest, *numpy.context(b), *numpy.candidate(b, n)]
        return mlp_logit(model, fields, task)

    assert_logits(model, features, expected)


def test_the_folded_form_costs_as_much_for_one_candidate_and_little_for_more():
    """Products a behaviour, by the sizes of `configs/movielens`: 48 wide, 32 of it compared."""
    config = registry.get("din").config()
    (a, b), (c, d) = config.attention_units, config.folded_units
    original = (4 * 32 + 16) * a + a * b + b
    folded, own = 48 * c + c * d + d * 32, 32
    assert 0.85 < (folded + own) / original <= 1.0
    # One hundred candidates, as in SRP4CTR, table 4.
    assert (folded + 100 * own) / (folded + own) < 1.5


def test_folded_parameter_count(rng):
    model = build("din", "full", rng, folded=True)
    tables = 4 * sum(CASES["full"].rows.values())
    poster = 5 * 3 + 3 * 4
    unit = 12 * 5 + 5 + 5 * 3 + 3 + 3 * (5 + 3) + 3 * 8
    mlp = (9 + 12 + 8 + 17) * 6 + 6 + 6 * 5 + 5 + 3 * (6 + 5)
    assert model.count_params() == tables + poster + unit + mlp + 2 * (5 + 1)


def test_parameter_count(rng):
    model = build("din", "full", rng)
    # Widths: user age 1, city 4, interests 4; context 4 + 4; candidate 4 + 4 + 1 + 4 + 4.
    tables = 4 * sum(CASES["full"].rows.values())
    poster = 5 * 3 + 3 * 4
    unit = (4 * 8 + 4) * 5 + 5 + 5 * 3 + 3 + 3 * (5 + 3) + 3 + 1
    mlp = (9 + 12 + 8 + 17) * 6 + 6 + 6 * 5 + 5 + 3 * (6 + 5)
    heads = 2 * (5 + 1)
    assert model.count_params() == tables + poster + unit + mlp + heads


def test_equal_behaviours_with_softmax_are_one_behaviour(rng):
    model = build("din", "full", rng, softmax=True)
    features = batch("full", rng)
    for name, value in features.items():
        if name.startswith("history_") and name != "history_mask":
            features[name] = np.broadcast_to(value[:, :1], value.shape)
    features["history_mask"] = np.ones_like(features["history_mask"])
    one = {
        name: value[:, :1] if name.startswith("history_") else value
        for name, value in features.items()
    }
    many, single = model(features), model(one)
    for task in many:
        np.testing.assert_allclose(many[task], single[task], atol=1e-5)


def test_without_attention_scores_the_history_is_ignored(rng):
    model = build("din", "full", rng)
    (unit,) = model.body.attention
    unit.score.kernel.assign(np.zeros(unit.score.kernel.shape))
    unit.score.bias.assign([0.0])
    features = batch("full", rng)
    empty = {**features, "history_mask": np.zeros_like(features["history_mask"])}
    for task, logits in model(features).items():
        np.testing.assert_array_equal(logits, model(empty)[task])


def test_errors():
    entry = registry.get("din")
    with pytest.raises(ValueError, match="din needs a behaviour sequence; the schema has none"):
        entry.body(entry.config(), Widths(candidate={"item_id": 4}))
    with pytest.raises(ValueError, match=r"'history' \(attributes \['rating'\]\) shares no name"):
        entry.body(
            entry.config(), Widths(candidate={"item_id": 4}, sequences={"history": {"rating": 4}})
        )
    with pytest.raises(ValueError, match="history.item_id .* one width, got 8 and 4"):
        entry.body(
            entry.config(), Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 8}})
        )
    schema = Schema(
        features={"item_id": {"kind": "categorical"}}, tasks={"click": {"column": "click"}}
    )
    with pytest.raises(ValueError, match="no table 'itemid'; did you mean 'item_id'"):
        config = small_config("dcn_v2", embedding={"tables": {"itemid": {"width": 3}}})
        CTRModel(schema, config, {"item_id": 3})
    with pytest.raises(ValueError, match="user_context.0: no context feature 'item_id'; .*none"):
        CTRModel(schema, small_config("dcn_v2", user_context=["item_id"]), {"item_id": 3})
