"""One training step of a model, without its update."""

import numpy as np
import tensorflow as tf

from tests.cases import labels_of, tile
from tests.weights import array


def step(model, features, labels, training):
    """Outputs, gradients and moving statistics of one pass over a batch.

    The loss is the cross-entropy summed over valid candidates.

    Returns:
        Outputs by task (B, N); weight path to dense gradient; weight path to moving statistic. The
        model's own statistics are put back.
    """
    statistics = model.non_trainable_variables
    before = [array(v) for v in statistics]
    with tf.GradientTape() as tape:
        outputs = model(features, training=training)
        losses = model.heads.losses_of(outputs, labels)
        mask = tf.cast(features["candidates_mask"], "float32")
        loss = sum(tf.reduce_sum(value * mask) for value in losses.values())
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [v.value for v in variables])
    dense = {
        v.path: None if g is None else array(tf.convert_to_tensor(g))
        for v, g in zip(variables, gradients)
    }
    after = {v.path: array(v) for v in statistics}
    for variable, value in zip(statistics, before):
        variable.assign(value)
    return {task: array(value) for task, value in outputs.items()}, dense, after


def both_ways(model, case, features, rng):
    """A training step of a batch of requests, and one of its candidates row by row.

    Returns:
        What `step` returns of each; the position of each row among the requests' candidates.
    """
    labels = labels_of(case, features, rng)
    rows, positions = tile(case, features)
    at = tuple(positions.T)
    row_labels = {task: value[at][:, None] for task, value in labels.items()}
    shaped = step(model, features, labels, training=True)
    return shaped, step(model, rows, row_labels, training=True), at


def assert_same(found, expected, tolerance):
    """Arrays by name agree to a tolerance of the largest value each."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance * scale, err_msg=name)
