"""MIAN against its equations, part by part."""

import numpy as np
import pytest

from ctr_tf import registry
from ctr_tf.types import Widths
from tests.cases import CASES, batch, build
from tests.layers.encoder import block_weights
from tests.models.behaviour import rows_of
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.mian import Block, mian_count, mian_forward
from tests.weights import array, layer_pair, oracle_activation


def score_of(layer):
    """The oracle's (W, b) of a row attention: one for all rows, or one for each."""
    kernel, bias = array(layer.kernel), array(layer.bias)
    return (kernel[0], bias[0]) if len(kernel) == 1 else (kernel, bias)


def oracle(model, features):
    """expected(b, n, task) from the un-split parts, in the order of equation 14."""
    numpy, config, body = Embedded(model, features), model.config, model.body
    blocks = []
    for block in body.blocks:
        weights = block_weights(block)
        blocks.append(
            Block(*(weights[n] for n in ("projection", "output", "feed_forward", "norms")))
        )
    own = body.interaction
    order = ["candidate", "context", "history", "user"]
    order += [f"{name}_interaction" for name in ("history", "user", "context")]
    order = [name for name in order if name in own.names]
    assert order == own.names
    projections = [(array(own.kernels[name]), array(own.biases[name])) for name in order]
    scores = [(array(own.scores[name])[:-1], array(own.scores[name])[-1]) for name in order]
    fields = dict(zip(body.sides, map(score_of, body.fields)))

    def expected(b, n, task):
        values, mask = numpy.behaviours("history", b)
        return mian_forward(
            np.concatenate(numpy.candidate(b, n))[None],
            rows_of(values)[None],
            mask[None],
            np.array(numpy.user(b))[None],
            np.array(numpy.context(b))[None],
            config.attention_heads,
            blocks,
            score_of(body.behaviours[0]),
            fields.get("user"),
            fields.get("context"),
            scores,
            [*map(layer_pair, body.mlp.dense), layer_pair(model.heads.dense[task])],
            [oracle_activation(layer) for layer in body.mlp.activations],
            projections,
            config.combine,
            config.pool,
        ).item()

    return expected


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"combine": "concat", "pool": "sum", "blocks": 2},
        {"user_context": ["page"], "activation": "sigmoid"},
        {"user_context": ["page", "hour"], "feed_forward": None},
    ],
    ids=str,
)
def test_logits_are_those_of_the_equations(rng, given):
    model, features = build("mian", "full", rng, **given), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("combine", ["sum", "concat"])
def test_parameter_count(rng, combine):
    model = build("mian", "full", rng, combine=combine)
    tables = 4 * sum(CASES["full"].rows.values())
    # Numbers have a vector each.
    others = 5 * 3 + 3 * 4 + 2 * 4
    body = mian_count(
        20, 12, 5, (3, 4), (2, 4), 7, 1, [6, 5, 1], 6, combine=combine, pool="mean", bias=False
    )
    assert model.count_params() == tables + others + body + (5 + 1)


def test_without_scores_parts_count_alike(rng):
    model, features = build("mian", "full", rng), batch("full", rng)
    for score in model.body.interaction.scores.values():
        score.assign(np.zeros(score.shape))
    parts, projected = model.body.interaction.names, {}
    x = np.random.default_rng(1).normal(size=(len(parts), 2, 3, 6)).astype("float32")
    projected = dict(zip(parts, x))
    np.testing.assert_allclose(model.body.interaction(projected), x.mean(axis=0), atol=1e-6)
    assert_logits(model, features, oracle(model, features))


def test_one_width_is_needed(rng):
    with pytest.raises(ValueError, match="needs one width, 4, got 3"):
        build("mian", "full", rng, embedding={"width": 4, "tables": {"city": {"width": 3}}})


def test_errors():
    entry = registry.get("mian")
    with pytest.raises(ValueError, match="mian needs a behaviour sequence; the schema has none"):
        entry.body(entry.config(), Widths(candidate={"item_id": 4}))
    widths = Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 12}})
    with pytest.raises(
        ValueError, match="model.attention_heads: must divide .* 'history', 12; got 8"
    ):
        entry.body(entry.config(), widths)
    with pytest.raises(ValueError, match="mian needs a candidate feature"):
        entry.body(entry.config(), Widths(sequences={"history": {"item_id": 12}}))
