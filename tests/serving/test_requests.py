"""From plain values to the inputs of a call."""

import numpy as np
import pytest

from ctr_tf.schema import MISSING_INT
from serving.requests import request_inputs
from tests.export.samples import SCHEMAS

VALUES = {
    "user_id": 7,
    "age": 30,
    "hour": 5,
    "request_time": 900,
    "history_item_id": [100, 101],
    "history_genres": [["v1", "v2"], []],
    "history_time": [1, 2],
    "item_id": [100, 102, 103],
    "genres": [["v1"], ["v2"], ["v3"]],
    "title": ["a", "b", "c"],
    "price": [1, 2, 3],
}


def test_values_gain_the_request_axis_padding_and_masks():
    found = request_inputs(SCHEMAS["both"], VALUES)
    assert list(found) == [spec.name for spec in SCHEMAS["both"].inputs]
    for spec in SCHEMAS["both"].inputs:
        assert found[spec.name].ndim == len(spec.axes)
    assert found["age"].dtype == np.float32 and found["age"].tolist() == [30.0]
    assert found["history_genres"].tolist() == [[["v1", "v2"], ["", ""]]]
    assert found["history_mask"].tolist() == [[True, True]]
    assert found["candidates_mask"].tolist() == [[True] * 3]
    assert MISSING_INT == np.iinfo(np.int64).min


def test_no_behaviour_and_no_candidate_feature():
    empty = {"history_item_id": [], "history_genres": [], "history_time": []}
    found = request_inputs(SCHEMAS["both"], VALUES | empty)
    assert found["history_genres"].shape == (1, 0, 0)
    assert found["history_mask"].shape == (1, 0)
    found = request_inputs(SCHEMAS["user"], {"age": 3.5, "job": "v1"})
    assert found["candidates_mask"].tolist() == [[True]]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pric": [1]}, "unknown input 'pric'"),
        ({"history_time": [1]}, "'history_time': has 1 values, 'history_item_id' has 2"),
        ({"price": [1, 2]}, "'price': has 2 values, 'item_id' has 3"),
        ({"price": 1}, "'price': must have 1 axes, got 0"),
        ({"item_id": ["x", "y", "z"]}, "'item_id': not int64 values"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(ValueError, match=message):
        request_inputs(SCHEMAS["both"], VALUES | change)


def test_a_missing_value():
    with pytest.raises(ValueError, match="missing input 'age'"):
        request_inputs(SCHEMAS["both"], {k: v for k, v in VALUES.items() if k != "age"})
