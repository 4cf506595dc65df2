"""MMoE against its equations."""

import numpy as np
import pytest

from tests.cases import HEADS, build
from tests.models.tasks import assert_outputs, gates, heads_on, networks, towers
from tests.oracles.multitask import mmoe_forward, mmoe_parameters
from tests.weights import array


@pytest.mark.parametrize("given", [{}, {"experts": 5, "expert_units": [4]}])
@pytest.mark.parametrize("tasks", [("click", "buy"), ("a", "b", "c")])
def test_logits_are_those_of_each_expert_alone(rng, given, tasks):
    heads, vector, own = heads_on("mmoe", rng, tasks, **given)
    network = heads.network
    experts = networks(network.experts)
    assert len(experts) == given.get("experts", 3)
    x = vector.reshape(6, 7)
    expected = mmoe_forward(x, experts, gates(network.gates), towers(network))
    assert_outputs(heads(vector, own), expected, own, tasks)


def test_equal_experts_are_one_shared_bottom(rng):
    heads, vector, own = heads_on("mmoe", rng)
    network = heads.network
    for layer in network.experts.dense:
        for variable in layer.weights:
            first = array(variable)[:1]
            variable.assign(np.broadcast_to(first, variable.shape))
    before = heads(vector)
    network.gates.gate.kernel.assign(rng.normal(size=network.gates.gate.kernel.shape))
    for task, logits in heads(vector).items():
        np.testing.assert_allclose(logits, before[task], atol=1e-5)


def test_parameter_count(rng):
    plain = build("dcn_v2", "full", rng)
    model = build("dcn_v2", "full", rng, heads=HEADS["mmoe"])
    width = plain.heads.dense["click"].kernel.shape[0]
    expected = mmoe_parameters(width, 3, [6, 5], 2, [4])
    assert model.count_params() - plain.count_params() == expected - 2 * (width + 1)
