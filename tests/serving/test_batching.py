"""Calls that are computed as one have the scores that they have alone."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.export.signatures import ITEM_TOWER, SERVING, USER_TOWER, Signatures
from ctr_tf.schema import MISSING_INT
from serving.batching import batched_candidates, join, part
from serving.validation import Inputs, input_rules
from tests.export.samples import SCHEMAS, build, request

SCHEMA = SCHEMAS["both"]


def run(function, arrays):
    specs = function.structured_input_signature[1]
    found = function(**{name: tf.constant(arrays[name], specs[name].dtype) for name in specs})
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("model", ["din", "bst", "srp4ctr"])
def test_scores_are_those_of_each_alone(model, tmp_path):
    functions = Signatures(*build(tmp_path, model, SCHEMA)).functions
    sizes = [(1, 4, 3), (2, 1, 7), (1, 9, 0)]
    raws = [request(SCHEMA, seed, *size) for seed, size in enumerate(sizes)]
    # More values than the others have.
    raws[0]["genres"] = np.repeat(raws[0]["genres"], 2, axis=2)
    states = [raw | run(functions[USER_TOWER], raw) for raw in raws]
    for signature, calls in ((SERVING, raws), (ITEM_TOWER, states)):
        rules = input_rules(functions[signature].structured_input_signature[1], SCHEMA)
        inputs = [Inputs(call, b, n) for call, (b, n, _) in zip(calls, sizes)]
        assert batched_candidates(inputs) == 4 * 9
        joined = join(inputs, rules)
        assert joined["candidates_mask"].sum(axis=1).tolist() == [3, 1, 1, 8]
        together = part(run(functions[signature], joined), inputs)
        for call, outputs, (b, n, _) in zip(calls, together, sizes, strict=True):
            for task, alone in run(functions[signature], call).items():
                assert outputs[task].shape == (b, n)
                np.testing.assert_allclose(outputs[task], alone, atol=1e-6)


def test_padding_is_what_stands_for_a_missing_value():
    specs = {
        "user_id": tf.TensorSpec([None], tf.int64),
        "item_id": tf.TensorSpec([None, None], tf.int64),
        "genres": tf.TensorSpec([None, None, None], tf.string),
        "price": tf.TensorSpec([None, None], tf.float32),
        "candidates_mask": tf.TensorSpec([None, None], tf.bool),
    }
    calls = [
        {
            "user_id": np.array([user]),
            "item_id": np.full((1, n), 7),
            "genres": np.full((1, n, m), b"v1", object),
            "price": np.full((1, n), np.float32(2)),
            "candidates_mask": np.ones((1, n), bool),
        }
        for user, n, m in ((5, 1, 2), (6, 2, 1))
    ]
    found = join([Inputs(calls[0], 1, 1), Inputs(calls[1], 1, 2)], input_rules(specs, SCHEMA))
    assert {name: value.tolist() for name, value in found.items()} == {
        "user_id": [5, 6],
        "item_id": [[7, MISSING_INT], [7, 7]],
        "genres": [[[b"v1", b"v1"], [b"", b""]], [[b"v1", b""], [b"v1", b""]]],
        "price": [[2.0, 0.0], [2.0, 2.0]],
        "candidates_mask": [[True, False], [True, True]],
    }
