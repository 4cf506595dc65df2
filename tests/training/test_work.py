"""Work of a step, counted: rows of tables read and written, positions multiplied."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.optimizers.build import build_optimizer, grouped
from ctr_tf.training.config import TrainConfig
from ctr_tf.training.step import TrainStep
from tests.cases import batch, build
from tests.training.memory_input import MemoryInput, dcn

READS = {"ResourceGather", "ReadVariableOp"}
WRITES = {"ResourceScatterUpdate", "ResourceScatterAdd", "ResourceScatterSub", "AssignVariableOp"}


def counted(step, features):
    """Runs one update; the operations on each table and slot, with the rows that each names."""
    variables = {"table": step.model.embedder.tables.weights[0]}
    variables |= {
        name: own[0]
        for name, own in grouped(step.optimizer).table_slots([variables["table"]]).items()
    }
    seen = []

    @tf.function
    def update(given):
        step._update([given], tf.constant(0.0))
        graph = tf.compat.v1.get_default_graph()
        handles = {graph.capture(v.value.handle).name: name for name, v in variables.items()}
        found = [
            op
            for op in graph.get_operations()
            if op.inputs and op.inputs[0].name in handles and op.type in READS | WRITES
        ]
        seen.extend((handles[op.inputs[0].name], op.type) for op in found)
        sizes = [tf.size(op.inputs[1]) if len(op.inputs) > 1 else tf.constant(-1) for op in found]
        return tf.stack(sizes)

    sizes = update(features).numpy().tolist()
    return Counter((name, kind, size) for (name, kind), size in zip(seen, sizes))


@pytest.mark.parametrize("rows", [50, 5000])
@pytest.mark.parametrize("name, slots", [("adam", 2), ("row_wise_adagrad", 1), ("sgd", 0)])
def test_rows_read_and_written_are_those_of_the_batch(rows, name, slots):
    data, model = MemoryInput(8), dcn(rows=rows)
    configs = TrainConfig(tables={"name": name}).optimizers(1)
    step = TrainStep(model, build_optimizer(model, configs), tf.distribute.get_strategy(), {})
    (given,) = data.training(0)
    given.pop("ids")
    items = given["features"]["item_id"].numpy()
    behaviours = given["features"]["history_item_id"].numpy()
    behaviours = behaviours[given["features"]["history_mask"].numpy()]
    distinct = len(np.unique(np.concatenate([items.reshape(-1), behaviours])))
    expected = Counter(
        {
            # Of both towers at once: candidates, padded to the batch, and valid behaviours.
            ("table", "ResourceGather", items.size + behaviours.size): 1,
            ("table", "ResourceGather", distinct): 1,
            ("table", "ResourceScatterUpdate", distinct): 1,
        }
    )
    for i in range(slots):
        expected[(f"slot_{i}", "ResourceGather", distinct)] = 1
        expected[(f"slot_{i}", "ResourceScatterUpdate", distinct)] = 1
    assert counted(step, given) == expected


@pytest.mark.parametrize("behaviours", [5, 17])
def test_the_activation_unit_multiplies_valid_behaviours_alone(rng, behaviours):
    model = build("din", "full", rng)
    features = batch("full", rng, behaviours=5)
    pad = behaviours - 5
    for name, value in features.items():
        if name.startswith("history"):
            features[name] = np.pad(value, [(0, 0), (0, pad), *[(0, 0)] * (value.ndim - 2)])
    valid = int(features["history_mask"].sum())
    candidates = features["candidates_mask"].shape[1]
    wanted = {(4 * 2, 5), (5, 3), (3, 1)}

    @tf.function
    def run(features):
        model(features, training=True)
        graph = tf.compat.v1.get_default_graph()
        found = [
            op
            for op in graph.get_operations()
            if op.type == "MatMul" and tuple(op.inputs[1].shape) in wanted
        ]
        shapes = [tuple(op.inputs[1].shape) for op in found]
        counts.append(shapes)
        return tf.stack([tf.shape(op.inputs[0])[0] for op in found])

    counts = []
    rows = run({k: tf.constant(v) for k, v in features.items()}).numpy()
    of = dict(zip(counts[0], rows))
    # q * k of each valid pair; then the second layer and the score.
    assert of[(5, 3)] == of[(3, 1)] == valid * candidates
    assert of[(8, 5)] == valid * candidates


@pytest.mark.parametrize("behaviours", [8, 17])
def test_the_encoder_multiplies_valid_behaviours_alone(rng, behaviours):
    """Projections and feed-forward by position; attention by the length of its bucket."""
    model = build("transformer", "full", rng)
    features = batch("full", rng, requests=6, behaviours=8)
    lengths = np.array([8, 0, 2, 1, 4, 7])
    features["history_mask"] = np.arange(8) < lengths[:, None]
    pad = behaviours - 8
    for name, value in features.items():
        if name.startswith("history"):
            features[name] = np.pad(value, [(0, 0), (0, pad), *[(0, 0)] * (value.ndim - 2)])
    shapes = []

    @tf.function
    def run(features):
        model(features, training=True)
        operations = tf.compat.v1.get_default_graph().get_operations()
        products = [op for op in operations if op.type == "MatMul"]
        scores = [op for op in operations if op.type == "BatchMatMulV2" and op.get_attr("adj_y")]
        shapes.extend(tuple(op.inputs[1].shape) for op in products)
        rows = tf.stack([tf.shape(op.inputs[0])[0] for op in products])
        return rows, [tf.shape(op.outputs[0]) for op in scores]

    rows, scores = run({k: tf.constant(v) for k, v in features.items()})
    # Input, queries with keys and values, output, both layers of the feed-forward part.
    encoder = {(12, 6): 1, (6, 18): 2, (6, 6): 2, (6, 7): 2, (7, 6): 2}
    positions = Counter(zip(shapes, rows.numpy().tolist()))
    for shape, count in encoder.items():
        assert positions[shape, int(lengths.sum())] == count, shape
    # Of two heads: lengths to 2, to 4, to 6, to 8.
    assert Counter(tuple(shape.numpy()) for shape in scores) == Counter(
        {(2, 2, 2, 2): 2, (1, 2, 4, 4): 2, (0, 2, 6, 6): 2, (2, 2, 8, 8): 2}
    )
