"""Self-checks of the oracles of CAN and MIAN against numbers worked out by hand."""

from functools import partial

import numpy as np
import pytest

from .blocks import dense, mlp
from .can import (
    can_count,
    can_forward,
    co_action,
    co_action_sequence,
    co_actions,
    induction_count,
    micro_mlp,
    split_induction,
)
from .counts import dense_count, encoder_count, size
from .mian import (
    Block,
    behaviour_part,
    behaviour_states,
    global_interaction,
    item_behaviours,
    item_fields,
    item_rows,
    mian_count,
    mian_forward,
    row_attention,
)
from .transformer import encoder_block, layer_norm

LINEAR = {"activation": None, "last_activation": None}
# tanh of it is ln(3) / 2, so that scores of both signs give shares of 3/4 and 1/4.
EDGE = np.arctanh(np.log(3.0) / 2)


def array(*values):
    return np.array(values, np.float64)


def layers(rng, inputs, widths):
    """Random (kernel, bias) pairs."""
    return [
        (rng.normal(size=(i, o)), rng.normal(size=o))
        for i, o in zip([inputs, *widths[:-1]], widths)
    ]


def poisoned(x, mask):
    """`x` with NaN wherever `mask` is false."""
    x = np.array(x, np.float64)
    x[~np.asarray(mask)] = np.nan
    return x


def test_split_induction():
    (kernel, bias), (last, last_bias) = split_induction(np.arange(1, 10), [2, 2, 1])
    np.testing.assert_array_equal(kernel, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(bias, [5, 6])
    np.testing.assert_array_equal(last, [[7], [8]])
    np.testing.assert_array_equal(last_bias, [9])
    (kernel, bias), (last, _) = split_induction(np.arange(1, 7), [2, 2, 1], biases=False)
    np.testing.assert_array_equal(kernel, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(last, [[5], [6]])
    assert bias is None
    with pytest.raises(ValueError, match=r"shape \(9,\); got \(8,\)"):
        split_induction(np.ones(8), [2, 2, 1])


def test_micro_mlp_joins_all_layers():
    micro = split_induction(np.arange(1, 10), [2, 2, 1])
    # [1, 10] W + b = [31 + 5, 42 + 6]; [36, 48] . [7, 8] + 9.
    np.testing.assert_array_equal(micro_mlp(array(1, 10), micro, None, None), [36, 48, 645])
    small = split_induction(np.arange(1, 10) / 100, [2, 2, 1])
    hidden = np.tanh([0.36, 0.48])
    last = hidden @ [0.07, 0.08] + 0.09
    np.testing.assert_allclose(micro_mlp(array(1, 10), small), [*hidden, np.tanh(last)])
    found = micro_mlp(array(1, 10), small, last_activation=None)
    np.testing.assert_allclose(found, [*hidden, last])


def test_co_action_is_a_matrix_product():
    # One order, one linear layer without bias; one output is FM's inner product.
    induction = np.arange(1, 7)
    found = co_action(array(1, 10), induction, [2, 3], biases=False, **LINEAR)
    np.testing.assert_array_equal(found, array(1, 10) @ induction.reshape(2, 3))
    found = co_action(array(1, 10), array(3, 4), [2, 1], biases=False, **LINEAR)
    np.testing.assert_array_equal(found, [43])


def test_co_action_orders():
    feed, induction = array(2, 3), array(1, 10, 0.5)
    unit = partial(co_action, feed, widths=[2, 1], **LINEAR)
    # [2, 3], [4, 9] and [8, 27] against [1, 10], plus 1/2 each.
    orders = [32.5, 94.5, 278.5]
    np.testing.assert_array_equal(unit(induction, orders=3), [sum(orders)])
    np.testing.assert_array_equal(unit(induction, orders=3, combine="concat"), orders)
    np.testing.assert_array_equal(unit(induction, combine="concat"), unit(induction))
    # Independent orders: the second slice meets the squares.
    own = array(1, 10, 0.5, 100, 1000, 7)
    found = unit(own, orders=2, independent=True, combine="concat")
    np.testing.assert_array_equal(found, [32.5, 9407])
    repeated = np.tile(induction, 3)
    np.testing.assert_array_equal(
        unit(repeated, orders=3, independent=True), unit(induction, orders=3)
    )
    # Orders come first, layers within.
    found = co_action(array(2), array(1, 5), [1, 1, 1], 2, False, False, None, None, "concat")
    np.testing.assert_array_equal(found, [2, 10, 4, 20])
    with pytest.raises(ValueError, match="'mean'"):
        unit(induction, combine="mean")


def test_co_action_sequence_pools_outputs_or_inputs():
    feeds, mask, induction = array([1], [2], [np.nan]), [True, True, False], array(1, 0.5)
    unit = partial(co_action_sequence, widths=[1, 1])
    linear = partial(unit, feeds, mask, induction, **LINEAR)
    # Biases count once per behaviour or once.
    np.testing.assert_array_equal(linear(), [1.5 + 2.5])
    np.testing.assert_array_equal(linear(pool="inputs"), [3.5])
    found = linear(orders=2)
    np.testing.assert_array_equal(found, [1.5 + 2.5 + 1.5 + 4.5])
    np.testing.assert_array_equal(linear(orders=2, pool="inputs"), [3.5 + 9.5])
    np.testing.assert_allclose(unit(feeds, mask, induction), [np.tanh(1.5) + np.tanh(2.5)])
    np.testing.assert_array_equal(unit(feeds, [False] * 3, induction), [0])
    np.testing.assert_allclose(unit(feeds, [False] * 3, induction, pool="inputs"), [np.tanh(0.5)])
    with pytest.raises(ValueError, match="'max'"):
        unit(feeds, mask, induction, pool="max")


def test_co_actions_of_all_pairs():
    feeds = [array([1], [2], [np.nan]), array(10)]
    masks = [[True, True, False], None]
    pairs = partial(co_actions, widths=[1, 1], biases=False, **LINEAR)
    # Item features 3 and 5 against the sums 3 and 10.
    found = pairs(feeds, masks, [array(3), array(5)])
    np.testing.assert_array_equal(found, [9, 30, 15, 50])
    # Per pair: item vectors hold a slice per user feature, user vectors one per item feature.
    feeds = [array([1, 100], [2, 200], [np.nan, np.nan]), array(10, 1000)]
    found = pairs(feeds, masks, [array(3, 4), array(5, 6)], per_pair=True)
    np.testing.assert_array_equal(found, [3 * 3, 10 * 4, 300 * 5, 1000 * 6])


def test_can_forward_and_count(rng):
    widths, rows = [3, 2, 2], 2
    mask = np.array([[True, True, False, False], [False] * 4])
    feeds = [rng.normal(size=(rows, 4, 3)), rng.normal(size=(rows, 3))]
    wide = induction_count(widths, orders=2, independent=True)
    inductions = [rng.normal(size=(rows, wide))]
    user, context, item = (rng.normal(size=(rows, w)) for w in (1, 2, 3))
    options = {"orders": 2, "independent": True}
    head = layers(rng, 6 + 2 * 4, [3, 1])
    found = can_forward(
        [user], [context], [item], [poisoned(feeds[0], mask), feeds[1]], [mask, None],
        inductions, widths, head, "relu", **options,
    )  # fmt: skip
    for i in range(rows):
        pooled = np.zeros(4)
        for j in range(4):
            if mask[i, j]:
                pooled += co_action(feeds[0][i, j], inductions[0][i], widths, **options)
        single = co_action(feeds[1][i], inductions[0][i], widths, **options)
        joined = np.concatenate([user[i], context[i], item[i], pooled, single])
        np.testing.assert_allclose(found[i], mlp(joined, head, "relu", True).item())
    # Tables of 7 and 11 user rows, 5 item rows.
    count = partial(can_count, [7, 11], [5], widths, 6, [3, 1], orders=2)
    assert count(independent=True) == 5 * wide + (7 + 11) * 3 + size(head)
    assert count() == 5 * wide // 2 + (7 + 11) * 3 + size(head)
    assert count(per_pair=True) == 5 * wide + (7 + 11) * 3 + size(head)
    assert count(combine="concat") == count() + 2 * 4 * 3
    assert count(biases=False) == count() - 5 * 4


def test_induction_count_of_the_paper():
    # Section 5.1: 16 / 8 and 8 / 4.
    assert induction_count([16, 8, 4]) == 16 * 8 + 8 + 8 * 4 + 4
    assert induction_count([16, 8, 4], False, 3, True, partners=2) == 6 * 160
    assert induction_count([16, 8, 4], orders=3) == 172


def test_row_attention():
    rows, mask = array([EDGE, 0], [-EDGE, 5], [np.nan, np.nan]), [True, True, False]
    shares, pooled = row_attention(rows, mask, (array(1, 0), 0.0))
    np.testing.assert_allclose(shares, [0.75, 0.25, 0])
    np.testing.assert_allclose(pooled, [EDGE / 2, 1.25])
    # Weights and biases of each row: 0 + EDGE and 5 * 0.2 EDGE - 2 EDGE.
    own = array([0, 7], [0, EDGE / 5], [1, 1])
    shares, _ = row_attention(rows, mask, (own, array(EDGE, -2 * EDGE, 9)))
    np.testing.assert_allclose(shares, [0.75, 0.25, 0])
    # tanh bounds the scores: shares never pass e^2 / (1 + e^2).
    shares, _ = row_attention(array([1e6], [-1e6]), [True, True], (array(1), 0.0))
    np.testing.assert_allclose(shares[0] / shares[1], np.exp(2))
    shares, pooled = row_attention(rows, [False] * 3, (array(1, 0), 0.0))
    np.testing.assert_array_equal(shares, [0, 0, 0])
    np.testing.assert_array_equal(pooled, [0, 0])


def test_item_modules_join_the_item_first():
    np.testing.assert_array_equal(item_rows(array(1, 2), array([3], [4])), [[1, 2, 3], [1, 2, 4]])
    # The item is in every row, so that its part of the sum is the item.
    fields = array([EDGE], [-EDGE])
    found = item_fields(array(9), fields, (array(0, 1), 0.0))
    np.testing.assert_allclose(found, [9, EDGE / 2])
    states = array([EDGE], [-EDGE], [np.nan])
    found = item_behaviours(array(9), states, [True, True, False], (array(0, 1), 0.0))
    np.testing.assert_allclose(found, [9, EDGE / 2])
    found = item_behaviours(array(9), states, [False] * 3, (array(0, 1), 0.0))
    np.testing.assert_array_equal(found, [0, 0])


def random_block(rng, width):
    return Block(
        (rng.normal(size=(width, 3 * width)), rng.normal(size=3 * width)),
        (rng.normal(size=(width, width)), rng.normal(size=width)),
        layers(rng, width, [5, width]),
        [(rng.normal(size=width), rng.normal(size=width), 1e-3) for _ in range(2)],
    )


def test_behaviour_states(rng):
    mask = [True, True, False]
    rows = rng.normal(size=(3, 4))
    block = random_block(rng, 4)
    found = behaviour_states(poisoned(rows, mask), mask, 2, [block, block])
    once = encoder_block(rows, np.array(mask), 2, *block, "relu", pre=True)
    twice = encoder_block(once, np.array(mask), 2, *block, "relu", pre=True)
    np.testing.assert_allclose(found, [*twice[:2], np.zeros(4)])
    # No block leaves the behaviours; one behaviour attends to itself.
    np.testing.assert_array_equal(behaviour_states(rows, mask, 2, [])[:2], rows[:2])
    positions = rng.normal(size=(3, 4))
    found = behaviour_states(rows, mask, 2, [], positions=positions, final_norm=(2.0, 1.0, 0.0))
    np.testing.assert_allclose(found[:2], layer_norm(rows + positions, 2.0, 1.0, 0.0)[:2])
    found = behaviour_states(poisoned(rows, [True, False, False]), [True, False, False], 2, [block])
    x, (first, second) = rows[0], block.norms
    values = dense(layer_norm(x, *first), *block.projection)[8:]
    x = x + dense(values, *block.output)
    np.testing.assert_allclose(
        found[0], x + mlp(layer_norm(x, *second), block.feed_forward, "relu", True)
    )


def test_behaviour_part():
    rows, mask = array([1, 2], [3, 4], [np.nan, np.nan]), [True, True, False]
    np.testing.assert_array_equal(behaviour_part(rows, mask), [1, 2, 3, 4, 0, 0])
    np.testing.assert_array_equal(behaviour_part(rows, mask, "mean"), [2, 3])
    np.testing.assert_array_equal(behaviour_part(rows, mask, "sum"), [4, 6])
    np.testing.assert_array_equal(behaviour_part(rows, [False] * 3, "mean"), [0, 0])
    with pytest.raises(ValueError, match="'max'"):
        behaviour_part(rows, mask, "max")


def test_global_interaction():
    parts, scores = [array(EDGE, 4), array(8, 8)], [(array(1, 0), 0.0), (array(0, 0), -EDGE)]
    found = global_interaction(parts, scores)
    np.testing.assert_allclose(found, [0.75 * EDGE + 2, 5])
    found = global_interaction(parts, scores, combine="concat")
    np.testing.assert_allclose(found, [0.75 * EDGE, 3, 2, 2])
    # Parts of widths 1 and 2, brought to one before the score.
    projections = [(array([2]), array(EDGE - 2)), (array([1], [1]), None)]
    scores = [(array(1), 0.0), (array(0), -EDGE)]
    found = global_interaction([array(1), array(3, 5)], scores, projections)
    np.testing.assert_allclose(found, [0.75 * EDGE + 0.25 * 8])
    with pytest.raises(ValueError, match=r"one width to be summed; got \[1, 2\]"):
        global_interaction([array(1), array(3, 5)], [(array(1), 0.0), (array(1, 1), 0.0)])
    with pytest.raises(ValueError, match="'max'"):
        global_interaction(parts, [(array(1, 1), 0.0)] * 2, combine="max")


@pytest.mark.parametrize("combine", ["sum", "concat"])
@pytest.mark.parametrize("user_fields", [0, 2])
def test_mian_forward_and_count(rng, combine, user_fields):
    mask = np.array([[True, True, False], [False] * 3])
    item, context = rng.normal(size=(2, 2)), rng.normal(size=(2, 1, 3))
    user, rows = rng.normal(size=(2, user_fields, 5)), rng.normal(size=(2, 3, 4))
    blocks = [random_block(rng, 4) for _ in range(2)]

    def score(*shape):
        return rng.normal(size=shape), rng.normal(size=shape[:-1])

    behaviour_score, user_score, context_score = score(6), score(user_fields, 7), score(1, 5)
    widths = [2, 3, 12] + [10] * bool(user_fields) + [6] + [7] * bool(user_fields) + [5]
    projections = [layers(rng, width, [6])[0] for width in widths]
    global_scores = [score(6) for _ in widths]
    head = layers(rng, 6 if combine == "sum" else 6 * len(widths), [3, 1])
    found = mian_forward(
        item, poisoned(rows, mask), mask, user, context, 2, blocks,
        behaviour_score, user_score, context_score, global_scores, head, "relu",
        projections=projections, combine=combine,
    )  # fmt: skip
    for i in range(2):
        states = behaviour_states(rows[i], mask[i], 2, blocks)
        parts = [item[i], context[i, 0], np.where(mask[i][:, None], rows[i], 0).ravel()]
        parts += [user[i].ravel()] * bool(user_fields)
        parts.append(item_behaviours(item[i], states, mask[i], behaviour_score))
        if user_fields:
            parts.append(item_fields(item[i], user[i], user_score))
        # The only context field has weight 1.
        parts.append(np.concatenate([item[i], context[i, 0]]))
        joined = global_interaction(parts, global_scores, projections, combine)
        np.testing.assert_allclose(found[i], mlp(joined, head, "relu", True).item())
    scores = [behaviour_score, user_score, context_score, global_scores]
    held = size([blocks, scores, projections, head])
    count = partial(mian_count, 2, 4, 3, (user_fields, 5), (1, 3), 5, 2, [3, 1], combine=combine)
    assert count(project=6) == held
    assert count(project=6, project_bias=False) == held - 6 * len(widths)
    assert count(project=6, bias=False) == held - 2 * 16


def test_mian_count_without_projections():
    # Parts e_i (2), e_b (2) and R_ibim (4).
    encoder = encoder_count(2, 3)
    found = mian_count(2, 2, 5, (0, 0), (0, 0), 3, 1, [1], combine="concat", pool="mean")
    assert found == encoder + 5 + (3 + 3 + 5) + dense_count(2 + 2 + 4, 1)
