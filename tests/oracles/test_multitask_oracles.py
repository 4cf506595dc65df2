"""Self-checks of the multi-task oracles: hand-worked numbers, special cases and invariances."""

import numpy as np
import pytest

from .blocks import mlp, sigmoid
from .multitask import (
    bce,
    cgc_layer,
    esmm_forward,
    esmm_loss,
    mixture,
    mmoe_forward,
    mmoe_parameters,
    multitask_loss,
    ple_forward,
    ple_parameters,
    shared_bottom_forward,
    shared_bottom_parameters,
    towers_forward,
    towers_parameters,
)

BATCH, INPUTS, WIDTH = 4, 5, 3
LN2, LN3 = np.log(2), np.log(3)


def array(*values):
    return np.array(values, np.float64)


def random_layers(rng, *widths):
    return [
        (rng.normal(size=shape), rng.normal(size=shape[1])) for shape in zip(widths, widths[1:])
    ]


def random_towers(rng, tasks, inputs=WIDTH):
    return [random_layers(rng, inputs, 2, 1) for _ in range(tasks)]


def random_gate(rng, inputs, experts):
    return (rng.normal(size=(inputs, experts)), None)


def scalar(factor):
    """A network of one unit, factor * x."""
    return [(array([factor]), array(0))]


def uniform(experts):
    """A gate over one input that shares equally."""
    return (np.zeros((1, experts)), None)


def size(weights):
    """Number of entries in nested lists and tuples of arrays; None has none."""
    if weights is None:
        return 0
    if isinstance(weights, (list, tuple)):
        return sum(size(part) for part in weights)
    return np.size(weights)


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, INPUTS))


def test_towers():
    # relu(2 - 1) = 1 -> 3 * 1 + 1; relu(4 - 5) = 0 -> 1.
    tower = [(array([1]), array(-1)), (array([3]), array(1))]
    other = [(array([1]), array(-5)), (array([3]), array(1))]
    logits = towers_forward([array([2]), array([4])], [tower, other])
    np.testing.assert_array_equal(logits, [[4, 1]])


def test_shared_bottom():
    # Bottom relu(2 x - 2): 2 at x = 2, 0 at x = 0; towers 10 h and h - 1.
    bottom, towers = [(array([2]), array(-2))], [scalar(10), [(array([1]), array(-1))]]
    logits = shared_bottom_forward(array([2], [0]), bottom, towers)
    np.testing.assert_array_equal(logits, [[20, 1], [0, -1]])


def test_mixture():
    # Logits [0, ln 3] at x = 1 and [0, 0] at x = 0: 1/4 and 3/4, then halves.
    gate = (array([0, LN3]), None)
    mixed = mixture(array([1], [0]), [array([4, 0], [4, 0]), array([8, 4], [8, 4])], gate)
    np.testing.assert_allclose(mixed, [[7, 3], [6, 2]])
    biased = mixture(array([0]), [array([4]), array([8])], (array([0, 0]), array(LN3, 0)))
    np.testing.assert_allclose(biased, [[5]])


def test_mmoe():
    # Experts 4 x and 8 x; task 1 takes 1/4 and 3/4, task 2 halves; towers 1 and 10.
    gates = [(array([0, LN3]), None), uniform(2)]
    logits = mmoe_forward(array([1]), [scalar(4), scalar(8)], gates, [scalar(1), scalar(10)])
    np.testing.assert_allclose(logits, [[7, 60]])


def test_mmoe_of_one_or_equal_experts_is_shared_bottom(rng, x):
    expert, towers = random_layers(rng, INPUTS, 4, WIDTH), random_towers(rng, 2)
    expected = shared_bottom_forward(x, expert, towers)
    for number in (1, 3):
        gates = [random_gate(rng, INPUTS, number) for _ in range(2)]
        np.testing.assert_allclose(mmoe_forward(x, [expert] * number, gates, towers), expected)


def test_mmoe_order_of_experts_and_tasks(rng, x):
    experts = [random_layers(rng, INPUTS, WIDTH) for _ in range(3)]
    gates, towers = [random_gate(rng, INPUTS, 3) for _ in range(2)], random_towers(rng, 2)
    logits = mmoe_forward(x, experts, gates, towers)
    order = [2, 0, 1]
    moved = [(kernel[:, order], None) for kernel, _ in gates]
    np.testing.assert_allclose(mmoe_forward(x, [experts[i] for i in order], moved, towers), logits)
    np.testing.assert_allclose(mmoe_forward(x, experts, gates[::-1], towers[::-1]), logits[:, ::-1])


def first_level(shared_gate):
    """Experts 2 x, 4 x and the shared 6 x, equal shares."""
    return [[scalar(2)], [scalar(4)]], [scalar(6)], [uniform(2), uniform(2)], shared_gate


def test_cgc():
    x = array([1])
    tasks, shared = cgc_layer([x, x], x, *first_level(uniform(3)))
    np.testing.assert_array_equal(tasks, [[[4]], [[5]]])
    np.testing.assert_array_equal(shared, [[4]])
    assert cgc_layer([x, x], x, *first_level(None))[1] is None
    # Own experts come first in a task's gate: shares 3/4 and 1/4 of 2 and 6.
    level = (*first_level(None)[:2], [(array([LN3, 0]), None), uniform(2)], None)
    np.testing.assert_allclose(cgc_layer([x, x], x, *level)[0][0], [[3]])


def test_cgc_reads_every_part_its_own_input():
    # Experts 2 * 1, 4 * 2 and 6 * 3; every gate gives its first expert three times the others.
    inputs, shared_input = [array([1]), array([2])], array([3])
    gates = [(array([LN3, 0]), None), (array([LN3 / 2, 0]), None)]
    level = (*first_level(None)[:2], gates, (array([LN3 / 3, 0, 0]), None))
    tasks, shared = cgc_layer(inputs, shared_input, *level)
    np.testing.assert_allclose(tasks, [[[(3 * 2 + 18) / 4]], [[(3 * 8 + 18) / 4]]])
    np.testing.assert_allclose(shared, [[(3 * 2 + 8 + 18) / 5]])


@pytest.mark.parametrize(("chosen", "expected"), [(0, 2), (1, 4), (2, 6)])
def test_shared_gate_sees_all_experts(chosen, expected):
    x, kernel = array([1]), np.zeros((1, 3))
    kernel[0, chosen] = 1000
    _, shared = cgc_layer([x, x], x, *first_level((kernel, None)))
    np.testing.assert_allclose(shared, [[expected]])


def test_ple_of_two_levels():
    # Level 1: 4, 5 and shared 4. Level 2: task experts x, shared expert 10 x = 40 of the shared
    # mixture: (4 + 40) / 2 and (5 + 40) / 2.
    second = ([[scalar(1)], [scalar(1)]], [scalar(10)], [uniform(2), uniform(2)], None)
    levels, towers = [first_level(uniform(3)), second], [scalar(1), scalar(1)]
    np.testing.assert_array_equal(ple_forward(array([1]), levels, towers), [[22, 22.5]])
    # The gate of task 1 reads the task's own mixture, 4: shares 3/4 and 1/4.
    gate = (array([LN3 / 4, 0]), None)
    second = ([[scalar(1)], [scalar(1)]], [scalar(10)], [gate, uniform(2)], None)
    logits = ple_forward(array([1]), [first_level(uniform(3)), second], towers)
    np.testing.assert_allclose(logits, [[13, 22.5]])


def test_ple_without_task_experts_is_mmoe(rng, x):
    experts = [random_layers(rng, INPUTS, WIDTH) for _ in range(3)]
    gates, towers = [random_gate(rng, INPUTS, 3) for _ in range(2)], random_towers(rng, 2)
    np.testing.assert_allclose(
        ple_forward(x, [([[], []], experts, gates, None)], towers),
        mmoe_forward(x, experts, gates, towers),
    )


def test_ple_without_shared_experts_separates_the_tasks(rng, x):
    def level(inputs, shared_gate):
        experts = [[random_layers(rng, inputs, WIDTH)] for _ in range(2)]
        return experts, [], [random_gate(rng, inputs, 1) for _ in range(2)], shared_gate

    levels = [level(INPUTS, random_gate(rng, INPUTS, 2)), level(WIDTH, None)]
    towers = random_towers(rng, 2)
    logits = ple_forward(x, levels, towers)
    for task in range(2):
        chain = [layer for experts, *_ in levels for layer in experts[task][0]]
        alone = mlp(x, [*chain, *towers[task]], "relu", final_linear=True)
        np.testing.assert_allclose(logits[:, task], alone[:, 0])


def random_ple(rng, levels, own, shared, tasks):
    """Levels of experts INPUTS -> 4 -> WIDTH with gates."""
    built, inputs = [], INPUTS
    for level in range(levels):
        experts = [[random_layers(rng, inputs, 4, WIDTH) for _ in range(own)] for _ in range(tasks)]
        common = [random_layers(rng, inputs, 4, WIDTH) for _ in range(shared)]
        gates = [random_gate(rng, inputs, own + shared) for _ in range(tasks)]
        top = level + 1 == levels
        shared_gate = None if top else random_gate(rng, inputs, tasks * own + shared)
        built.append((experts, common, gates, shared_gate))
        inputs = WIDTH
    return built


def test_ple_order_of_tasks(rng, x):
    levels, towers = random_ple(rng, 2, 2, 1, 2), random_towers(rng, 2)
    moved = []
    for experts, common, gates, shared_gate in levels:
        if shared_gate is not None:
            shared_gate = (shared_gate[0][:, [2, 3, 0, 1, 4]], None)
        moved.append((experts[::-1], common, gates[::-1], shared_gate))
    np.testing.assert_allclose(
        ple_forward(x, moved, towers[::-1]), ple_forward(x, levels, towers)[:, ::-1]
    )


def test_parameters(rng):
    towers = random_towers(rng, 2)
    assert towers_parameters(WIDTH, 2, [2]) == size(towers)
    bottom = random_layers(rng, INPUTS, 4, WIDTH)
    assert shared_bottom_parameters(INPUTS, [4, WIDTH], 2, [2]) == size([bottom, towers])
    gates = [random_gate(rng, INPUTS, 3) for _ in range(2)]
    count = mmoe_parameters(INPUTS, 3, [4, WIDTH], 2, [2])
    assert count == size([[bottom] * 3, gates, towers])
    for levels in (1, 2, 3):
        count = ple_parameters(INPUTS, levels, 2, 1, [4, WIDTH], 2, [2])
        assert count == size([random_ple(rng, levels, 2, 1, 2), towers])


def test_esmm():
    # pCTR = sigmoid(0) = 1/2, pCVR = sigmoid(ln 3) = 3/4.
    output = esmm_forward(array([1]), scalar(0), scalar(LN3))
    assert output["ctr"] == pytest.approx([0.5])
    assert output["cvr"] == pytest.approx([0.75])
    assert output["ctcvr"] == pytest.approx([0.375])


def test_esmm_ctcvr_is_at_most_ctr(rng, x):
    output = esmm_forward(x, *random_towers(rng, 2, INPUTS))
    assert np.all(output["ctcvr"] <= output["ctr"])
    np.testing.assert_allclose(output["ctcvr"] / output["ctr"], output["cvr"])


def test_esmm_loss():
    # pCTR = 1/2 and pCTCVR = 3/8; a conversion without a click does not count.
    click, conversion = array(1, 1, 0, 0), array(1, 0, 0, 1)
    ctr, ctcvr = esmm_loss(click, conversion, np.zeros(4), np.full(4, LN3))
    np.testing.assert_allclose(ctr, [LN2] * 4)
    np.testing.assert_allclose(ctcvr, [-np.log(3 / 8)] + [-np.log(5 / 8)] * 3)


def test_esmm_loss_of_probabilities(rng):
    a, b, click, conversion = rng.normal(size=(4, 50))
    click, conversion = click > 0, conversion > 0
    p = sigmoid(a) * sigmoid(b)
    expected = -np.where(click & conversion, np.log(p), np.log(1 - p))
    np.testing.assert_allclose(esmm_loss(click, conversion, a, b)[1], expected)


def test_esmm_loss_of_large_logits():
    # A sure click and conversion that does not come costs log(e^1000 / 2).
    a = array(1000, 1000, -1000, -1000)
    _, ctcvr = esmm_loss(np.ones(4), array(1, 0, 1, 0), a, a)
    np.testing.assert_allclose(ctcvr, [0, 1000 - LN2, 2000, 0])


def test_bce():
    np.testing.assert_allclose(
        bce(array(1, 0, 1), array(0, LN3, LN3)), [LN2, 2 * LN2, np.log(4 / 3)]
    )
    np.testing.assert_array_equal(bce(array(1, 0), array(-1000, 1000)), [1000, 1000])


# Losses ln 2 and ln 4 in the first row, ln 4/3 and masked in the second.
LABELS = array([1, 0], [1, np.nan])
LOGITS = array([0, LN3], [LN3, 7])
MASK = np.array([[True, True], [True, False]])


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("weights", [(LN2 + 3 * np.log(4 / 3)) / 4, 2 * LN2]),
        ("count", [(LN2 + 3 * np.log(4 / 3)) / 2, 2 * LN2]),
        ("batch", [(LN2 + 3 * np.log(4 / 3)) / 2, LN2]),
        ("sum", [LN2 + 3 * np.log(4 / 3), 2 * LN2]),
    ],
)
def test_multitask_loss(reduction, expected):
    weights, task_weights = array(1, 3), [1, 10]
    total, losses = multitask_loss(LABELS, LOGITS, MASK, weights, task_weights, reduction)
    np.testing.assert_allclose(losses, expected)
    assert total == pytest.approx(expected[0] + 10 * expected[1])
    tiled = np.stack([weights, weights], axis=1)
    assert multitask_loss(LABELS, LOGITS, MASK, tiled, task_weights, reduction)[0] == total


def test_multitask_loss_defaults_and_degenerate_cases():
    labels, logits = np.nan_to_num(LABELS), LOGITS
    total, losses = multitask_loss(labels, logits)
    np.testing.assert_allclose(losses, bce(labels, logits).mean(axis=0))
    assert total == pytest.approx(losses.sum())
    # A repetition weight of 2 is a repeated row; a weight of 0 leaves it out.
    repeated = multitask_loss(labels[[0, 1, 1]], logits[[0, 1, 1]])[0]
    assert multitask_loss(labels, logits, weights=array(1, 2))[0] == pytest.approx(repeated)
    left_out = multitask_loss(labels, logits, weights=array(1, 0))[0]
    assert left_out == pytest.approx(multitask_loss(labels[:1], logits[:1])[0])
    # A task without samples has loss 0.
    nothing = multitask_loss(np.full((2, 2), np.nan), logits, mask=np.zeros((2, 2)))
    assert nothing[0] == 0.0
    np.testing.assert_array_equal(nothing[1], [0, 0])
    with pytest.raises(ValueError, match="'mean'"):
        multitask_loss(labels, logits, reduction="mean")


def test_zeros_are_finite():
    x = np.zeros((BATCH, INPUTS))
    zeros = [(np.zeros((INPUTS, WIDTH)), np.zeros(WIDTH))]
    tower = [(np.zeros((WIDTH, 1)), np.zeros(1))]
    gate = (np.zeros((INPUTS, 2)), None)
    level = ([[zeros], [zeros]], [zeros], [gate, gate], None)
    for logits in (
        shared_bottom_forward(x, zeros, [tower] * 2),
        mmoe_forward(x, [zeros] * 2, [gate] * 2, [tower] * 2),
        ple_forward(x, [level], [tower] * 2),
    ):
        np.testing.assert_array_equal(logits, np.zeros((BATCH, 2)))
