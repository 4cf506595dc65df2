"""Self-checks of the oracles against numbers worked out by hand or by scikit-learn."""

from functools import partial

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from .blocks import (
    activate,
    auc_pairs,
    batch_norm_inference,
    dense,
    dice,
    masked_moments,
    mlp,
    prelu,
    softmax_masked,
)
from .dcn_v2 import cross_full, cross_low_rank, cross_mixture, cross_network, dcn_v2_forward
from .deepfm import deepfm_forward, fm, fm_second_order
from .din import activation_unit, activation_unit_inputs, attention_pooling, din_forward

# Reads q * k of a one-dimensional (q, k): concat is [q, k, q - k, q * k].
PRODUCT = [(np.array([[0.0], [0.0], [0.0], [1.0]]), np.array([0.0]))]


def array(*values):
    return np.array(values, np.float64)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("linear", [-1.0, 3.0]),
        (None, [-1.0, 3.0]),
        ("relu", [0.0, 3.0]),
        ("sigmoid", [1 / (1 + np.e), 1 / (1 + np.exp(-3.0))]),
        ("tanh", [-0.7615941559557649, 0.9950547536867305]),
        (np.square, [1.0, 9.0]),
    ],
)
def test_dense_activations(activation, expected):
    # [1, 2] @ [[1, 1], [-1, 0.5]] + [0, 1] = [-1, 3]
    output = dense(array(1, 2), array([1, 1], [-1, 0.5]), array(0, 1), activation)
    np.testing.assert_allclose(output, expected, rtol=1e-14)


def test_unknown_activation_is_named():
    with pytest.raises(ValueError, match="'gelu'"):
        activate(array(1), "gelu")


def test_mlp_final_activation_and_lists():
    layers = [(array([2.0]), array(-1.0)), (array([-3.0]), array(1.0))]
    # relu(2 * 1 - 1) = 1, then -3 + 1 = -2
    assert mlp(array(1), layers, "relu", final_linear=True) == [-2.0]
    assert mlp(array(1), layers, "relu", final_linear=False) == [0.0]
    assert mlp(array(1), layers, ["relu", np.square], final_linear=False) == [4.0]
    with pytest.raises(ValueError, match="one entry per activated layer"):
        mlp(array(1), layers, ["relu"], final_linear=False)


def test_batch_norm():
    mean, variance, gamma, beta = array(1, 1), array(3, 0), array(2, 7), array(1, 4)
    output = batch_norm_inference(array(5, 1), mean, variance, gamma, beta, epsilon=1.0)
    np.testing.assert_array_equal(output, [5.0, 4.0])


def test_masked_moments():
    x = array([[1, 10], [3, 30]], [[999, np.nan], [5, 50]])
    mean, variance = masked_moments(x, np.array([[True, True], [False, True]]))
    np.testing.assert_allclose(mean, [3, 30])
    np.testing.assert_allclose(variance, [8 / 3, 800 / 3])
    # Weights 1, 3, 0, 4 are the same as repeated rows.
    mean, variance = masked_moments(x, array([1, 3], [0, 4]))
    repeated = array(1, 3, 3, 3, 5, 5, 5, 5)
    assert mean[0] == pytest.approx(repeated.mean())
    assert variance[0] == pytest.approx(repeated.var())
    with pytest.raises(ValueError, match="sum of 0.0"):
        masked_moments(x, np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"shape \(2, 2\); got \(2,\)"):
        masked_moments(x, np.ones(2))


def test_dice():
    # At the mean p = 1/2, so f = (1 + alpha) s / 2.
    assert dice(array(4), array(0.5), array(4), array(9), 1e-9) == pytest.approx([3.0])
    # (s - E) / sqrt(3 + 1) = ln 3, so p = 3/4: f = s (3/4 + alpha / 4) with s = 2 ln 3.
    s = 2 * np.log(3)
    assert dice(array(s), array(-1), array(0), array(3), 1.0) == pytest.approx([s / 2])
    # alpha = 1 is the identity; a vanishing variance at zero mean is PReLU.
    x = array(-2, 3)
    np.testing.assert_allclose(dice(x, 1.0, array(7, 8), array(2, 3), 1e-9), x)
    np.testing.assert_allclose(dice(x, 0.1, 0.0, 0.0, 1e-9), prelu(x, 0.1))


def test_prelu():
    np.testing.assert_array_equal(prelu(array(-2, 0, 3), array(0.5, 9, 9)), [-1, 0, 3])


def test_softmax_masked():
    weights = softmax_masked(array(np.log(1), np.log(3), 50), [True, True, False])
    np.testing.assert_allclose(weights, [0.25, 0.75, 0])
    np.testing.assert_array_equal(softmax_masked(array(1, 2), [False, False]), [0, 0])
    np.testing.assert_allclose(softmax_masked(array(1e4, 1e4), [True, True]), [0.5, 0.5])


def test_auc_pairs():
    # Pairs: .8 beats .4 and .6; .4 ties with .4 and loses to .6: 2.5 of 4.
    assert auc_pairs([1, 1, 0, 0], [0.8, 0.4, 0.4, 0.6]) == 0.625
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 80), rng.integers(0, 9, 80)
    assert auc_pairs(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    with pytest.raises(ValueError, match="2 positives and 0 negatives"):
        auc_pairs([1, 1], [0.1, 0.2])


def test_activation_unit_inputs_order():
    np.testing.assert_array_equal(
        activation_unit_inputs(array(2, 3), array([5, 7])), [[2, 3, 5, 7, -3, -4, 10, 21]]
    )


def test_activation_unit_hidden_layer():
    # Hidden: h = [q - k, q + k * q] before relu; output 10 h_0 + h_1 + 0.5, at q = 2.
    layers = [
        (array([0, 1], [0, 0], [1, 0], [0, 1]), array(0, 0)),
        (array([10], [1]), array(0.5)),
    ]
    # k = 1: relu[1, 4] -> 14.5; k = 4: relu[-2, 10] -> 10.5
    weights = activation_unit(array(2), array([1], [4]), layers, "relu")
    np.testing.assert_array_equal(weights, [14.5, 10.5])
    # Dice with alpha = 1 is linear: k = 4 gives -20 + 10 + 0.5.
    linear = partial(dice, alpha=1.0, mean=array(1, 2), variance=array(3, 4), epsilon=1e-9)
    weights = activation_unit(array(2), array([1], [4]), layers, [linear])
    np.testing.assert_allclose(weights, [14.5, -9.5])


def test_attention_pooling_raw_and_normalised():
    query, keys, mask = array(2), array([1], [3], [100]), [True, True, False]
    # Raw weights 2 and 6: 2 * 1 + 6 * 3.
    np.testing.assert_array_equal(attention_pooling(query, keys, mask, PRODUCT, None), [20])
    share = 1 / (1 + np.exp(-4.0))
    pooled = attention_pooling(query, keys, mask, PRODUCT, None, normalise=True)
    np.testing.assert_allclose(pooled, [(1 - share) + 3 * share])


@pytest.mark.parametrize("normalise", [False, True])
def test_all_padding_pools_to_zero(normalise):
    pooled = attention_pooling(array(2), array([1], [3]), [False] * 2, PRODUCT, None, normalise)
    np.testing.assert_array_equal(pooled, [0])


def test_din_forward_order_of_fields():
    mlp_layers = [
        (array([1, 0], [10, 0], [100, 0], [0, 1]), array(0, -5)),
        (array([1], [7]), array(0.25)),
    ]
    # user 1, pooled 20, context 3, candidate 4: relu[1 + 200 + 300, 4 - 5] -> 501 + 0 + 0.25
    inputs = ([array(1)], array(2), array([1], [3]), [True, True], [array(3)], [array(4)])
    assert din_forward(*inputs, PRODUCT, None, mlp_layers, "relu") == 501.25
    # A linear head adds 7 * -1.
    assert din_forward(*inputs, PRODUCT, None, mlp_layers, "linear") == 494.25


def test_cross_full():
    # W x = [3, 5] with x @ kernel; x0 * ([3, 5] + [1, -1]) + x
    kernel = array([1, 1], [1, 2])
    output = cross_full(array(2, 10), array(1, 2), kernel, array(1, -1))
    np.testing.assert_array_equal(output, [2 * 4 + 1, 10 * 4 + 2])
    # An asymmetric kernel tells W from its transpose: output 1 reads input 0.
    output = cross_full(array(1, 1), array(5, 0), array([0, 1], [0, 0]), array(0, 0))
    np.testing.assert_array_equal(output, [5, 5])


def test_cross_low_rank_by_hand_and_as_full():
    down, up, bias = array([1], [2]), array([3, 4]), array(1, 0)
    # V^T x = 5, U 5 = [15, 20], + bias [16, 20], * x0 [32, 200], + x
    x0, x = array(2, 10), array(1, 2)
    np.testing.assert_array_equal(cross_low_rank(x0, x, down, up, bias), [33, 202])
    np.testing.assert_array_equal(cross_full(x0, x, down @ up, bias), [33, 202])


def test_cross_mixture_linear_is_low_rank():
    down, up, bias = array([1], [2]), array([3, 4]), array(1, 0)
    x0, x = array(2, 10), array(1, 2)
    for count in (1, 3):
        experts = [(down, None, up)] * count
        output = cross_mixture(x0, x, experts, np.ones((2, count)), bias, activation=None)
        np.testing.assert_allclose(output, [33, 202], rtol=1e-14)


def test_cross_mixture_gates_and_nonlinearity():
    # Gate logits at x = 1 are 0 and ln 3.
    experts = [
        (array([1.0]), array([3.0]), array([2.0])),
        (array([2.0]), array([-1.0]), array([5.0])),
    ]
    gates, bias, x0, x = array([0, np.log(3)]), array(1), array(10), array(1)
    # relu: expert 1 is 10 (2 * 3 * 1 + 1) = 70, expert 2 is 10 (5 * 0 + 1) = 10.
    output = cross_mixture(x0, x, experts, gates, bias, "relu")
    np.testing.assert_allclose(output, [70 / 4 + 10 * 3 / 4 + 1])
    output = cross_mixture(x0, x, experts, gates, bias, "relu", gate="sigmoid")
    np.testing.assert_allclose(output, [70 / 2 + 10 * 3 / 4 + 1])
    # tanh goes around C as well: 2 tanh(3 tanh 1) and 5 tanh(-tanh 2).
    output = cross_mixture(x0, x, experts, gates, bias)
    first = 10 * (2 * np.tanh(3 * np.tanh(1)) + 1)
    second = 10 * (5 * np.tanh(-np.tanh(2)) + 1)
    np.testing.assert_allclose(output, [first / 4 + second * 3 / 4 + 1])
    with pytest.raises(ValueError, match="'relu'"):
        cross_mixture(x0, x, experts, gates, bias, gate="relu")


def test_cross_network_keeps_x0():
    # One-dimensional, W = 1, b = 0: x -> x0 x + x = 3 x; two layers from x0 = 2 give 2 * 9.
    layers = [(array([1.0]), array(0))] * 2
    np.testing.assert_array_equal(cross_network(array(2), layers, cross_full), [18])
    np.testing.assert_array_equal(cross_network(array(2), [], cross_full), [2])


def test_dcn_v2_structures():
    cross_layers = [(array([1.0]), array(0))] * 2
    deep = [(array([1.0, -1.0]), array(1, 1))]
    # Stacked: relu[18 + 1, -18 + 1] = [19, 0]; head 2 * 19 + 5.
    head = (array([2], [3]), array(5))
    assert dcn_v2_forward(array(2), cross_layers, deep, head, "stacked") == 43
    # Parallel: [18, relu(3), relu(-1)]; head 1 * 18 + 10 * 3 + 5.
    head = (array([1], [10], [100]), array(5))
    assert dcn_v2_forward(array(2), cross_layers, deep, head, "parallel") == 53
    low_rank = [(array([1.0]), array([1.0]), array(0))] * 2
    score = dcn_v2_forward(array(2), low_rank, deep, head, "parallel", cross=cross_low_rank)
    assert score == 53
    with pytest.raises(ValueError, match="'both'"):
        dcn_v2_forward(array(2), cross_layers, deep, head, "both")


def test_fm_second_order():
    # <1> . <2> + <1> . <3> + <2> . <3> = 11 + 17 + 39
    assert fm_second_order(array([1, 2], [3, 4], [5, 6])) == 67
    assert fm_second_order(array([1, 2])) == 0
    vectors = np.random.default_rng(0).normal(size=(7, 5))
    square_of_sum = (vectors.sum(0) ** 2 - (vectors**2).sum(0)).sum() / 2
    assert fm_second_order(vectors) == pytest.approx(square_of_sum, rel=1e-12)


def test_fm_and_deepfm():
    embeddings = array([1, 2], [3, 4])
    assert fm([0.5, -2], embeddings, 10) == 10 - 1.5 + 11
    # Deep: relu[1 + 20 + 300 + 4000, -1] -> 2 * 4321 + 0 - 1
    layers = [
        (array([1, -1], [10, 0], [100, 0], [1000, 0]), array(0, 0)),
        (array([2], [7]), array(-1)),
    ]
    assert deepfm_forward([0.5, -2], embeddings, 10, layers) == 19.5 + 8641
