"""Self-checks of the sequence oracles (DIEN, DSIN, BST) against numbers worked out by hand."""

from functools import partial

import numpy as np
import pytest

from .blocks import sigmoid, softmax_masked
from .bst import (
    Block,
    bst_count,
    bst_encode,
    bst_forward,
    bst_pool,
    bst_rows,
    index_positions,
    log_bucket,
    time_positions,
)
from .counts import dense_count, encoder_count, mlp_count, size
from .dien import (
    Gru,
    attention_weights,
    attention_weights_unit,
    auxiliary_loss,
    dien_count,
    dien_forward,
    dien_interest,
    gru_from_keras,
    gru_gates,
    gru_states,
    gru_step,
)
from .dsin import (
    Extractor,
    Lstm,
    activate_sessions,
    bi_lstm,
    bias_encoding,
    divide_sessions,
    dsin_count,
    dsin_forward,
    lstm_from_keras,
    lstm_step,
    session_interest,
    session_interests,
    session_rows,
)
from .transformer import layer_norm

LN3 = np.log(3.0)


def array(*values):
    return np.array(values, np.float64)


def gru(rng, inputs, hidden):
    """A cell of random weights."""
    shapes = [(inputs, hidden)] * 3 + [(hidden, hidden)] * 3 + [(hidden,)] * 3
    return Gru(*(rng.normal(size=shape) for shape in shapes))


def lstm(rng, inputs, hidden, peepholes=None):
    """A cell of random weights."""
    shapes = [(inputs, hidden)] * 4 + [(hidden, hidden)] * 4 + [(hidden,)] * 4
    shapes += [peepholes] * 3 if peepholes else []
    return Lstm(*(rng.normal(size=shape) for shape in shapes))


def layers(rng, inputs, widths):
    """Random (kernel, bias) pairs."""
    return [
        (rng.normal(size=(i, o)), rng.normal(size=o))
        for i, o in zip([inputs, *widths[:-1]], widths)
    ]


def norms(rng, width):
    """Two random normalisations."""
    return [(rng.normal(size=width), rng.normal(size=width), 1e-3) for _ in range(2)]


def poisoned(x, mask):
    """`x` with NaN wherever `mask` is false."""
    x = np.array(x, np.float64)
    x[~np.asarray(mask)] = np.nan
    return x


def one_unit_gru(candidate=1.0, state_candidate=0.0, reset=0.0, update=0.0):
    """One-dimensional cell whose gates have the given logits at any input."""
    zero = array([0])
    return Gru(
        input_update=zero,
        input_reset=zero,
        input_candidate=array([candidate]),
        state_update=zero,
        state_reset=zero,
        state_candidate=array([state_candidate]),
        bias_update=array(update),
        bias_reset=array(reset),
        bias_candidate=array(0),
    )


def test_counts():
    assert encoder_count(4, 7) == 4 * (16 + 4) + (4 * 7 + 7) + (7 * 4 + 4) + 4 * 4
    assert size([(np.zeros((2, 3)), None), 1e-3, "text", {"a": 1}.values()]) == 6


def test_gru_step_by_hand():
    # u = 3/4, r = 1/2, candidate tanh(2 * 0.5 + 1/2 * 4 * 0.25) = tanh(1.5).
    cell = one_unit_gru(candidate=2.0, state_candidate=4.0, update=LN3)
    update, candidate = gru_gates(array(0.5), array(0.25), cell)
    np.testing.assert_allclose([update, candidate], [[0.75], [np.tanh(1.5)]])
    state = gru_step(array(0.5), array(0.25), cell)
    np.testing.assert_allclose(state, [0.25 * 0.25 + 0.75 * np.tanh(1.5)])
    # Every gate reads its own matrices.
    cell = Gru(*(array([v]) for v in (1, 2, 3, 4, 5, 6)), *(array(v) for v in (0.1, 0.2, 0.3)))
    x, h = 0.5, 0.25
    u, r = sigmoid(x + 4 * h + 0.1), sigmoid(2 * x + 5 * h + 0.2)
    c = np.tanh(3 * x + r * 6 * h + 0.3)
    np.testing.assert_allclose(gru_step(array(x), array(h), cell), [(1 - u) * h + u * c])


def test_reset_before_and_after_differ_beyond_one_unit(rng):
    cell, x, h = gru(rng, 3, 4), rng.normal(size=3), rng.normal(size=4)
    gate = sigmoid(x @ cell.input_reset + h @ cell.state_reset + cell.bias_reset)
    for reset, recurrent in (
        ("after", gate * (h @ cell.state_candidate)),
        ("before", (gate * h) @ cell.state_candidate),
    ):
        _, found = gru_gates(x, h, cell, reset)
        expected = np.tanh(x @ cell.input_candidate + cell.bias_candidate + recurrent)
        np.testing.assert_allclose(found, expected)
    with pytest.raises(ValueError, match="'never'"):
        gru_gates(x, h, cell, "never")


@pytest.mark.parametrize("reset", ["after", "before"])
def test_gru_from_keras(rng, reset):
    kernel, recurrent = rng.normal(size=(3, 12)), rng.normal(size=(4, 12))
    bias = rng.normal(size=(2, 12)) if reset == "after" else rng.normal(size=12)
    x, h = rng.normal(size=3), rng.normal(size=4)
    if reset == "after":
        a, b = x @ kernel + bias[0], h @ recurrent + bias[1]
    else:
        a, b = x @ kernel + bias, h @ recurrent
    z, r = sigmoid(a[:4] + b[:4]), sigmoid(a[4:8] + b[4:8])
    inner = r * b[8:] if reset == "after" else (r * h) @ recurrent[:, 8:]
    expected = z * h + (1 - z) * np.tanh(a[8:] + inner)
    found = gru_step(x, h, gru_from_keras(kernel, recurrent, bias), reset=reset)
    np.testing.assert_allclose(found, expected)


def test_attentional_cells(rng):
    cell, x, h = gru(rng, 3, 4), rng.normal(size=3), rng.normal(size=4)
    update, candidate = gru_gates(x, h, cell)
    plain = gru_step(x, h, cell)
    # Attention 1 is the plain cell, but for AGRU, which takes the candidate whole.
    np.testing.assert_allclose(gru_step(x, h, cell, 1.0, "augru"), plain)
    np.testing.assert_allclose(gru_step(x, h, cell, 1.0, "aigru"), plain)
    np.testing.assert_allclose(gru_step(x, h, cell, 1.0, "agru"), candidate)
    np.testing.assert_allclose(gru_step(x, h, cell, 1.0, "augru_keep"), candidate)
    # Attention 0 keeps the state, but for the keep gate, and AIGRU, which still updates.
    np.testing.assert_allclose(gru_step(x, h, cell, 0.0, "augru"), h)
    np.testing.assert_allclose(gru_step(x, h, cell, 0.0, "agru"), h)
    np.testing.assert_allclose(gru_step(x, h, cell, 0.0, "augru_keep"), plain)
    np.testing.assert_allclose(gru_step(x, h, cell, 0.0, "aigru"), gru_step(0 * x, h, cell))
    np.testing.assert_allclose(
        gru_step(x, h, cell, 0.25, "augru"), h + 0.25 * update * (candidate - h)
    )
    with pytest.raises(ValueError, match="'lstm'"):
        gru_step(x, h, cell, kind="lstm")


def test_gru_states_carry_over_padding():
    # u = 1: states are tanh of the inputs.
    cell = one_unit_gru(update=1e3)
    states = gru_states(array([1], [2], [np.nan]), [True, True, False], cell)
    np.testing.assert_allclose(states, np.tanh([[1], [2], [2]]))
    # u = 1/2 from zero: 1/2 tanh(1), then the mean of that and tanh(2).
    states = gru_states(array([1], [2]), [True, True], one_unit_gru())
    first = np.tanh(1) / 2
    np.testing.assert_allclose(states, [[first], [(first + np.tanh(2)) / 2]])
    np.testing.assert_array_equal(gru_states(array([np.nan]), [False], cell), [[0]])


def test_attention_weights():
    # h W e = [h_0, h_1] [[1, 0], [0, 2]] [3, 5] = 3 h_0 + 10 h_1.
    states = array([LN3 / 3, 0], [0, 0], [9, 9])
    weight, target = array([1, 0], [0, 2]), array(3, 5)
    found = attention_weights(states, [True, True, False], target, weight)
    np.testing.assert_allclose(found, [0.75, 0.25, 0])
    # The unit of the released code, reading q * k with q = prelu(-2) = -0.5.
    unit = [(array([0], [0], [0], [1]), array(0))]
    found = attention_weights_unit(
        array([0], [2 * LN3]), [True, True], array(1), (array([-2]), array(0)), 0.25, unit
    )
    np.testing.assert_allclose(found, [0.75, 0.25])


def test_auxiliary_loss():
    states = array([[LN3], [7], [np.nan]], [[0], [np.nan], [np.nan]])
    behaviours = array([[9], [1], [np.nan]], [[9], [np.nan], [np.nan]])
    negatives = array([[np.nan], [-1], [np.nan]], [[np.nan], [np.nan], [np.nan]])
    mask = [[True, True, False], [True, False, False]]
    # One step: -log s(ln 3) - log(1 - s(-ln 3)) = 2 log(4 / 3).
    step = 2 * np.log(4 / 3)
    for reduction, count in (("sequences", 2), ("steps", 1), ("positions", 4)):
        found = auxiliary_loss(states, behaviours, negatives, mask, reduction=reduction)
        assert found == pytest.approx(step / count)
    # An MLP over [h, e] that is e alone: the same scores by ln 3 e.
    joined = [(array([0], [LN3]), array(0))]
    found = auxiliary_loss(states, behaviours, negatives, mask, joined)
    assert found == pytest.approx(step / 2)
    for reduction in ("sequences", "steps", "positions"):
        empty = np.zeros((2, 3), bool)
        assert auxiliary_loss(states, behaviours, negatives, empty, reduction=reduction) == 0
    # Scores of 1000 overflow nothing.
    far = auxiliary_loss([[[1e3], [0]]], [[[0], [1]]], [[[0], [1]]], [[True, True]])
    assert far == pytest.approx(1e3)
    with pytest.raises(ValueError, match="'batch'"):
        auxiliary_loss(states, behaviours, negatives, mask, reduction="batch")


@pytest.mark.parametrize("kind", ["gru", "aigru", "agru", "augru", "augru_keep"])
def test_dien_interest_of_one_behaviour(rng, kind):
    extractor, evolving = gru(rng, 3, 4), gru(rng, 4, 5)
    weight, target = rng.normal(size=(4, 2)), rng.normal(size=2)
    behaviours, mask = rng.normal(size=(3, 3)), [True, False, False]
    found = dien_interest(
        poisoned(behaviours, mask), mask, target, extractor, weight, evolving, kind
    )
    # The attention of a single step is 1.
    state = gru_step(behaviours[0], np.zeros(4), extractor)
    np.testing.assert_allclose(found, gru_step(state, np.zeros(5), evolving, 1.0, kind))
    empty = dien_interest(
        poisoned(behaviours, [False] * 3), [False] * 3, target, extractor, weight, evolving, kind
    )
    np.testing.assert_array_equal(empty, np.zeros(5))


def test_dien_interest_of_two_behaviours():
    # Extractor: h = tanh(e), u = 1. Attention (1/4, 3/4). AUGRU with u = 1 and W^h = 1.
    cell = one_unit_gru(update=1e3)
    behaviours = np.arctanh(array([0.1], [0.1 + 0.2]))
    weight, target = array([LN3 / 0.2]), array(1)
    found = dien_interest(behaviours, [True] * 2, target, cell, weight, cell, "augru")
    first = np.tanh(0.1) / 4
    np.testing.assert_allclose(found, [first / 4 + 0.75 * np.tanh(0.3)])
    # AGRU is the same here, as u = 1; AIGRU scales the inputs.
    found = dien_interest(behaviours, [True] * 2, target, cell, weight, cell, "agru")
    np.testing.assert_allclose(found, [first / 4 + 0.75 * np.tanh(0.3)])
    found = dien_interest(behaviours, [True] * 2, target, cell, weight, cell, "aigru")
    np.testing.assert_allclose(found, [np.tanh(0.75 * 0.3)])


def test_dien_forward_order_padding_and_count(rng):
    mask = np.array([[True, True, False], [False] * 3])
    behaviours, target = rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 2))
    user, context, item = (rng.normal(size=(2, w)) for w in (1, 2, 3))
    extractor, evolving = gru(rng, 3, 4), gru(rng, 4, 4)
    weight, mlp_layers = rng.normal(size=(4, 2)), layers(rng, 4 + 6, [3, 1])
    arguments = (extractor, weight, evolving, mlp_layers, "relu")
    found = dien_forward(
        [user], poisoned(behaviours, mask), mask, target, [context], [item], *arguments
    )
    interest = dien_interest(behaviours[0], mask[0], target[0], extractor, weight, evolving)
    joined = np.concatenate([user[0], interest, context[0], item[0]])
    hidden = np.maximum(joined @ mlp_layers[0][0] + mlp_layers[0][1], 0)
    np.testing.assert_allclose(found[0], (hidden @ mlp_layers[1][0] + mlp_layers[1][1]).item())
    assert np.isfinite(found).all()
    held = size([extractor, weight, evolving, mlp_layers])
    assert dien_count(3, 2, 4, 6, [3, 1]) == held
    # AGRU does without W^u, U^u and b^u.
    assert dien_count(3, 2, 4, 6, [3, 1], "agru") == held - dense_count(8, 4)


def test_divide_sessions():
    times = array(0, 1800, 3600, 5401, 5402, 5403, 9000, np.nan)
    mask = [True] * 7 + [False]
    divide = partial(divide_sessions, times, mask)
    # 30 minutes exactly hold a session together, a second more parts it.
    assert divide(sessions=9, length=9) == [[0, 1, 2], [3, 4, 5], [6]]
    assert divide(sessions=2, length=2) == [[4, 5], [6]]
    assert divide(sessions=9, length=1) == [[2], [5], [6]]
    assert divide(sessions=1, length=2, shortest=3) == [[4, 5]]
    assert divide(sessions=9, length=9, gap=1) == [[0], [1], [2], [3, 4, 5], [6]]
    assert divide_sessions(times, [False] * 8, 9, 9) == []


def test_session_rows_and_bias_encoding():
    behaviours = array([1, 10], [2, 20], [3, 30])
    rows, mask = session_rows(behaviours, [[0], [1, 2]], sessions=3, length=2)
    np.testing.assert_array_equal(mask, [[True, False], [True, True], [False, False]])
    np.testing.assert_array_equal(rows[0], [[1, 10], [0, 0]])
    np.testing.assert_array_equal(rows[1], [[2, 20], [3, 30]])
    last, last_mask = session_rows(behaviours, [[0], [1, 2]], 3, 2, align="end")
    np.testing.assert_array_equal(last[1:], rows[:2])
    np.testing.assert_array_equal(last_mask[:, 0], [False, True, True])
    with pytest.raises(ValueError, match="'middle'"):
        session_rows(behaviours, [[0]], 3, 2, align="middle")
    encoding = bias_encoding(array(0, 100, 200), array(0, 5), array(1, 2))
    assert encoding.shape == (3, 2, 2)
    np.testing.assert_array_equal(encoding[2, 1], [206, 207])


def plain_extractor(projection, feed_forward, norms=()):
    """Extractor of width 2 without bias encoding, W^O the identity."""
    zero = np.zeros(2)
    return Extractor(zero, zero, zero, (projection, None), (np.eye(2), None), feed_forward, norms)


def test_session_interest_uniform_attention():
    # Zero queries: every row attends evenly; V = x; feed-forward relu(x) - 1.
    projection = np.concatenate([np.zeros((2, 4)), np.eye(2)], axis=1)
    feed_forward = [(np.eye(2), np.zeros(2)), (np.eye(2), -np.ones(2))]
    weights = plain_extractor(projection, feed_forward)
    rows, mask = array([1, -2], [3, -6], [np.nan, np.nan]), [True, True, False]
    for heads in (1, 2):
        interest = partial(session_interest, rows, mask, heads, weights)
        # Mean [2, -4]: relu gives [2, 0], less 1.
        np.testing.assert_allclose(interest(residual=False), [1, -1])
        np.testing.assert_allclose(interest(residual=False, average="slots"), [2 / 3, -2 / 3])
        # x + mean: [3, -6], [5, -10]; relu - 1 on top: [5, -7], [9, -11].
        np.testing.assert_allclose(interest(), [7, -9])
    normed = plain_extractor(projection, feed_forward, [(1.0, 0.0, 0.0), (1.0, 0.0, 0.0)])
    # Rows become [1, -1] after attention; [1, -1] + [0, -1] = [1, -2], again [1, -1].
    np.testing.assert_allclose(session_interest(rows, mask, 1, normed), [1, -1])
    np.testing.assert_array_equal(session_interest(rows, [False] * 3, 1, normed), [0, 0])
    with pytest.raises(ValueError, match="'all'"):
        session_interest(rows, mask, 1, weights, average="all")
    with pytest.raises(ValueError, match="'d'"):
        session_interest(rows, mask, 1, weights, scale="d")


def test_session_attention_scale_and_shared_heads(rng):
    # The paper's form: one (d_h, d_h) matrix for every slice of the row, roots of d_model.
    d, heads, rows = 2, 3, rng.normal(size=(4, 6))
    matrices = [rng.normal(size=(d, d)) for _ in range(3)]
    parts = []
    for q in np.split(rows, heads, axis=1):
        query, key, value = (q @ matrix for matrix in matrices)
        scores = query @ key.T / np.sqrt(6)
        shares = np.array([softmax_masked(row, [True] * 4) for row in scores])
        parts.append(shares @ value)
    projection = np.concatenate([np.kron(np.eye(heads), m) for m in matrices], axis=1)
    output, feed_forward = rng.normal(size=(6, 6)), layers(rng, 6, [5, 6])
    zero = np.zeros(6)
    weights = Extractor(zero, zero, zero, (projection, None), (output, None), feed_forward)
    (w1, b1), (w2, b2) = feed_forward
    expected = np.maximum(np.concatenate(parts, axis=1) @ output @ w1 + b1, 0) @ w2 + b2
    interest = partial(session_interest, rows, [True] * 4, heads, weights, residual=False)
    np.testing.assert_allclose(interest(), expected.mean(axis=0))
    assert not np.allclose(interest(scale="head"), expected.mean(axis=0))


def test_lstm_step_by_hand():
    # Input, forget, output gates 3/4, 1/2, 3/4; new value tanh(2 * 0.5).
    zero, logit = array([0]), array(LN3)
    cell = Lstm(
        zero, zero, array([2]), zero, zero, zero, zero, zero, logit, array(0), array(0), logit
    )
    state, memory = lstm_step(array(0.5), array(9), array(0.4), cell)
    np.testing.assert_allclose(memory, [0.5 * 0.4 + 0.75 * np.tanh(1)])
    np.testing.assert_allclose(state, 0.75 * np.tanh(memory))
    # Peepholes: the old cell in the first two gates, the new one in the last.
    values = (array([1]), array([2]), array([3]))
    for peepholes in (values, [v[0] for v in values]):
        peeping = cell._replace(
            **dict(zip(("peep_input", "peep_forget", "peep_output"), peepholes))
        )
        state, memory = lstm_step(array(0.5), array(9), array(0.4), peeping)
        expected = sigmoid(0.8) * 0.4 + sigmoid(LN3 + 0.4) * np.tanh(1)
        np.testing.assert_allclose(memory, [expected])
        np.testing.assert_allclose(state, [sigmoid(LN3 + 3 * expected) * np.tanh(expected)])


def test_lstm_from_keras(rng):
    kernel, recurrent, bias = (rng.normal(size=s) for s in ((3, 8), (2, 8), (8,)))
    x, h, c = rng.normal(size=3), rng.normal(size=2), rng.normal(size=2)
    i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4)
    memory = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    found = lstm_step(x, h, c, lstm_from_keras(kernel, recurrent, bias))
    np.testing.assert_allclose(found, [sigmoid(o) * np.tanh(memory), memory])


def test_bi_lstm_directions(rng):
    forward, backward = lstm(rng, 2, 3), lstm(rng, 2, 3)
    rows = rng.normal(size=(3, 2))
    mask = [True, True, False]
    zero = np.zeros(3)
    first, memory = lstm_step(rows[0], zero, zero, forward)
    second, _ = lstm_step(rows[1], first, memory, forward)
    last, memory = lstm_step(rows[1], zero, zero, backward)
    before, _ = lstm_step(rows[0], last, memory, backward)
    found = bi_lstm(poisoned(rows, mask), mask, forward, backward)
    expected = [[*first, *before], [*second, *last], np.zeros(6)]
    np.testing.assert_allclose(found, expected)
    joined = bi_lstm(rows, mask, forward, backward, "sum")
    np.testing.assert_allclose(joined, [first + before, second + last, zero])
    np.testing.assert_allclose(bi_lstm(rows, mask, forward, backward, "mean"), joined / 2)
    with pytest.raises(ValueError, match="'max'"):
        bi_lstm(rows, mask, forward, backward, "max")


def test_activate_sessions():
    # Scores x W t = x_0 * 2 * 3 + x_1 * 5 * 7.
    interests = array([LN3 / 6, 0], [0, 0], [9, 9])
    weights, target = array([2, 0], [0, 5]), array(3, 7)
    found = activate_sessions(interests, [True, True, False], target, weights)
    np.testing.assert_allclose(found, [0.75 * LN3 / 6, 0])
    np.testing.assert_array_equal(
        activate_sessions(interests, [False] * 3, target, weights), [0, 0]
    )
    # DIN's unit, here the product of q_0 and k_0.
    unit = [(array(*([v] for v in (0, 0, 0, 0, 0, 0, 2, 0))), array(0))]
    found = activate_sessions(interests, [True, True, False], target, unit)
    np.testing.assert_allclose(found, [0.75 * LN3 / 6, 0])


def dsin_weights(rng, sessions, length, width, hidden):
    """Random extractor and both LSTMs with peephole matrices."""
    extractor = Extractor(
        *(rng.normal(size=n) for n in (sessions, length, width)),
        (rng.normal(size=(width, 3 * width)), None),
        (rng.normal(size=(width, width)), None),
        layers(rng, width, [5, width]),
        norms(rng, width),
    )
    return extractor, *(lstm(rng, width, hidden, (hidden, hidden)) for _ in range(2))


def test_dsin_single_behaviour(rng):
    extractor, forward, backward = dsin_weights(rng, 3, 2, 4, 3)
    row, target, user = rng.normal(size=4), rng.normal(size=(1, 2)), rng.normal(size=(1, 1))
    rows, mask = session_rows(row[None], [[0]], 3, 2)
    weights = rng.normal(size=(4, 2)), rng.normal(size=(6, 2))
    head = layers(rng, 1 + 4 + 6 + 2, [1])
    found = dsin_forward(
        [user], poisoned(rows, mask)[None], mask[None], target, [], [target], 2,
        extractor, forward, backward, *weights, head, "relu",
    )  # fmt: skip
    # The only row attends to itself, the only session has weight 1.
    x = row + extractor.bias_session[0] + extractor.bias_position[0] + extractor.bias_unit
    x = layer_norm(
        x + x @ extractor.projection[0][:, 8:] @ extractor.output[0], *extractor.norms[0]
    )
    (w1, b1), (w2, b2) = extractor.feed_forward
    x = layer_norm(x + np.maximum(x @ w1 + b1, 0) @ w2 + b2, *extractor.norms[1])
    zero = np.zeros(3)
    states = [lstm_step(x, zero, zero, cell)[0] for cell in (forward, backward)]
    joined = np.concatenate([user[0], x, *states, target[0]])
    np.testing.assert_allclose(found, joined @ head[0][0] + head[0][1])


def test_dsin_padding_and_count(rng):
    extractor, forward, backward = dsin_weights(rng, 3, 2, 4, 3)
    rows, target = rng.normal(size=(2, 3, 2, 4)), rng.normal(size=(2, 2))
    mask = np.array([[[1, 1], [1, 0], [0, 0]], np.zeros((3, 2))], bool)
    weights = rng.normal(size=(4, 2)), rng.normal(size=(6, 2))
    head = layers(rng, 4 + 6 + 2, [3, 1])
    arguments = ([], [target], 2, extractor, forward, backward, *weights, head, "relu")
    found = dsin_forward([], rows, mask, target, *arguments)
    np.testing.assert_array_equal(
        found, dsin_forward([], poisoned(rows, mask), mask, target, *arguments)
    )
    assert np.isfinite(found).all()
    held = size([extractor, forward, backward, *weights, head])
    assert dsin_count(4, 2, 3, 2, 5, 3, 2, [3, 1]) == held
    assert dsin_count(4, 2, 3, 2, 5, 3, 2, [3, 1], norms=False) == held - 16
    assert dsin_count(4, 2, 3, 2, 5, 3, 2, [3, 1], peepholes="vector") == held - 2 * 3 * (9 - 3)
    assert dsin_count(4, 2, 3, 2, 5, 3, 2, [3, 1], peepholes=None) == held - 2 * 3 * 9
    # One direction's width less in the second activation and the MLP.
    assert dsin_count(4, 2, 3, 2, 5, 3, 2, [3, 1], merge="sum") == held - 3 * 2 - 3 * 3
    assert dsin_count(4, 2, 3, 2, 5, 3, 2, [3, 1], bias=True) == held + 16


def test_dsin_sessions_share_the_extractor(rng):
    extractor, *_ = dsin_weights(rng, 2, 3, 4, 3)
    rows = np.repeat(rng.normal(size=(1, 3, 4)), 2, axis=0)
    mask = np.ones((2, 3), bool)
    moved, _ = session_interests(rows, mask, 2, extractor)
    assert not np.allclose(moved[0], moved[1])
    same = extractor._replace(bias_session=np.full(2, 0.3))
    found, present = session_interests(rows, mask, 2, same)
    np.testing.assert_allclose(found[0], found[1])
    assert present.all()


def test_log_bucket():
    assert [log_bucket(d, 5, base=10.0, unit=60.0) for d in (539, 540, 5940, 1e9)] == [0, 1, 2, 4]
    # The edges are exact: 2^k - 1 is the first difference of bucket k.
    for k in range(1, 40):
        assert log_bucket(2.0**k - 1, 64) == k
        assert log_bucket(2.0**k - 2, 64) == k - 1
    assert log_bucket(1e9, 1) == 0


def test_positions():
    found = time_positions([0, 97, 100, np.nan], [True, True, True, False], 100, buckets=8)
    # Differences 100, 3 and 0, then padding and the target.
    np.testing.assert_array_equal(found, [6, 2, 0, 0, 0])
    mask = [True, True, False]
    np.testing.assert_array_equal(index_positions(mask), [0, 1, 2, 3])
    np.testing.assert_array_equal(index_positions(mask, "recency"), [2, 1, 0, 0])
    with pytest.raises(ValueError, match="'random'"):
        index_positions(mask, "random")


def test_bst_rows():
    behaviours, target, table = array([1, 2], [3, 4]), array(5, 6), array([10, 20], [30, 40])
    rows = bst_rows(behaviours, target, [1, 0, 0], table)
    np.testing.assert_array_equal(rows, [[1, 2, 30, 40], [3, 4, 10, 20], [5, 6, 10, 20]])
    rows = bst_rows(behaviours, target, [1, 0, 0], table, "add")
    np.testing.assert_array_equal(rows, [[31, 42], [13, 24], [15, 26]])
    np.testing.assert_array_equal(bst_rows(behaviours, target, [], None)[2], target)
    with pytest.raises(ValueError, match="'mean'"):
        bst_rows(behaviours, target, [1, 0, 0], table, "mean")


def bst_block(projection, output, feed_forward, norm=(1.0, 0.0, 0.0)):
    return Block((projection, None), (output, None), feed_forward, [norm, norm])


def test_bst_zero_attention():
    zero, eye = np.zeros((2, 6)), np.eye(2)
    still = [(np.zeros((2, 2)), np.zeros(2))] * 2
    rows, mask = array([1, 3], [np.nan, np.nan], [5, 1]), [True, False]
    # Both parts zero: the normalised rows, twice.
    encoded = bst_encode(rows, mask, 1, [bst_block(zero, eye, still)], slope=0.1)
    np.testing.assert_allclose(encoded, [[-1, 1], [0, 0], [1, -1]])
    # Attention alone zero: [-1, 1] + leaky([-1, 1]) 10 = [-2, 11] with slope 0.1.
    leaky = [(eye, np.zeros(2)), (10 * eye, np.zeros(2))]
    block = bst_block(zero, eye, leaky)
    norm = (array(1, 1), array(0, 0), 12.0)
    encoded = bst_encode(rows, mask, 1, [block._replace(norms=[(1.0, 0.0, 0.0), norm])], 0.1)
    # Mean 4.5, variance 42.25: 6.5 / sqrt(42.25 + 12).
    scaled = 6.5 / np.sqrt(54.25)
    np.testing.assert_allclose(encoded, [[-scaled, scaled], [0, 0], [scaled, -scaled]])


def test_bst_uniform_attention_includes_the_target():
    # Zero queries, V = x: rows plus the mean of [0, 4] and [8, 0] = [4, 2].
    projection = np.concatenate([np.zeros((2, 4)), np.eye(2)], axis=1)
    still = [(np.zeros((2, 2)), np.zeros(2))] * 2
    rows = array([0, 4], [np.nan, np.nan], [8, 0])
    encoded = bst_encode(rows, [True, False], 2, [bst_block(projection, np.eye(2), still)], 0.1)
    np.testing.assert_allclose(encoded, [[-1, 1], [0, 0], [1, -1]])
    norm = (1.0, 0.0, 1e6)
    encoded = bst_encode(
        rows, [True, False], 2, [bst_block(projection, np.eye(2), still, norm)], 0.1
    )
    # [4, 6] and [12, 2] centred over 1e3, then again.
    np.testing.assert_allclose(encoded * 1e6, [[-1, 1], [0, 0], [5, -5]], rtol=1e-3)


def test_bst_pool():
    encoded = array([1, 2], [0, 0], [5, 6])
    mask = [True, False]
    np.testing.assert_array_equal(bst_pool(encoded, mask), [1, 2, 0, 0, 5, 6])
    np.testing.assert_array_equal(bst_pool(encoded, mask, "mean"), [3, 4])
    np.testing.assert_array_equal(bst_pool(encoded, mask, "target"), [5, 6])
    with pytest.raises(ValueError, match="'max'"):
        bst_pool(encoded, mask, "max")


@pytest.mark.parametrize("pool", ["flatten", "mean", "target"])
def test_bst_forward(rng, pool):
    width, mask = 4, np.array([[True, True, False], [False] * 3])
    behaviours, target, other = (rng.normal(size=s) for s in ((2, 3, 3), (2, 3), (2, 2)))
    blocks = [
        Block(
            (rng.normal(size=(width, 3 * width)), None),
            (rng.normal(size=(width, width)), None),
            layers(rng, width, [5, width]),
            norms(rng, width),
        )
        for _ in range(2)
    ]
    positions = np.array([index_positions(m, "recency") for m in mask])
    table = rng.normal(size=(4, 1))
    joined = width * 4 if pool == "flatten" else width
    head = layers(rng, 2 + joined, [3, 1])
    forward = partial(bst_forward, pool=pool)
    arguments = (target, positions, table, 2, blocks, 0.2, head, "relu")
    found = forward([other], poisoned(behaviours, mask), mask, *arguments)
    assert np.isfinite(found).all()
    rows = bst_rows(behaviours[0], target[0], positions[0], table)
    encoded = bst_encode(rows, mask[0], 2, blocks, 0.2)
    features = np.concatenate([other[0], bst_pool(encoded, mask[0], pool)])
    hidden = np.maximum(features @ head[0][0] + head[0][1], 0)
    np.testing.assert_allclose(found[0], (hidden @ head[1][0] + head[1][1]).item())
    # A row without behaviours is the target alone.
    alone = bst_encode(rows[-1:], [], 2, blocks, 0.2)
    empty = bst_encode(rows, [False] * 3, 2, blocks, 0.2)
    np.testing.assert_allclose(empty, [*np.zeros((3, width)), *alone])
    held = size([table, blocks, head])
    assert bst_count(3, 1, 4, 3, 5, 2, 2, [3, 1], pool) == held
    assert bst_count(3, 1, 4, 3, 5, 2, 2, [3, 1], pool, bias=True) == held + 2 * 4 * width
    assert mlp_count(2 + joined, [3, 1]) == size(head)
