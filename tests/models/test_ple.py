"""PLE, and CGC as its one level, against their equations."""

import numpy as np
import pytest

from tests.cases import HEADS, build
from tests.models.tasks import assert_outputs, gates, heads_on, networks, towers
from tests.oracles.multitask import ple_forward, ple_parameters
from tests.weights import array


def levels_of(network):
    """The oracle's levels."""
    own, found = network.config.task_experts, []
    for level in range(network.config.levels):
        experts = networks(network.task_experts[level])
        shared_gate = None
        if level < len(network.shared_gates):
            (shared_gate,) = gates(network.shared_gates[level])
        found.append(
            (
                [experts[own * k : own * (k + 1)] for k in range(len(network.tasks))],
                networks(network.shared_experts[level]),
                gates(network.gates[level]),
                shared_gate,
            )
        )
    return found


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("given", [{}, {"task_experts": 1, "shared_experts": 3}])
@pytest.mark.parametrize("tasks", [("click", "buy"), ("a", "b", "c")])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_logits_are_those_of_each_expert_alone(rng, levels, given, tasks, activation):
    given = {**given, "levels": levels, "activation": activation}
    heads, vector, own = heads_on("ple", rng, tasks, **given)
    network = heads.network
    expected = ple_forward(vector.reshape(6, 7), levels_of(network), towers(network), activation)
    assert_outputs(heads(vector, own), expected, own, tasks)


@pytest.mark.parametrize("levels", [1, 2])
def test_parameter_count(rng, levels):
    plain = build("dcn_v2", "full", rng)
    model = build("dcn_v2", "full", rng, heads={**HEADS["ple"], "levels": levels})
    width = plain.heads.dense["click"].kernel.shape[0]
    expected = ple_parameters(width, levels, 2, 1, [5], 2, [4])
    assert model.count_params() - plain.count_params() == expected - 2 * (width + 1)


def test_one_tasks_experts_do_not_reach_the_other_in_one_level(rng):
    heads, vector, _ = heads_on("ple", rng, levels=1)
    before = heads(vector)
    kernel = heads.network.task_experts[0].dense[0].kernel
    changed = array(kernel)
    changed[:2] += 1.0  # Of click.
    kernel.assign(changed)
    after = heads(vector)
    np.testing.assert_array_equal(after["buy"], before["buy"])
    assert np.abs(after["click"] - before["click"]).max() > 1e-3
