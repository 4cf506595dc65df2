"""SRP4CTR and MP against the oracles of section 2.2; what is frozen, folded and counted."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf import registry
from ctr_tf.optimizers.build import build_optimizer
from ctr_tf.optimizers.groups import variable_groups
from ctr_tf.training.config import TrainConfig
from ctr_tf.training.step import TrainStep
from ctr_tf.types import Widths
from tests.cases import CASES, SMALL, batch, build, labels_of
from tests.layers.encoder import block_weights
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.blocks import mlp
from tests.oracles.bst import Block
from tests.oracles.counts import encoder_count, mlp_count
from tests.oracles.srp4ctr.cross import CrossBlock
from tests.oracles.srp4ctr.fg_bert import Attribute, encoder_streams, fg_bert_input
from tests.oracles.srp4ctr.head import head_input
from tests.oracles.srp4ctr.model import mp_forward, srp4ctr_forward
from tests.oracles.srp4ctr.querying import initial_queries, querying_transformer
from tests.oracles.srp4ctr.uni_attention import (
    layer_keys_values,
    tied,
    uni_attention,
    uni_attention_unfolded,
)
from tests.oracles.transformer import gelu, layer_norm
from tests.weights import activations_of, array, layer_pair, split_mlp_layers

ITEM = ("item_id", "genres")
GELU = {**SMALL["encoder"], "activation": "gelu"}
NORMED = {"encoder": {**GELU, "input_norm": True}}
POST = {"encoder": {**GELU, "use_bias": True, "input_norm": True}}


def pair(dense):
    """(kernel, bias or None) of a dense layer."""
    return array(dense.kernel), None if dense.bias is None else array(dense.bias)


def norm_of(layer):
    return array(layer.gamma), array(layer.beta), layer.epsilon


def self_block(block):
    """A block of the encoder as the oracles take it."""
    found = block_weights(block)
    if not block.attention.use_bias:
        found["projection"] = found["projection"][0], None
    return Block(*(found[name] for name in ("projection", "output", "feed_forward", "norms")))


def cross_block(block):
    """A block with keys and values from outside as the oracles take it."""
    fed = [layer_pair(block.inner), layer_pair(block.outer)]
    attention = block.attention
    output = pair(attention.output_projection)
    return CrossBlock(pair(attention.query), output, fed, [norm_of(n) for n in block.norms])


class Parts:
    """What the oracles take of a model and a request."""

    def __init__(self, model, features):
        self.model, self.body = model, model.body
        self.numpy = Embedded(model, features)
        self.config = model.config
        self.pre = self.config.encoder.norm == "pre"
        self.blocks = [self_block(block) for block in self.body.encoder.blocks]

    def rows(self, b):
        """Rows of the encoder, (L, W), and their mask."""
        values, mask = self.numpy.behaviours("history", b)
        ages = np.cumsum(mask[::-1])[::-1] - 1
        table = array(self.body.encoder.positions)
        positions = table[np.clip(ages, 0, len(table) - 1)]
        items = [one_row_each(values[name]) for name in ITEM]
        behaviours = [one_row_each(v) for name, v in values.items() if name not in ITEM]
        norm = self.body.encoder.input_norm
        norm = norm_of(norm) if norm else None
        masked, zeros = np.zeros(len(mask), bool), np.zeros(table.shape[1])
        x = fg_bert_input(items, behaviours, positions, mask, zeros, zeros, masked, masked, norm)
        return x, mask

    def target(self, b, n):
        """Sum of a candidate's item attributes and the learnable vector, normalised as input is."""
        names = self.model.schema.side("candidate")
        own = dict(zip(names, self.numpy.candidate(b, n)))
        uni = self.body.uni
        x = sum(own[name] for name in ITEM) + array(uni.vector)
        return layer_norm(x, *norm_of(uni.input_norm)) if uni.input_norm else x

    def own(self):
        """The candidate's blocks."""
        if self.body.uni is None:
            return None
        if self.config.uni_attention == "tied":
            return [tied(block) for block in self.blocks]
        return [cross_block(block) for block in self.body.uni.blocks]

    def querying(self, b):
        """Initial queries and blocks."""
        layer = self.body.querying
        if layer is None:
            return None
        names = self.model.embedder.side_features["user"]
        named = dict(zip(names, self.numpy.user(b)))
        given = [named[name] for name in self.config.query_features]
        kernel = array(layer.map.kernel) if given else None
        first = initial_queries(array(layer.queries), given, kernel)
        blocks = [
            (pair(projection), cross_block(block))
            for projection, block in zip(layer.keys_values, layer.blocks)
        ]
        return first, blocks

    def mlp(self, task):
        """Layers in the order of the oracle's parts, and activations."""
        mlp = self.body.mlp
        (kernel, bias), *rest = split_mlp_layers(mlp)
        order = ["uni", "interest", "candidate", "own", "user", "context"]
        sizes = mlp.split.part_widths
        starts = dict(zip(sizes, np.cumsum([0, *sizes.values()])))
        kernel = np.concatenate([kernel[starts[p] : starts[p] + sizes[p]] for p in order])
        head = layer_pair(self.model.heads.dense[task])
        return [(kernel, bias), *rest, head], activations_of(mlp)

    def fields(self, b, n):
        """Vectors of the candidate's, the user's and the context's fields."""
        candidate = self.numpy.candidate(b, n)
        if self.config.own_tables:
            candidate = [*candidate, *self.numpy.fields(ITEM, (b, n), "/own")]
        return [candidate], self.numpy.user(b), self.numpy.context(b)


def one_row_each(value):
    """An attribute whose embeddings (L, W) are known, as the oracle's table and rows."""
    return Attribute(value, [[i] for i in range(len(value))])


def oracle(model, features):
    """expected(b, n, task) of SRP4CTR, row by row; post-norm, or pre-norm without last norms."""
    parts = Parts(model, features)

    def expected(b, n, task):
        x, mask = parts.rows(b)
        target = parts.target(b, n)[None] if parts.body.uni else np.zeros((1, 1))
        layers, acts = parts.mlp(task)
        return srp4ctr_forward(
            x, mask, target, parts.fields(b, n), 2, parts.blocks, parts.own(), parts.querying(b),
            layers, acts, gelu, parts.pre,
        ).item()  # fmt: skip

    return expected


@pytest.mark.parametrize(
    "given",
    [
        {},
        POST,
        {"uni_attention": "tied"},
        {"uni_attention": "none", "query_layers": 2, "query_features": ["city", "age"]},
        {"queries": 0},
        {"queries": 0, "uni_attention": "none"},
        {"own_tables": True},
        {"user_context": ["hour"], "query_features": ["hour"]},
    ],
    ids=["plain", "norm", "tied", "no_uni", "no_queries", "neither", "own", "context"],
)
def test_logits_are_those_of_each_row(rng, given):
    given = {"encoder": GELU, **given}
    model, features = build("srp4ctr", "full", rng, **given), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


def test_patched_logits_are_those_of_each_row(rng):
    given = {**POST, "queries": 0, "uni_attention": "none", "patch": 3, "freeze": True}
    model, features = build("srp4ctr", "full", rng, **given), batch("full", rng)
    parts = Parts(model, features)
    patches = [(layer_pair(p.down), layer_pair(p.up)) for p in model.body.patches]

    def expected(b, n, task):
        x, mask = parts.rows(b)
        layers, acts = parts.mlp(task)
        of_blocks = list(zip(patches[::2], patches[1::2]))
        return mp_forward(
            x, mask, parts.fields(b, n), 2, parts.blocks, of_blocks, layers, acts, gelu
        ).item()

    assert_logits(model, features, expected)


def test_normalised_before_its_parts_each_stream_ends_with_a_norm(rng):
    encoder = {**GELU, "norm": "pre", "use_bias": True}
    model = build("srp4ctr", "full", rng, encoder=encoder)
    features, body = batch("full", rng), model.body
    parts = Parts(model, features)

    def last(x, layer):
        return layer_norm(x, *norm_of(layer.norm))

    def expected(b, n, task):
        x, mask = parts.rows(b)
        streams = encoder_streams(x, mask, 2, parts.blocks, gelu, True)
        folded = layer_keys_values(streams, parts.blocks, True)
        uni = uni_attention(parts.target(b, n)[None], folded, mask, 2, parts.own(), gelu, True)
        first, blocks = parts.querying(b)
        encoded = last(streams[-1], body.encoder)
        queries = querying_transformer(first, encoded, mask, 2, blocks, gelu, True)
        (candidate,), user, context = parts.fields(b, n)
        uni, queries = last(uni[0], body.uni), last(queries, body.querying)
        layers, acts = parts.mlp(task)
        joined = head_input(encoded, mask, candidate, user, context, uni, queries)
        return mlp(joined, layers, acts, final_linear=True).item()

    assert_logits(model, features, expected)


def test_a_candidate_appended_to_the_sequence_finds_the_same(rng):
    """Keys and values fold: no behaviour sees the candidate."""
    model, features = build("srp4ctr", "full", rng, **POST), batch("full", rng)
    parts, uni, read = Parts(model, features), model.body.uni, []
    model.body.uni = lambda *given, **named: read.append(uni(*given, **named)) or read[-1]
    model(features)
    model.body.uni = uni
    for b, n in np.argwhere(features["candidates_mask"]):
        x, mask = parts.rows(b)
        target, own = parts.target(b, n), parts.own()
        behaviours, expected = uni_attention_unfolded(target, x, mask, 2, parts.blocks, own, gelu)
        np.testing.assert_allclose(read[0][b, n], expected, atol=1e-5)
        streams = encoder_streams(x, mask, 2, parts.blocks, gelu)
        np.testing.assert_allclose(behaviours, streams[-1], atol=1e-9)


def test_the_state_is_of_the_user_alone_and_computed_once(rng):
    model, features = build("srp4ctr", "full", rng), batch("full", rng)
    rows = (None, None, 12)
    assert model.state_spec() == {
        "user": ((None, 6), "float32"),
        "mask": ((None, None), "bool"),
        "keys_values_0": (rows, "float32"),
        "keys_values_1": (rows, "float32"),
    }
    encode, found = model.body.encoder.encode, []
    model.body.encoder.encode = lambda *given: found.append(encode(*given)) or found[-1]
    scores = model(features)
    # Once for all candidates, and for others the same.
    assert len(found) == 1 and features["candidates_mask"].shape[1] == 4
    flipped = {name: np.flip(features[name], 1) for name in ("item_id", "genres", "price")}
    others = model(features | flipped)
    assert any((others[task] != scores[task]).numpy().any() for task in scores)
    output, keys_values = found[0]
    np.testing.assert_array_equal(found[1][0], output)
    for own, other in zip(found[1][1], keys_values, strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("kind", ["untied", "none"])
def test_what_is_frozen_has_no_gradient(rng, kind):
    given = {"freeze": True, "uni_attention": kind, "patch": 3, **POST}
    model = build("srp4ctr", "full", rng, **given)
    trained = {variable.path for variable in model.trainable_variables}
    frozen = model.body.encoder.weights
    # Positions, twelve weights a block, the input's norm.
    assert len(frozen) == 1 + 2 * 12 + 2 and not trained & {variable.path for variable in frozen}
    tables = model.embedder.tables
    names = {"item_id", "history_rating", "genres"}
    assert {name for name, spec in tables.specs.items() if not spec.trainable} == names
    # The tables of behaviours lie apart from those that are trained.
    (apart,) = {next(tables.pieces(name)).variable for name in names}
    assert tables.weights[apart].path not in trained
    assert sum(v.shape[0] for v in variable_groups(model)["tables"]) == sum(
        rows for name, rows in CASES["full"].rows.items() if name not in names
    )
    patched = [path for path in trained if "/patch_" in path]
    assert len(patched) == 4 * 4


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_what_is_frozen_is_read_without_dropout(rng, kind):
    encoder = {**GELU, "dropout": 0.5}
    given = {"encoder": encoder, "uni_attention": kind, "queries": 0}
    features = batch("full", rng)
    for frozen in (True, False):
        model = build("srp4ctr", "full", rng, freeze=frozen, **given)
        trained, evaluated = (
            {task: np.array(value) for task, value in model(features, training=on).items()}
            for on in (True, False)
        )
        same = all(np.allclose(trained[task], evaluated[task], atol=1e-6) for task in trained)
        # Blocks of the candidate's own are trained whatever is frozen.
        assert same == (frozen and kind == "tied")


def test_frozen_weights_are_as_they_were_after_training(rng):
    model = build("srp4ctr", "full", rng, freeze=True, patch=3, own_tables=True)
    specs = model.embedder.tables.specs
    assert specs["item_id/own"].trainable and not specs["item_id"].trainable
    features = batch("full", rng)
    labels = labels_of("full", features, rng)
    batches = {"features": features, "labels": labels}
    batches["weights"] = {task: features["candidates_mask"].astype("float32") for task in labels}
    data = tf.data.Dataset.from_tensors(batches).repeat(4)
    before = {variable.path: variable.numpy() for variable in model.weights}
    optimizer = build_optimizer(model, TrainConfig(learning_rate=0.1).optimizers(4))
    TrainStep(model, optimizer, tf.distribute.get_strategy(), {})(iter(data), 4)
    changed = {v.path for v in model.weights if not np.array_equal(before[v.path], v.numpy())}
    assert changed == {variable.path for variable in model.trainable_variables}


def test_parameter_counts(rng):
    model = build("srp4ctr", "full", rng, **POST)
    wide = 6 * sum(CASES["full"].rows[name] for name in ("item_id", "genres", "history_rating"))
    tables = wide + 4 * sum(
        CASES["full"].rows[n] for n in ("city", "interests", "hour", "page", "title")
    )
    poster = 5 * 3 + 3 * 4
    encoder = 4 * 6 + 2 * encoder_count(6, 7) + 12
    # Its own blocks have no projections of keys and values.
    cross = encoder_count(6, 7) - 2 * (6 * 6 + 6)
    uni = 6 + 12 + 2 * cross
    querying = 4 * 6 + cross + 6 * 12 + 12
    fields = 9 + 4 * 6 + 8 + (6 + 6 + 1 + 4 + 4) + 6
    heads = mlp_count(fields, [6, 5]) + 2 * (5 + 1)
    expected = tables + poster + encoder + uni + querying + heads
    assert model.count_params() == expected


WIDE = {"item_id": 64, "rating": 64}


@pytest.mark.parametrize(
    ("given", "widths", "message"),
    [
        ({}, {"candidate": WIDE}, "srp4ctr needs a behaviour sequence"),
        ({"sequence": "histori"}, {}, "model.sequence: .*did you mean 'history'"),
        ({"encoder": {"heads": 5}}, {}, "heads: must divide the width, 64; got 5"),
        ({}, {"sequences": {"history": {"item_id": 8}}}, "history.item_id is summed .*64; got 8"),
        (
            {},
            {"candidate": {"price": 1}},
            r"uni_attention read .*: \['item_id', 'rating'\] share no name with .*price",
        ),
        (
            {"uni_attention": "none", "own_tables": True},
            {"candidate": {"price": 1}},
            "own_tables read what candidates share",
        ),
        ({"attributes": ["ratin"]}, {}, "model.attributes.0: .*did you mean 'rating'"),
        ({"query_features": ["aeg"]}, {}, "query_features.0: .*did you mean 'age'"),
    ],
)
def test_errors(given, widths, message):
    entry = registry.get("srp4ctr")
    sides = {"user": {"age": 1}, "candidate": WIDE, "sequences": {"history": WIDE}}
    if "needs a behaviour" in message:
        sides["sequences"] = {}
    with pytest.raises(ValueError, match=message):
        entry.body(entry.config(**given), Widths(**{**sides, **widths}))
