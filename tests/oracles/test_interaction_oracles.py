"""Self-checks of the interaction oracles: hand-worked numbers, special cases and invariances."""

import numpy as np
import pytest

from .autoint import autoint_forward, autoint_parameters, interacting_layer
from .blocks import mlp, mlp_parameters
from .dcn_v2 import cross_full, cross_network
from .fibinet import bilinear, fibinet_forward, fibinet_parameters, senet, squeeze
from .finalmlp import bilinear_fusion, feature_gate, finalmlp_forward, finalmlp_parameters
from .interaction import (
    ffm_forward,
    ffm_parameters,
    fm_forward,
    fm_parameters,
    fmfm_forward,
    fmfm_parameters,
    fwfm_forward,
    fwfm_parameters,
    linear_vectors,
    pair_list,
)
from .interaction_deep import (
    concatenate,
    cross_products,
    cross_vector,
    dcn_forward,
    dcn_parameters,
    flat_dnn_forward,
    flat_dnn_parameters,
    wide_deep_forward,
)
from .pnn import (
    inner_factorised,
    inner_products,
    kernel_parameters,
    kernel_products,
    micro_network_products,
    outer_products,
    pnn_forward,
    pnn_parameters,
    product_sizes,
)
from .xdeepfm import cin, cin_parameters, xdeepfm_forward

BATCH, FIELDS, DIM = 3, 4, 2
PAIRS = FIELDS * (FIELDS - 1) // 2
ORDER = [2, 0, 3, 1]


def array(*values):
    return np.array(values, np.float64)


def random_layers(rng, *widths):
    return [
        (rng.normal(size=shape), rng.normal(size=shape[1])) for shape in zip(widths, widths[1:])
    ]


def size(weights):
    """Number of entries in nested lists and tuples of arrays; None has none."""
    if weights is None:
        return 0
    if isinstance(weights, (list, tuple)):
        return sum(size(part) for part in weights)
    return np.size(weights)


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, FIELDS, DIM))


@pytest.fixture
def first_order(rng):
    return rng.normal(size=(BATCH, FIELDS))


# Three fields with <0, 1> = 11, <0, 2> = 17 and <1, 2> = 39.
THREE = array([[1, 2], [3, 4], [5, 6]])
TWO = THREE[:, :2]


def test_fm():
    np.testing.assert_array_equal(fm_forward(THREE, array([1, 2, 3]), 0.5), [6.5 + 67])


def test_fm_equals_its_linear_time_form(x, first_order):
    # Rendle 2010, lemma 3.1.
    pairs = 0.5 * (x.sum(axis=1) ** 2 - (x**2).sum(axis=1)).sum(axis=1)
    expected = 0.3 + first_order.sum(axis=1) + pairs
    np.testing.assert_allclose(fm_forward(x, first_order, 0.3), expected)


def test_ffm():
    # (0, 1): 1 * 2, (0, 2): 3 * 4, (1, 2): 5 * 6; the diagonal is not read.
    x = array([[np.nan, 1, 3], [2, np.nan, 5], [4, 6, np.nan]])[..., None]
    np.testing.assert_array_equal(ffm_forward(x), [44])
    np.testing.assert_array_equal(ffm_forward(x, array([1, 2, 3]), 0.5), [50.5])


def test_ffm_of_equal_field_vectors_is_fm(x, first_order):
    tiled = np.repeat(x[:, :, None], FIELDS, axis=2)
    np.testing.assert_allclose(
        ffm_forward(tiled, first_order, 0.3), fm_forward(x, first_order, 0.3)
    )


def test_fwfm():
    # 2 * 11 - 17 + 39 / 2 = 24.5; nothing below the diagonal is read.
    strengths = array([np.nan, 2, -1], [np.nan, np.nan, 0.5], [np.nan] * 3)
    np.testing.assert_array_equal(fwfm_forward(THREE, strengths, array([1, 2, 3]), 0.5), [31])


def test_fwfm_of_unit_strengths_is_fm(x, first_order):
    ones = np.ones((FIELDS, FIELDS))
    np.testing.assert_allclose(
        fwfm_forward(x, ones, first_order, 0.3), fm_forward(x, first_order, 0.3)
    )


def test_fwfm_linear_vectors():
    np.testing.assert_array_equal(linear_vectors(TWO, array([1, 0], [0, -1])), [[1, -4]])
    np.testing.assert_array_equal(linear_vectors(TWO, array([[1, 1], [2, 0]])), [[3, 6]])


def test_fmfm():
    # [1, 2] M = 3 + 8 = 11, times 5.
    fields = [array([1, 2]), array([5])]
    np.testing.assert_array_equal(
        fmfm_forward(fields, [array([3], [4])], array([1, 1]), 0.5), [57.5]
    )


def test_fmfm_special_cases(rng, x, first_order):
    identity = np.eye(DIM)
    np.testing.assert_allclose(
        fmfm_forward(x, [identity] * PAIRS, first_order, 0.3), fm_forward(x, first_order, 0.3)
    )
    strengths = rng.normal(size=(FIELDS, FIELDS))
    scaled = [strengths[pair] * identity for pair in pair_list(FIELDS)]
    np.testing.assert_allclose(
        fmfm_forward(x, scaled, first_order, 0.3), fwfm_forward(x, strengths, first_order, 0.3)
    )
    # FFM whose vectors are v_i A_ij has M_ij = A_ij A_ji^T.
    maps = rng.normal(size=(FIELDS, FIELDS, DIM, DIM))
    matrices = [maps[i, j] @ maps[j, i].T for i, j in pair_list(FIELDS)]
    shown = np.einsum("bid,ijde->bije", x, maps)
    np.testing.assert_allclose(
        fmfm_forward(x, matrices, first_order, 0.3), ffm_forward(shown, first_order, 0.3)
    )


def test_field_order_of_factorisation_machines(rng, x, first_order):
    moved, moved_first = x[:, ORDER], first_order[:, ORDER]
    np.testing.assert_allclose(fm_forward(moved, moved_first, 0.0), fm_forward(x, first_order, 0.0))
    shown = rng.normal(size=(BATCH, FIELDS, FIELDS, DIM))
    np.testing.assert_allclose(
        ffm_forward(shown[:, ORDER][:, :, ORDER]), ffm_forward(shown), rtol=1e-12
    )
    strengths = rng.normal(size=(FIELDS, FIELDS))
    strengths = strengths + strengths.T
    np.testing.assert_allclose(
        fwfm_forward(moved, strengths[ORDER][:, ORDER], moved_first, 0.0),
        fwfm_forward(x, strengths, first_order, 0.0),
    )
    # A pair that changes sides takes the transpose.
    matrices = dict(zip(pair_list(FIELDS), rng.normal(size=(PAIRS, DIM, DIM))))
    moved_matrices = [
        matrices[i, j] if i < j else matrices[j, i].T
        for i, j in ((ORDER[a], ORDER[b]) for a, b in pair_list(FIELDS))
    ]
    np.testing.assert_allclose(
        fmfm_forward(moved, moved_matrices, moved_first, 0.0),
        fmfm_forward(x, list(matrices.values()), first_order, 0.0),
    )


def test_factorisation_machine_parameters():
    # Pan et al. 2018, in their table: m + m (n - 1) K and m + m K + n (n - 1) / 2, without bias.
    m, n, k = 50, FIELDS, 3
    assert fm_parameters(m, k) == 1 + m + m * k
    assert ffm_parameters(m, n, k, own_field=False, first_order=True) == 1 + m + m * (n - 1) * k
    assert fwfm_parameters(m, n, k) == 1 + m + m * k + n * (n - 1) // 2
    assert fmfm_parameters([20, 30], [k, k]) == 1 + m + m * k + k * k
    assert fmfm_parameters([20, 30], [k, 2]) == 1 + m + 20 * k + 30 * 2 + k * 2


def test_inner_products():
    np.testing.assert_array_equal(inner_products(TWO), [[5, 11, 11, 25]])
    np.testing.assert_array_equal(inner_products(THREE, "upper"), [[11, 17, 39]])
    with pytest.raises(ValueError, match="'lower'"):
        inner_products(TWO, "lower")


def test_outer_products(x):
    # [4, 6] is the sum of the fields.
    np.testing.assert_array_equal(outer_products(TWO), [[16, 24, 24, 36]])
    total = x.sum(axis=1)
    pooled = outer_products(x).reshape(BATCH, DIM, DIM)
    np.testing.assert_allclose(pooled, total[:, :, None] * total[:, None, :])
    # The trace of f f^T is <f, f>.
    np.testing.assert_allclose(
        np.trace(pooled, axis1=1, axis2=2), inner_products(x, "all").sum(axis=1)
    )
    np.testing.assert_allclose(outer_products(x[:, ORDER]), outer_products(x))


def test_inner_factorised(rng, x):
    theta = rng.normal(size=(FIELDS, 5))
    kernel = (theta[:, None] * theta[None, :]).reshape(FIELDS * FIELDS, 5)
    signals = inner_factorised(x, theta)
    np.testing.assert_allclose(signals, inner_products(x, "all") @ kernel)
    delta = np.einsum("bid,ih->bhd", x, theta)
    np.testing.assert_allclose(signals, (delta**2).sum(axis=2))


def test_kernel_products():
    # phi of one entry reads v_0[0] v_1[1] = 4; diagonal 1 * 3 - 2 * 4; twice <v_0, v_1> = 11.
    np.testing.assert_array_equal(kernel_products(TWO, array([[0, 1], [0, 0]])), [[4]])
    np.testing.assert_array_equal(kernel_products(TWO, array([1, -1])), [[-5]])
    np.testing.assert_array_equal(kernel_products(TWO, array(2)), [[22]])
    with pytest.raises(ValueError, match="got 4"):
        kernel_products(TWO, np.zeros((1, 2, 2, 2)))


def test_kernel_products_special_cases(rng, x):
    upper = inner_products(x, "upper")
    np.testing.assert_allclose(kernel_products(x, np.ones(PAIRS)), upper)
    np.testing.assert_allclose(kernel_products(x, np.ones((PAIRS, DIM))), upper)
    kernels = rng.normal(size=(PAIRS, DIM, DIM))
    no_first = np.zeros((BATCH, FIELDS))
    np.testing.assert_allclose(
        kernel_products(x, kernels).sum(axis=1), fmfm_forward(x, list(kernels), no_first, 0.0)
    )


def test_micro_network_products(rng, x):
    # Units that read +- the product columns; relu(a) - relu(-a) = a.
    columns = np.concatenate([np.zeros(2 * DIM), np.ones(DIM)])
    networks = [[(np.stack([columns, -columns], axis=1), np.zeros(2))]] * PAIRS
    signals = micro_network_products(x, networks)
    assert signals.shape == (BATCH, 2 * PAIRS)
    np.testing.assert_allclose(signals[:, ::2] - signals[:, 1::2], inner_products(x, "upper"))
    # [v_0, v_1] = [1, 2, 3, 4] in that order.
    kernel = array([1000], [100], [10], [1], [0], [0])
    np.testing.assert_array_equal(micro_network_products(TWO, [[(kernel, array(0))]]), [[1234]])


def test_pnn():
    # l_z = 1 + 2 + 3 + 4 and -10, l_p = 5 - 25 and 11, b = 11 and 1: relu [1, 2] -> 1 + 10 * 2.
    linear = array([1, -1], [1, -1], [1, -1], [1, -1])
    product = array([1, 0], [0, 1], [0, 0], [-1, 0])
    layers = [(array([1], [10]), array(0.5))]
    logits = pnn_forward(TWO, [inner_products(TWO)], linear, [product], array(11, 1), layers)
    np.testing.assert_array_equal(logits, [21.5])


def test_pnn_is_a_network_over_embeddings_and_products(rng, x):
    products = [inner_products(x, "upper"), outer_products(x)]
    linear, bias = rng.normal(size=(FIELDS * DIM, 5)), rng.normal(size=5)
    kernels = [rng.normal(size=(PAIRS, 5)), rng.normal(size=(DIM * DIM, 5))]
    layers = random_layers(rng, 5, 3, 1)
    logits = pnn_forward(x, products, linear, kernels, bias, layers)
    inputs = np.concatenate([x.reshape(BATCH, -1), *products], axis=1)
    joined = [(np.concatenate([linear, *kernels]), bias), *layers]
    np.testing.assert_allclose(logits, mlp(inputs, joined, "relu", final_linear=True)[:, 0])
    # Without product weights it is the network over the embeddings.
    zeros = [np.zeros_like(kernel) for kernel in kernels]
    np.testing.assert_allclose(
        pnn_forward(x, products, linear, zeros, bias, layers),
        flat_dnn_forward(x, [(linear, bias), *layers]),
    )
    # All ordered pairs hold every pair twice and the diagonal.
    ordered = np.zeros((FIELDS, FIELDS, 5))
    for pair, row in zip(pair_list(FIELDS), kernels[0]):
        ordered[pair] = row
    ordered = ordered.reshape(-1, 5)
    np.testing.assert_allclose(
        pnn_forward(
            x, [inner_products(x), products[1]], linear, [ordered, kernels[1]], bias, layers
        ),
        logits,
    )


def test_pnn_parameters(rng):
    sizes = product_sizes(FIELDS, DIM)
    assert sizes["inner_upper"] == sizes["kernel"] == PAIRS
    signals = sizes["inner_all"] + sizes["outer"]
    weights = [rng.normal(size=(FIELDS * DIM, 5)), np.zeros((signals, 5)), np.zeros(5)]
    weights += random_layers(rng, 5, 3, 1)
    assert pnn_parameters(FIELDS, DIM, signals, [5, 3]) == size(weights)
    assert kernel_parameters(FIELDS, DIM, "full") == size(np.zeros((PAIRS, DIM, DIM)))


def test_squeeze_and_senet():
    x = array([[1, 3], [2, 6]])
    np.testing.assert_array_equal(squeeze(x), [[2, 4]])
    np.testing.assert_array_equal(squeeze(x, "max"), [[3, 6]])
    # Mean: relu(2 - 4 / 4) = 1, a = relu [0.5, -3]; max: relu(3 - 6 / 4) = 1.5.
    reduce, expand = array([1], [-0.25]), array([0.5, -3])
    np.testing.assert_array_equal(senet(x, reduce, expand), [[[0.5, 1.5], [0, 0]]])
    np.testing.assert_array_equal(senet(x, reduce, expand, pooling="max"), [[[0.75, 2.25], [0, 0]]])
    # A negative hidden unit is cut before the second layer.
    np.testing.assert_array_equal(senet(-x, reduce, expand), np.zeros((1, 2, 2)))
    half = senet(x, np.zeros((2, 1)), expand, activation="sigmoid")
    np.testing.assert_array_equal(half, x / 2)
    with pytest.raises(ValueError, match="'sum'"):
        squeeze(x, "sum")


def test_bilinear():
    # [1, 2] W = [7, 10], times [3, 4].
    kernel = array([1, 2], [3, 4])
    np.testing.assert_array_equal(bilinear(TWO, kernel, "all"), [[[21, 40]]])
    np.testing.assert_array_equal(bilinear(TWO, kernel, "all", "inner"), [[61]])
    # Field 0 has W, field 1 has 2 W: [3, 4] 2 W = [30, 44], times [5, 6].
    each = bilinear(THREE, np.stack([kernel, 2 * kernel]), "each")
    np.testing.assert_array_equal(each, [[[21, 40], [35, 60], [150, 264]]])
    pairs = bilinear(THREE, np.stack([kernel, 0 * kernel, -kernel]), "interaction")
    np.testing.assert_array_equal(pairs, [[[21, 40], [0, 0], [-75, -132]]])
    with pytest.raises(ValueError, match="'pair'"):
        bilinear(TWO, kernel, "pair")
    with pytest.raises(ValueError, match="'outer'"):
        bilinear(TWO, kernel, "all", "outer")


def test_bilinear_special_cases(rng, x):
    kernel = rng.normal(size=(DIM, DIM))
    shared = bilinear(x, kernel, "all")
    for kind, number in (("each", FIELDS), ("each", FIELDS - 1), ("interaction", PAIRS)):
        np.testing.assert_allclose(bilinear(x, np.stack([kernel] * number), kind), shared)
    kernels = rng.normal(size=(PAIRS, DIM, DIM))
    np.testing.assert_allclose(
        bilinear(x, kernels, "interaction", "inner"), kernel_products(x, kernels)
    )
    # Inner products with one symmetric W do not see the order of the fields but in their own.
    symmetric = kernel + kernel.T
    np.testing.assert_allclose(
        np.sort(bilinear(x[:, ORDER], symmetric, "all", "inner"), axis=1),
        np.sort(bilinear(x, symmetric, "all", "inner"), axis=1),
    )


def test_fibinet(rng, x, first_order):
    reduce, expand = rng.normal(size=(FIELDS, 2)), rng.normal(size=(2, FIELDS))
    identity = np.eye(DIM)
    # No importance, W = 1 and no network: the factorisation machine.
    shallow = fibinet_forward(
        x, first_order, 0.3, reduce, 0 * expand, identity, identity, "all", []
    )
    np.testing.assert_allclose(shallow, fm_forward(x, first_order, 0.3))
    # With importance, a second machine over the re-weighted embeddings.
    weighted = senet(x, reduce, expand, pooling="max")
    shallow = fibinet_forward(
        x, first_order, 0.3, reduce, expand, identity, identity, "all", [], pooling="max"
    )
    expected = fm_forward(x, first_order, 0.3) + fm_forward(weighted, 0 * first_order, 0.0)
    np.testing.assert_allclose(shallow, expected)
    kernels = rng.normal(size=(2, PAIRS, DIM, DIM))
    layers = random_layers(rng, 2 * PAIRS * DIM, 5, 1)
    logits = fibinet_forward(x, first_order, 0.3, reduce, expand, *kernels, "interaction", layers)
    weighted = senet(x, reduce, expand)
    left, right = np.triu_indices(FIELDS, 1)
    p, q = (
        np.einsum("bpd,pde,bpe->bpe", v[:, left], w, v[:, right]).reshape(BATCH, -1)
        for v, w in zip((x, weighted), kernels)
    )
    deep = mlp(np.concatenate([p, q], axis=1), layers, "relu", final_linear=True)[:, 0]
    np.testing.assert_allclose(logits, 0.3 + first_order.sum(axis=1) + deep)


@pytest.mark.parametrize(("kind", "number"), [("all", 1), ("each", 4), ("interaction", 6)])
def test_fibinet_parameters(rng, kind, number):
    network = random_layers(rng, 2 * PAIRS * DIM, 5, 1)
    weights = [0.0, np.zeros((FIELDS, 2)), np.zeros((2, FIELDS)), network]
    kernels = np.zeros((number, DIM, DIM))
    count = fibinet_parameters(FIELDS, DIM, 2, kind, [5])
    assert count == size([*weights, kernels, kernels])
    assert fibinet_parameters(FIELDS, DIM, 2, kind, [5], shared=True) == size([*weights, kernels])
    inner = fibinet_parameters(FIELDS, DIM, 2, kind, [5], combine="inner")
    assert count - inner == 2 * PAIRS * (DIM - 1) * 5


def test_flat_dnn():
    # Inputs [1, 2, 3, 4, 7], in that order: relu(12347 - 12340) = 7 and relu(-7) = 0.
    kernel = array([10000, 0], [1000, 0], [100, 0], [10, 0], [1, -1])
    layers = [(kernel, array(-12340, 0)), (array([2], [9]), array(0.5))]
    np.testing.assert_array_equal(flat_dnn_forward(TWO, layers, values=array([7])), [14.5])
    assert flat_dnn_parameters(2, 2, [2], values=1) == size(layers)


def test_wide_deep(rng, x):
    crosses = cross_products(array([1, 1, 0], [1, 1, 1]), array([1, 1, 0], [0, 1, 1], [0, 0, 0]))
    np.testing.assert_array_equal(crosses, [[1, 0, 1], [1, 1, 1]])
    wide = rng.normal(size=(BATCH, 7))
    layers, silent = random_layers(rng, FIELDS * DIM, 5, 1), [(np.zeros((8, 1)), np.zeros(1))]
    np.testing.assert_allclose(wide_deep_forward(x, wide, 0.5, silent), 0.5 + wide.sum(axis=1))
    np.testing.assert_allclose(
        wide_deep_forward(x, 0 * wide, 0.0, layers), flat_dnn_forward(x, layers)
    )


def test_dcn_cross_layer():
    # x_0^T w = 3 - 2 = 1; then [2.5, 4] w = 6.5.
    x0 = array(1, 2)
    x1 = cross_vector(x0, x0, array(3, -1), array(0.5, 0))
    np.testing.assert_array_equal(x1, [2.5, 4])
    np.testing.assert_array_equal(cross_vector(x0, x1, array(1, 1), array(0, 0)), [9, 17])


def test_dcn():
    # Two cross layers give [9, 17]; deep relu(1 - 2) = 0 and relu(1 + 2) = 3.
    cross = [(array(3, -1), array(0.5, 0)), (array(1, 1), array(0, 0))]
    deep = [(array([1, 1], [-1, 1]), array(0, 0))]
    head = array([1], [10], [100], [1000])
    x = array([[1, 2]])
    np.testing.assert_array_equal(dcn_forward(x, cross, deep, (head, None)), [3179])
    split = dcn_forward(array([[1]]), cross, deep, (head, array(0.5)), values=array([2]))
    np.testing.assert_array_equal(split, [3179.5])
    assert dcn_parameters(2, 2, [2]) == size([cross, deep, head]) + 1
    # Wang et al. 2017, section 2.3: d m + m + (m^2 + m) (L_d - 1) of the deep network.
    d, m = 7, 5
    deep_count = d * m + m + (m * m + m) * 2
    assert dcn_parameters(d, 3, [m] * 3, bias=False) == d * 3 * 2 + deep_count + d + m


def test_dcn_cross_network_special_cases(rng):
    x0, w = rng.normal(size=5), rng.normal(size=(3, 5))
    crossed = cross_network(x0, [(row, np.zeros(5)) for row in w], cross_vector)
    # Without bias the output is a multiple of x_0 (Lian et al. 2018, theorem 2.1) ...
    np.testing.assert_allclose(crossed / x0, (crossed / x0)[0])
    # ... and DCN-v2 with equal rows w^T is the same network.
    full = [(np.tile(row[:, None], (1, 5)), np.zeros(5)) for row in w]
    np.testing.assert_allclose(crossed, cross_network(x0, full, cross_full))


def test_cin():
    # x_0^2 + 2 x_0 x_1 + 3 x_1 x_0 + 4 x_1^2 = [52, 108] at x_0 = [1, 2] and x_1 = [3, 4].
    weights = array([1, 2], [3, 4])[..., None]
    np.testing.assert_array_equal(cin(TWO, [(weights, None)]), [[160]])
    np.testing.assert_array_equal(cin(TWO, [(weights, array(-60))], "relu"), [[48]])
    # The second layer reads x^1 against x^0: x^1 x_0 - x^1 x_1 = [52, 108] * [-2, -2].
    layers = [(weights, None), (array([[1], [-1]]), None)]
    np.testing.assert_array_equal(cin(TWO, layers), [[160, -320]])


def test_cin_split_half():
    # Rows x_0^2, x_0 x_1, x_1 x_0 and x_1^2: sums 5, 11, 11, 25; the last two are pooled, the
    # first two go on: x_0^2 x_1 + 10 x_0 x_1 x_1 = [3 + 90, 16 + 320].
    weights = np.eye(4).reshape(2, 2, 4)
    second = array([0, 1], [0, 10])[..., None]
    split = cin(TWO, [(weights, None), (second, None)], split_half=True)
    np.testing.assert_array_equal(split, [[11, 25, 429]])
    with pytest.raises(ValueError, match="got 3"):
        cin(TWO, [(weights[..., :3], None), (second, None)], split_half=True)


def test_cin_equals_its_contraction(rng, x):
    first, second = rng.normal(size=(FIELDS, FIELDS, 3)), rng.normal(size=(3, FIELDS, 2))
    layers = [(first, rng.normal(size=3)), (second, rng.normal(size=2))]
    x1 = np.tanh(np.einsum("bid,bjd,ijh->bhd", x, x, first) + layers[0][1][:, None])
    x2 = np.tanh(np.einsum("bid,bjd,ijh->bhd", x1, x, second) + layers[1][1][:, None])
    expected = np.concatenate([x1.sum(axis=2), x2.sum(axis=2)], axis=1)
    np.testing.assert_allclose(cin(x, layers, "tanh"), expected)


def test_cin_degrees_and_fm(rng, x):
    layers = [(rng.normal(size=(FIELDS, FIELDS, 3)), None), (rng.normal(size=(3, FIELDS, 2)), None)]
    # Layer k is homogeneous of degree k + 1.
    np.testing.assert_allclose(cin(2 * x, layers), cin(x, layers) * array(4, 4, 4, 8, 8))
    upper = np.triu(np.ones((FIELDS, FIELDS)), 1)[..., None]
    zeros = np.zeros((BATCH, FIELDS))
    np.testing.assert_allclose(cin(x, [(upper, None)])[:, 0], fm_forward(x, zeros, 0.0))
    # The order of the fields goes with the weights.
    moved = [
        (layers[0][0][ORDER][:, ORDER], None),
        (layers[1][0][:, ORDER], None),
    ]
    np.testing.assert_allclose(cin(x[:, ORDER], moved), cin(x, layers))


def test_xdeepfm(rng, x, first_order):
    cin_layers = [
        (rng.normal(size=(FIELDS, FIELDS, 4)), None),
        (rng.normal(size=(2, FIELDS, 3)), None),
    ]
    kernel, layers = rng.normal(size=5), random_layers(rng, FIELDS * DIM, 5, 1)
    logits = xdeepfm_forward(x, first_order, 0.3, cin_layers, kernel, layers, split_half=True)
    explicit = cin(x, cin_layers, split_half=True) @ kernel
    wide_deep = wide_deep_forward(x, first_order, 0.3, layers)
    np.testing.assert_allclose(logits - wide_deep, explicit)
    bent = xdeepfm_forward(
        x, first_order, 0.3, cin_layers, kernel, layers, cin_activation="tanh", split_half=True
    )
    explicit = cin(x, cin_layers, "tanh", split_half=True) @ kernel
    np.testing.assert_allclose(bent - wide_deep, explicit)
    assert cin_parameters(FIELDS, [4, 3], split_half=True) == size([cin_layers, kernel])
    full = [np.zeros((FIELDS, FIELDS, 4)), np.zeros((4, FIELDS, 3)), np.zeros(7)]
    assert cin_parameters(FIELDS, [4, 3]) == size(full)
    assert cin_parameters(FIELDS, [4, 3], bias=True) == size(full) + 7


def test_interacting_layer_shares():
    # Scores 1 * [1, 1 + ln 3] give 1/4 and 3/4.
    one, ln3 = np.ones((1, 1, 1)), np.log(3)
    x = array([[1], [1 + ln3]])
    output = interacting_layer(x, one, one, 2 * one, None)
    assert output[0, 0, 0] == pytest.approx(2 * (1 + 0.75 * ln3))
    # With d' = 4 and weights 1/2 the scores are the same, scaled they are half: 1 to sqrt(3).
    half = np.full((1, 1, 4), 0.5)
    value = np.concatenate([one, np.zeros((1, 1, 3))], axis=2)
    plain = interacting_layer(x, half, half, value, None)
    assert plain[0, 0, 0] == pytest.approx(1 + 0.75 * ln3)
    scaled = interacting_layer(x, half, half, value, None, scaled=True)
    assert scaled[0, 0, 0] == pytest.approx(1 + np.sqrt(3) / (1 + np.sqrt(3)) * ln3)


def test_interacting_layer_residual_and_projection():
    # Zero scores take the mean of the values, 2 * 2 = 4.
    zero, two, x = np.zeros((1, 1, 1)), np.full((1, 1, 1), 2.0), array([[1], [3]])
    np.testing.assert_array_equal(interacting_layer(x, zero, zero, two, array([1])), [[[5], [7]]])
    np.testing.assert_array_equal(interacting_layer(x, zero, zero, two, array([-2])), [[[2], [0]]])
    np.testing.assert_array_equal(interacting_layer(x, zero, zero, -two, None), [[[0], [0]]])
    projected = interacting_layer(x, zero, zero, -two, array([1]), projection="relu")
    np.testing.assert_array_equal(projected, [[[1], [3]]])
    # The residual is activated before the sum: 4 + relu(-2 x).
    projected = interacting_layer(x, zero, zero, two, array([-2]), projection="relu")
    np.testing.assert_array_equal(projected, [[[4], [4]]])


def random_attention(rng, inputs, heads, width):
    kernels = [rng.normal(size=(heads, inputs, width)) for _ in range(3)]
    return (*kernels, rng.normal(size=(inputs, heads * width)))


@pytest.mark.parametrize("scaled", [False, True])
def test_interacting_layer_equals_its_contraction(rng, x, scaled):
    query, key, value, residual = random_attention(rng, DIM, 3, 5)
    scores = np.einsum("bmd,hde,bnf,hfe->bhmn", x, query, x, key)
    weights = np.exp(scores / np.sqrt(5) if scaled else scores)
    weights /= weights.sum(axis=-1, keepdims=True)
    heads = np.einsum("bhmn,bnd,hde->bmhe", weights, x, value)
    expected = np.maximum(heads.reshape(BATCH, FIELDS, 15) + x @ residual, 0)
    output = interacting_layer(x, query, key, value, residual, scaled)
    np.testing.assert_allclose(output, expected, rtol=1e-10)
    # Fields in another order come out in that order.
    moved = interacting_layer(x[:, ORDER], query, key, value, residual, scaled)
    np.testing.assert_allclose(moved, output[:, ORDER])


def test_autoint(rng, x):
    layers = [random_attention(rng, DIM, 2, 3), random_attention(rng, 6, 1, 4)]
    head = (rng.normal(size=(FIELDS * 4, 1)), rng.normal(size=1))
    deep = random_layers(rng, FIELDS * DIM, 5, 1)
    hidden = interacting_layer(interacting_layer(x, *layers[0]), *layers[1])
    logits = autoint_forward(x, layers, head)
    np.testing.assert_allclose(logits, (hidden.reshape(BATCH, -1) @ head[0] + head[1])[:, 0])
    hidden = x
    for layer in layers:
        hidden = interacting_layer(hidden, *layer, scaled=True, projection="relu")
    scaled = autoint_forward(x, layers, head, scaled=True, projection="relu")
    np.testing.assert_allclose(scaled, (hidden.reshape(BATCH, -1) @ head[0] + head[1])[:, 0])
    joint = autoint_forward(x, layers, head, deep)
    np.testing.assert_allclose(joint - logits, flat_dnn_forward(x, deep))
    assert autoint_parameters(FIELDS, DIM, [2, 1], [3, 4]) == size([layers, head])
    bare = [layer[:3] for layer in layers]
    count = autoint_parameters(FIELDS, DIM, [2, 1], [3, 4], residual=False)
    assert count == size([bare, head])


def test_feature_gate(rng):
    e = array([1, 2], [3, 4])
    # sigmoid(ln 3) = 3/4 and sigmoid(0) = 1/2; the hidden layer is relu, the last is linear.
    layers = [(array([1, -1]), array(0, 0)), (array([1, -1], [0, 0]), array(0, 0))]
    context = array([np.log(3)], [-1])
    np.testing.assert_allclose(feature_gate(e, context, layers), [[1.5, 1], [3, 4]])
    # A learned vector is one context for all rows.
    learned = feature_gate(e, context[0], layers)
    np.testing.assert_allclose(learned, feature_gate(e, np.stack([context[0]] * 2), layers))


def test_bilinear_fusion():
    # 0.5 + (1 - 2) + 4 + 3 + 2 (2 * 3 - 4); heads: 2 * 1 * 3 + 3 * 2 * 4.
    o1, o2, w1, w2 = array([1, 2]), array([3, 4]), array(1, -1), array(0, 1)
    one_head = array([[1, 0], [2, -1]])
    np.testing.assert_array_equal(bilinear_fusion(o1, o2, 0.5, w1, w2, one_head), [10.5])
    two_heads = array([[2]], [[3]])
    np.testing.assert_array_equal(bilinear_fusion(o1, o2, 0.5, w1, w2, two_heads), [33.5])
    np.testing.assert_array_equal(bilinear_fusion(o1, o2, 0.5, w1, w2, None), [3.5])


def test_bilinear_fusion_special_cases(rng):
    o1, o2 = rng.normal(size=(BATCH, 4)), rng.normal(size=(BATCH, 6))
    w1, w2, w3 = rng.normal(size=4), rng.normal(size=6), rng.normal(size=(2, 2, 3))
    logits = bilinear_fusion(o1, o2, 0.3, w1, w2, w3)
    # Heads are the diagonal blocks of one matrix.
    block = np.zeros((1, 4, 6))
    block[0, :2, :3], block[0, 2:, 3:] = w3
    np.testing.assert_allclose(logits, bilinear_fusion(o1, o2, 0.3, w1, w2, block))
    np.testing.assert_allclose(logits, bilinear_fusion(o2, o1, 0.3, w2, w1, np.swapaxes(w3, 1, 2)))


def test_finalmlp(rng, x):
    inputs = FIELDS * DIM
    streams = (random_layers(rng, inputs, 5, 4), random_layers(rng, inputs, 6))
    fusion = (0.3, rng.normal(size=4), rng.normal(size=6), rng.normal(size=(2, 2, 3)))
    silent = ([(np.zeros((3, inputs)), np.zeros(inputs))],) * 2
    contexts = (rng.normal(size=(BATCH, 3)), rng.normal(size=3))
    # A gate of zeros lets everything pass.
    plain = finalmlp_forward(x, streams, fusion)
    np.testing.assert_allclose(finalmlp_forward(x, streams, fusion, silent, contexts), plain)
    gates = (random_layers(rng, 3, 7, inputs), random_layers(rng, 3, inputs))
    logits = finalmlp_forward(x, streams, fusion, gates, contexts)
    e = concatenate(x)
    o1, o2 = (
        mlp(feature_gate(e, context, gate), stream, "relu", final_linear=False)
        for context, gate, stream in zip(contexts, gates, streams)
    )
    np.testing.assert_allclose(logits, bilinear_fusion(o1, o2, *fusion))
    # Linear streams of one layer without interaction are one linear layer.
    one, other = random_layers(rng, inputs, 4), random_layers(rng, inputs, 6)
    dual = finalmlp_forward(x, (one, other), (*fusion[:3], None), final_linear=True)
    kernel = one[0][0] @ fusion[1] + other[0][0] @ fusion[2]
    bias = 0.3 + one[0][1] @ fusion[1] + other[0][1] @ fusion[2]
    np.testing.assert_allclose(dual, e @ kernel + bias)


def test_finalmlp_parameters(rng):
    streams = (random_layers(rng, 8, 5, 4), random_layers(rng, 8, 6))
    fusion = (0.3, np.zeros(4), np.zeros(6), np.zeros((2, 2, 3)))
    gates = (random_layers(rng, 3, 7, 8), random_layers(rng, 2, 8))
    widths = ([5, 4], [6])
    assert finalmlp_parameters(8, widths, 2) == size([streams, fusion])
    count = finalmlp_parameters(8, widths, 2, gates=([3, 7], [2]), learned=2)
    assert count == size([streams, fusion, gates, np.zeros(2)])
    assert mlp_parameters([8, 5, 4]) == size(streams[0])


def test_zeros_give_the_bias(rng):
    x, first = np.zeros((BATCH, FIELDS, DIM)), np.zeros((BATCH, FIELDS))
    layers = [(rng.normal(size=(FIELDS * DIM, 5)), np.zeros(5)), (np.ones((5, 1)), np.zeros(1))]
    pairs = rng.normal(size=(PAIRS, DIM, DIM))
    pnn = [(np.ones((5, 1)), array(0.3))]
    attention = random_attention(rng, DIM, 2, 3)
    fusion = (0.3, np.ones(5), np.ones(5), np.ones((5, 1, 1)))
    every = [
        fm_forward(x, first, 0.3),
        ffm_forward(np.zeros((BATCH, FIELDS, FIELDS, DIM)), first, 0.3),
        fwfm_forward(x, np.ones((FIELDS, FIELDS)), first, 0.3),
        fmfm_forward(x, list(pairs), first, 0.3),
        wide_deep_forward(x, first, 0.3, layers),
        pnn_forward(x, [outer_products(x)], layers[0][0], [np.ones((4, 5))], np.zeros(5), pnn),
        fibinet_forward(
            x, first, 0.3, np.ones((4, 2)), np.ones((2, 4)), pairs, pairs, "interaction", []
        ),
        xdeepfm_forward(x, first, 0.3, [(np.ones((4, 4, 2)), None)], np.ones(2), layers),
        dcn_forward(x, [(np.ones(8), np.zeros(8))], layers[:1], (np.ones((13, 1)), array(0.3))),
        autoint_forward(x, [attention], (np.ones((24, 1)), array(0.3)), scaled=True),
        finalmlp_forward(x, (layers[:1], layers[:1]), fusion),
    ]
    for logits in every:
        np.testing.assert_array_equal(logits, np.full(BATCH, 0.3))
