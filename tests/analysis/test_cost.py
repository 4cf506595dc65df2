"""The cost of models against formulas of their papers' layer sizes, and TensorFlow's own counts."""

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from tensorflow.python.framework import ops

# It registers the statistics.
from tensorflow.python.profiler.internal import flops_registry as flops_registry

from ctr_tf import cli
from ctr_tf.analysis.cost import Cost, bare_model, model_cost
from ctr_tf.analysis.operations import PRODUCTS, Flops, counted
from ctr_tf.analysis.sizes import Sizes
from ctr_tf.analysis.table import print_cost
from ctr_tf.layers.packing import padded
from ctr_tf.schema import Schema
from tests.cases import CASES, SMALL, batch, build, small_config
from tests.oracles.counts import (
    dense_flops,
    encoder_flops,
    gru_flops,
    mlp_flops,
    pooling_flops,
)
from tests.oracles.srp4ctr.flops import srp4ctr_flops

RATING = {"dtype": "int", "encoding": "identity", "size": 5}
LOG = {
    "keys": {"user": "user", "time": "time"},
    "features": {
        "city": {"kind": "categorical", "side": "user"},
        "hour": {"kind": "categorical", "side": "context"},
        "item": {"kind": "categorical"},
        "brand": {"kind": "categorical"},
    },
    "sequences": {
        "history": {
            "max_length": 6,
            "attributes": {"item": {}, "brand": {}, "rating": {"encoder": RATING}},
        }
    },
    "tasks": {"click": {"column": "click"}},
}
# Widths of the fields by side; behaviours are of width 3 D, 2 D of which a candidate has too.
D, L, N = 4, 6, 3
USER, CONTEXT, CANDIDATE, BEHAVIOUR = D, D, 2 * D, 3 * D
POOLED = 3 * pooling_flops(L, D)
FIELDS = USER + BEHAVIOUR + CONTEXT + CANDIDATE
UNITS = SMALL["units"]
FIRST, REST = UNITS[0], mlp_flops(UNITS[0], [*UNITS[1:], 1])


def cost_of(name, log=LOG, sizes=None, **given):
    model = bare_model(Schema(**log), small_config(name, **given))
    return model_cost(model, sizes or Sizes(candidates=N))


def assert_products(cost, user, once, candidate):
    assert cost.user.products == user
    assert cost.once.products == once
    assert cost.candidate.products == candidate
    assert cost.single.products == user + once + candidate
    assert cost.folded.products == user + once + N * candidate
    assert cost.row_wise.products == N * (user + once + candidate)


@pytest.mark.parametrize("name", ["flat_dnn", "wide_deep", "deepfm"])
def test_an_mlp_over_all_fields(name):
    """What is of first order and of pairs in linear time is no product of matrices."""
    cost = cost_of(name)
    user = POOLED + dense_flops(USER + BEHAVIOUR, FIRST)
    context = dense_flops(CONTEXT, FIRST)
    assert_products(cost, user, context, dense_flops(CANDIDATE, FIRST) + REST)
    assert cost.single.products == POOLED + mlp_flops(FIELDS, [*UNITS, 1])


def test_fm():
    assert_products(cost_of("fm"), POOLED, 0, 0)
    # Of a candidate, each sum over k terms from 0 on: k additions.
    sums = 2 * D + 2 * D + 2 * D  # Of two vectors, of their squares, and the squares.
    joined = 2 * D  # Both sums to the user's and context's.
    pairs = D + D + D + 1  # Square, difference, sum, half.
    linear = 2 + 1
    both, bias, link = 1, 1, 1
    assert cost_of("fm").candidate.others == sums + joined + pairs + linear + both + bias + link


@pytest.mark.parametrize("layers", [1, 3])
def test_dcn_v2(layers):
    """Equation 1: a matrix (F, F) a layer, and an MLP beside it."""
    cost = cost_of("dcn_v2", cross_layers=layers)
    both = FIELDS + FIRST
    rest = (layers - 1) * dense_flops(FIELDS, FIELDS)
    rest += mlp_flops(FIRST, UNITS[1:]) + dense_flops(FIELDS + UNITS[-1], 1)
    user = POOLED + dense_flops(USER + BEHAVIOUR, both)
    assert_products(cost, user, dense_flops(CONTEXT, both), dense_flops(CANDIDATE, both) + rest)
    unsplit = layers * dense_flops(FIELDS, FIELDS) + mlp_flops(FIELDS, UNITS)
    head = dense_flops(FIELDS + UNITS[-1], 1)
    assert cost.single.products == POOLED + unsplit + head


# Of a candidate in DIN's attention, and what both its parts come to in the MLP.
UNIT, *BEHIND = SMALL["attention_units"]
DIN_ATTENTION = dense_flops(CANDIDATE, UNIT)
DIN_ATTENTION += L * (dense_flops(CANDIDATE, UNIT) + mlp_flops(UNIT, [*BEHIND, 1]))
DIN_MLP = dense_flops(BEHAVIOUR + CANDIDATE, FIRST) + REST


def test_din():
    """Equation 3: an MLP over query, key, difference and product, a behaviour at a time."""
    user = L * dense_flops(BEHAVIOUR, UNIT) + dense_flops(USER, FIRST)
    context = dense_flops(CONTEXT, FIRST)
    assert_products(cost_of("din"), user, context, DIN_ATTENTION + DIN_MLP)


def test_din_folded():
    """MLP(e) W, of the user alone; a dot product a behaviour and their weighted sum."""
    folded = SMALL["folded_units"]
    user = L * mlp_flops(BEHAVIOUR, [*folded, CANDIDATE]) + dense_flops(USER, FIRST)
    candidate = L * dense_flops(CANDIDATE, 1) + pooling_flops(L, BEHAVIOUR) + DIN_MLP
    assert_products(cost_of("din", folded=True), user, dense_flops(CONTEXT, FIRST), candidate)


@pytest.mark.parametrize(("folded", "orders"), [(False, 1), (False, 2), (True, 2)])
def test_can(folded, orders):
    """A pass of each order through the micro-MLPs of item and brand, beside DIN.

    City is passed once, each of the three attributes once a behaviour or, folded, once; what a pair
    gives is the outputs of all layers.
    """
    name, width = ("can_folded", "can")[not folded], 3
    cost = cost_of(name, orders=orders, feed_width=width)
    din = cost_of("din", folded=folded)
    passes = 2 * (1 + 3 * (1 if folded else L)) * orders
    micro = SMALL["micro_units"]
    candidate = passes * mlp_flops(width, micro) + dense_flops(2 * 4 * sum(micro), FIRST)
    assert_products(cost, din.user.products, din.once.products, din.candidate.products + candidate)


@pytest.mark.parametrize("queries", [0, 3])
@pytest.mark.parametrize("uni", ["untied", "tied", "none"])
def test_srp4ctr(queries, uni):
    """Han et al. 2024, section 2: encoder and queries once, a row a layer a candidate."""
    encoder = {**SMALL["encoder"], "layers": 2}
    given = {
        "queries": queries,
        "uni_attention": uni,
        "query_features": ["city"] if queries else [],
    }
    cost = cost_of("srp4ctr", encoder=encoder, **given)
    width, hidden = encoder["width"], encoder["feed_forward"]
    user, candidate = srp4ctr_flops(
        L, width, hidden, 2, USER, 2 * width, [*UNITS, 1],
        queries or None, query_features=D, uni=uni != "none",
    )  # fmt: skip
    if not queries:
        # The oracle's weighted sum is a sum here.
        user -= pooling_flops(L, width)
    assert_products(cost, user, dense_flops(CONTEXT, FIRST), candidate)


@pytest.mark.parametrize("blocks", [1, 2])
def test_transformer(blocks):
    encoder = {**SMALL["encoder"], "layers": blocks}
    cost = cost_of("transformer", encoder=encoder)
    width, hidden = encoder["width"], encoder["feed_forward"]
    user = L * dense_flops(BEHAVIOUR, width) + blocks * encoder_flops(L, width, hidden)
    user += dense_flops(USER + width, FIRST)
    candidate = dense_flops(CANDIDATE, FIRST) + REST
    assert_products(cost, user, dense_flops(CONTEXT, FIRST), candidate)


def test_dien():
    """Equations 2-5 of the user, 8 and 11-12 of each candidate: its steps of h alone."""
    evolution = 5
    cost = cost_of("dien", evolution=evolution)
    user = gru_flops(L, BEHAVIOUR, BEHAVIOUR) + L * dense_flops(BEHAVIOUR, CANDIDATE)
    user += L * 3 * dense_flops(BEHAVIOUR, evolution) + dense_flops(USER, FIRST)
    candidate = L * dense_flops(CANDIDATE, 1) + L * 3 * dense_flops(evolution, evolution)
    candidate += dense_flops(evolution + CANDIDATE, FIRST) + REST
    assert_products(cost, user, dense_flops(CONTEXT, FIRST), candidate)


def test_mmoe():
    """Two tasks, each with a gate and a tower over three experts."""
    heads = {"kind": "mmoe", "experts": 3, "expert_units": [6, 5], "tower_units": [4]}
    tasks = {"click": {"column": "click"}, "buy": {"column": "buy"}}
    cost = cost_of("flat_dnn", {**LOG, "tasks": tasks}, heads=heads)
    candidate = dense_flops(CANDIDATE, FIRST) + mlp_flops(FIRST, UNITS[1:])
    candidate += 3 * mlp_flops(UNITS[-1], [6, 5])
    candidate += 2 * (dense_flops(UNITS[-1], 3) + pooling_flops(3, 5) + mlp_flops(5, [4, 1]))
    user = POOLED + dense_flops(USER + BEHAVIOUR, FIRST)
    assert_products(cost, user, dense_flops(CONTEXT, FIRST), candidate)


def test_values_words_and_vectors():
    tags = {"kind": "categorical", "multi": True, "max_values": 5}
    title = {"kind": "text", "max_tokens": 7}
    poster = {"kind": "vector", "table": "absent.npz", "width": 11}
    features = {**LOG["features"], "tags": tags, "title": title, "poster": poster}
    log = {**LOG, "features": features}
    plain = cost_of("flat_dnn").candidate.products

    def assert_added(values, words, sizes):
        cost = cost_of("flat_dnn", log, sizes)
        added = pooling_flops(values, D) + pooling_flops(words, D) + dense_flops(11, D)
        assert cost.candidate.products - plain == added + dense_flops(3 * D, FIRST)

    assert_added(5, 7, Sizes(candidates=N))
    assert_added(2, 3, Sizes(candidates=N, values=2, words=3))
    del tags["max_values"]
    assert_added(3, 7, Sizes(candidates=N))


def test_cost_by_length():
    """Of DIN it grows with the length, of the encoder with its square."""

    def by_length(name, part):
        model = bare_model(Schema(**LOG), small_config(name))
        costs = [model_cost(model, Sizes(1, N, length)) for length in (6, 12, 18)]
        return [getattr(cost, part).products for cost in costs]

    short, middle, long = by_length("din", "candidate")
    attention = SMALL["attention_units"]
    of_pair = dense_flops(CANDIDATE, attention[0]) + mlp_flops(attention[0], [*attention[1:], 1])
    assert long - middle == middle - short == 6 * of_pair
    short, middle, long = by_length("transformer", "user")
    encoder = small_config("transformer").encoder
    squares = 18**2 - 2 * 12**2 + 6**2
    assert long - 2 * middle + short == encoder.layers * 2 * 2 * encoder.width * squares


def test_padding_costs_no_product(rng):
    model = build("din", "full", rng)

    def products(features):
        given = {name: tf.constant(value) for name, value in features.items()}
        return counted(lambda: call(model, given))[1].products

    features = batch("full", rng, behaviours=5, filled=True)
    for name, value in features.items():
        if name.startswith("history"):
            features[name] = value[:, :3]
    short = products(features)
    for name, value in features.items():
        if name.startswith("history"):
            features[name] = np.pad(value, [(0, 0), (0, 9), *[(0, 0)] * (value.ndim - 2)])
    assert products(features) == short


def test_sessions_of_the_call():
    history = {**LOG["sequences"]["history"], "timestamps": True}
    log = {**LOG, "sequences": {"history": history}}
    # Of at most three sessions of three behaviours: two full ones, or one.
    two, one = (cost_of("dsin", log, Sizes(1, N, session=session)) for session in (3, 6))
    rows = encoder_flops(3, BEHAVIOUR, SMALL["feed_forward"])
    assert two.user.products - one.user.products == rows
    assert two.candidate == one.candidate


def call(model, features):
    return model.scores(model.item_tower(model.user_tower(features), features, features))


def products_of(graph):
    """Its products of matrices; none is hidden in a loop or function."""
    kinds = {op.type for op in graph.get_operations()}
    assert not kinds & {"While", "StatelessWhile", "If", "PartitionedCall"}
    return [op for op in graph.get_operations() if op.type in PRODUCTS]


@pytest.mark.parametrize(
    "name", ["dcn_v2", "autoint", "din", "can", "bst", "transformer", "srp4ctr"]
)
def test_products_are_those_of_tensorflow(rng, name):
    """Its statistics are of static shapes: of the padded form, whose positions are all valid."""
    model = build(name, "full", rng)
    features = {k: tf.constant(v) for k, v in batch("full", rng, filled=True).items()}
    _, cost = counted(lambda: call(model, features))
    with padded():
        function = tf.function(lambda: call(model, features), autograph=False)
        graph = function.get_concrete_function().graph
    products = products_of(graph)
    assert not {"Einsum"} & {op.type for op in products}  # Which it counts as nothing.
    stats = [ops.get_stats_for_node_def(graph, op.node_def, "flops").value for op in products]
    assert cost.products == sum(stats)


@pytest.mark.parametrize("name", ["bst", "fibinet", "transformer"])
def test_a_graph_of_unknown_sizes_runs_the_same_products(rng, name):
    """Each multiplies every element of its result by as many numbers as the axes it adds up."""
    model = build(name, "full", rng)
    features = {k: tf.constant(v) for k, v in batch("full", rng).items()}
    _, cost = counted(lambda: call(model, features))
    specs = {k: tf.TensorSpec([None] * len(v.shape), v.dtype) for k, v in features.items()}

    @tf.function(input_signature=[specs], autograph=False)
    def run(given):
        call(model, given)
        sizes = []
        for op in products_of(tf.compat.v1.get_default_graph()):
            last = -1
            if op.type == "Einsum":
                assert op.get_attr("equation") == b"abc,bcd->abd"
            elif op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x"):
                last = -2
            sizes.append(tf.size(op.outputs[0]) * tf.shape(op.inputs[0])[last])
        return tf.add_n(sizes)

    assert cost.products == 2 * int(run(features))


def test_users_and_parameters():
    one = cost_of("din")
    cost = cost_of("din", sizes=Sizes(users=5, candidates=N))
    assert cost.user.products == 5 * one.user.products
    assert cost.once.products == 5 * one.once.products
    assert (cost.candidate, cost.single) == (one.candidate, one.single)
    assert cost.row_wise.products == 5 * one.row_wise.products
    widths = {D: 5}  # City, hour, item, brand, rating.
    own = cost_of("flat_dnn", batch_norm=False)
    count = sum(i * o + o for i, o in zip([FIELDS, *UNITS], [*UNITS, 1]))
    assert (own.parameters, own.tables) == (count, widths)


def test_shards_cost_nothing():
    sharded = cost_of("din", embedding={"width": D, "shard_rows": 3})
    assert sharded.folded == cost_of("din").folded


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="candidates must be at least 1, got 0"):
        Sizes(candidates=0)
    with pytest.raises(ValueError, match="length must be at least 1, got -1"):
        Sizes(length=-1)


def test_the_table_says_all_of_it():
    console = Console(width=100, record=True)
    cost = Cost(
        Sizes(candidates=30), Flops(500, 10), Flops(3010, 61), Flops(100, 2), Flops(610, 13),
        Flops(605, 12), 1234, {16: 5, 1: 2},
    )  # fmt: skip
    print_cost("mine", CASES["full"].schema, cost, console)
    text = console.export_text()
    rows = {
        line.split("│")[1].strip(): [int(n.replace(",", "")) for n in line.split("│")[2:5]]
        for line in text.splitlines()
        if line.startswith("│")
    }
    assert rows == {
        "user part, once a request": [500, 10, 510],
        "candidate part, each": [100, 2, 102],
        "item tower, once a call": [10, 1, 11],
        "folded, one call": [3510, 71, 3581],
        "one user, one candidate": [610, 13, 623],
        # 610 + 29 * 605, 13 + 29 * 12.
        "row by row, 30 rows": [18155, 361, 18516],
    }
    text = " ".join(text.split())
    assert (
        "mine: B = 1, N = 30, L = 50 (history), M = 3 (interests, history_genres, genres), "
        "words = 64 (title), 10 behaviours a session" in text
    )
    # 3581 by 30, by 18516 and by 623.
    assert "A candidate of the folded call: 119, 0.1934 of row by row." in text
    assert "Folded / one user, one candidate: 5.75." in text
    assert "1,234 parameters besides tables; tables: 2 of width 1, 5 of width 16." in text


def test_the_command_needs_no_data(tmp_path, capsys):
    config = tmp_path / "mine.yaml"
    config.write_text(
        "prepared: absent\n"
        "schema:\n"
        "  features:\n"
        "    item: {kind: categorical}\n"
        "    poster: {kind: vector, table: absent.npz, width: 3}\n"
        "  tasks: {click: {column: click}}\n"
        "model: {name: flat_dnn, units: [5], embedding: {width: 4}}\n"
    )
    own = ["models", "--flops", str(config), "--candidates", "7", "--set", "model.units=[6]"]
    cli.app(own, standalone_mode=False)
    said = capsys.readouterr().out
    assert "mine: B = 1, N = 7" in said
    products = dense_flops(3, 4) + mlp_flops(8, [6, 1])
    (line,) = (line for line in said.splitlines() if "folded, one call" in line)
    assert f"{7 * products:,}" in line
