"""Multi-task networks in the form that the oracles take, and heads on random representations."""

import numpy as np

from ctr_tf.models.heads import BinaryHeads
from ctr_tf.models.multitask import task_network
from tests.cases import HEADS, small_config
from tests.weights import array, randomise

TASKS = ("click", "buy")


def heads_on(kind, rng, tasks=TASKS, **given):
    """Heads of that kind with random weights, representations (2, 3, 7), and a body's own logit."""
    config = small_config("dcn_v2", heads={**HEADS[kind], **given}).heads
    heads = BinaryHeads(tasks, task_network(config, tasks))
    vector = rng.normal(size=(2, 3, 7)).astype("float32")
    own = rng.normal(size=(2, 3)).astype("float32")
    heads(vector)
    return randomise(heads, rng), vector, own


def networks(mlp):
    """(kernel, bias) pairs of each network of a ParallelMLP or of a list of ParallelDense."""
    dense = mlp if isinstance(mlp, list) else mlp.dense
    return [
        [(array(layer.kernel)[p], array(layer.bias)[p]) for layer in dense]
        for p in range(dense[0].networks)
    ]


def towers(network):
    """Each task's tower, its logit included."""
    return networks([*network.towers.dense, network.logits])


def gates(mixture):
    """(kernel, None) of each linear gate."""
    return [(kernel, None) for kernel in array(mixture.gate.kernel)]


def assert_outputs(found, expected, own, tasks=TASKS):
    """Logits (2, 3) of each task against expected (6, K), with the body's own logit added."""
    assert tuple(found) == tasks
    for k, task in enumerate(tasks):
        wanted = expected[:, k].reshape(2, 3) + own
        np.testing.assert_allclose(found[task], wanted, rtol=1e-4, atol=1e-5)
