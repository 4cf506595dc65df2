"""Warm-up requests: every size class, made of real requests, for every signature."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from ctr_tf.export.signatures import ITEM_TOWER, SERVING, USER_TOWER, Signatures
from ctr_tf.export.warmup import (
    MOST_RECORDS,
    requests_of_every_size,
    size_classes,
    write_warmup,
)
from ctr_tf.schema import Schema
from tests.export.samples import SCHEMAS, build, request

SCHEMA = Schema(
    keys={"user": "user", "time": "time"},
    features={"item_id": {"kind": "categorical", "dtype": "int"}},
    sequences={
        "clicks": {"attributes": {"item_id": {}}, "timestamps": True, "max_length": 5},
        "buys": {"attributes": {"item_id": {}}, "max_length": 2},
    },
    tasks={"click": {"column": "click"}},
)


def of_items(items, clicks, buys):
    """A request whose last candidate is padding."""
    return {
        "clicks_item_id": np.array([clicks]),
        "clicks_time": np.array([clicks]) * 10,
        "clicks_mask": np.ones((1, len(clicks)), bool),
        "buys_item_id": np.array([buys], "int64"),
        "buys_mask": np.ones((1, len(buys)), bool),
        "request_time": np.array([900]),
        "item_id": np.array([[*items, 0]]),
        "candidates_mask": np.array([[True] * len(items) + [False]]),
    }


def test_candidates_and_behaviours_are_cut_or_repeated():
    classes = size_classes(SCHEMA, 3)
    assert classes == [(n, length) for n in (1, 2, 3) for length in (0, 1, 2, 4, 5)]
    first, second = of_items([7, 8], [1, 2, 3], [4]), of_items([9], [5], [6, 6])
    made = requests_of_every_size(SCHEMA, [first, second], 3)
    found = dict(zip(classes, made, strict=True))
    # The last ones stay, in their order; the last begin again where there are too few.
    assert found[2, 2]["item_id"].tolist() == [[9, 9]]
    assert found[1, 2]["item_id"].tolist() == [[8]]
    assert found[3, 0]["item_id"].tolist() == [[7, 8, 8]]
    assert found[1, 2]["clicks_item_id"].tolist() == [[2, 3]]
    assert found[1, 2]["clicks_time"].tolist() == [[20, 30]]
    assert found[2, 5]["clicks_item_id"].tolist() == [[5] * 5]
    assert found[1, 5]["clicks_item_id"].tolist() == [[1, 2, 2, 3, 3]]
    # A sequence grows no longer than it may be.
    assert found[1, 5]["buys_item_id"].tolist() == [[4, 4]]
    assert found[3, 0]["clicks_time"].shape == (1, 0)
    assert found[3, 0]["request_time"].tolist() == [900]
    assert all(each["candidates_mask"].all() for each in made)


def test_requests_without_behaviours_stand_in_where_there_is_no_other():
    new, old = of_items([7], [], []), of_items([8], [1], [2])
    made = requests_of_every_size(SCHEMA, [new, old], 1)
    assert [each["item_id"].item() for each in made] == [8] * 5
    assert [each["clicks_mask"].shape[1] for each in made] == [0, 1, 2, 4, 5]
    made = requests_of_every_size(SCHEMA, [new], 1)
    assert [each["clicks_mask"].shape[1] for each in made] == [0] * 5


@pytest.mark.parametrize(
    "model, shape", [("din", "both"), ("dcn_v2", "candidates"), ("dcn_v2", "user")]
)
def test_every_class_reaches_every_signature(tmp_path, model, shape):
    schema = SCHEMAS[shape]
    signatures = Signatures(*build(tmp_path, model, schema))
    made = requests_of_every_size(schema, [request(schema, seed) for seed in range(2)], 5)
    path = tmp_path / "requests"
    count = write_warmup(path, signatures, made, "films")
    classes = size_classes(schema, 5)
    assert count == 3 * len(classes) <= MOST_RECORDS
    calls = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(str(path))
    ]
    assert {call.model_spec.name for call in calls} == {"films"}
    sizes = {signature: set() for signature in signatures.functions}
    for call in calls:
        masks = {
            name.removeprefix("state_"): proto.tensor_shape.dim[1].size
            for name, proto in call.inputs.items()
            if name.endswith(("candidates_mask", "history_mask"))
        }
        found = masks.get("candidates_mask"), masks.get("history_mask", 0)
        sizes[call.model_spec.signature_name].add(found)
    assert sizes[SERVING] == set(classes)
    assert sizes[USER_TOWER] == {(None, length) for _, length in classes}
    # A state never has an empty axis of behaviours.
    least = 1 if schema.sequences else 0
    assert sizes[ITEM_TOWER] == {(count, max(length, least)) for count, length in classes}


def test_more_records_than_tf_serving_replays(tmp_path):
    signatures = Signatures(*build(tmp_path, "dcn_v2", SCHEMAS["user"]))
    path = tmp_path / "requests"
    raw = request(SCHEMAS["user"])
    assert write_warmup(path, signatures, [raw] * 333, "m") == 999
    with pytest.raises(ValueError, match="at most 1000 .* got 1002 of 334 requests"):
        write_warmup(path, signatures, [raw] * 334, "m")
