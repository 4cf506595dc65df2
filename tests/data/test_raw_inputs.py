"""From plain values to the inputs of a call."""

import numpy as np
import pytest

from ctr_tf.data.raw_inputs import request_inputs, split
from ctr_tf.schema import MISSING_INT
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


def test_what_is_missing():
    values = VALUES | {"age": None, "user_id": None, "history_item_id": [None, 101]}
    values |= {"history_genres": [None, ["v1"]], "title": ["a", None, "c"], "price": [1, None, 3]}
    found = request_inputs(SCHEMAS["both"], values)
    assert np.isnan(found["age"]).all() and found["user_id"].tolist() == [MISSING_INT]
    assert found["history_item_id"].tolist() == [[MISSING_INT, 101]]
    assert found["history_genres"].tolist() == [[[""], ["v1"]]]
    assert found["title"].tolist() == [["a", "", "c"]]
    np.testing.assert_array_equal(found["price"], np.array([[1, np.nan, 3]], "float32"))


class Frame:
    """What pandas and polars have in common."""

    def __init__(self, columns):
        self.columns = list(columns)
        self._columns = columns

    def __getitem__(self, name):
        return self._columns[name]


@pytest.mark.parametrize("kind", [dict, Frame])
def test_candidates_beside_the_values(kind):
    names = [s.name for s in SCHEMAS["both"].inputs if s.side == "candidate" and s.name in VALUES]
    user = {name: value for name, value in VALUES.items() if name not in names}
    candidates = kind({name: VALUES[name] for name in names})
    expected = request_inputs(SCHEMAS["both"], VALUES)
    found = request_inputs(SCHEMAS["both"], user, candidates)
    assert all(np.array_equal(found[name], own) for name, own in expected.items())
    with pytest.raises(ValueError, match="'price': given among the values and the candidates"):
        request_inputs(SCHEMAS["both"], user | {"price": [1, 2, 3]}, candidates)
    # In a column of numbers, a missing one is NaN, and whole numbers are floats.
    nan = float("nan")
    columns = {n: VALUES[n] for n in names} | {"item_id": np.array([1.0, nan, 3.0])}
    columns["title"] = ["a", nan, None]
    found = request_inputs(SCHEMAS["both"], user, kind(columns))
    assert found["item_id"].tolist() == [[1, MISSING_INT, 3]]
    large = {**columns, "item_id": [2**62 + 1, nan, 3]}
    found = request_inputs(SCHEMAS["both"], user, kind(large))
    assert found["item_id"].tolist() == [[2**62 + 1, MISSING_INT, 3]]
    assert found["title"].tolist() == [["a", "", ""]]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"item_id": [1, 2.5, 3]}, "'item_id': not int64 values: got .*2.5"),
        ({"item_id": [1, 2**63 + 5, 3]}, "'item_id': not int64 values: got .*9.22"),
        ({"item_id": [1.0, float("inf"), 3]}, "'item_id': not int64 values: got .*inf"),
        ({"item_id": [2**53 + 1, 1.0, 3]}, "'item_id': not int64 values: got .*9007199254740992"),
        ({"item_id": [True, False, True]}, "'item_id': not int64 values: got True"),
        ({"item_id": [1, 2, "3"]}, "'item_id': not int64 values: got '3'"),
        ({"title": ["a", 7, "c"]}, "'title': not string values: got 7"),
        ({"title": "abc"}, "'title': must have 1 axes, got 0"),
        ({"price": ["1", "2", "3"]}, "'price': not float32 values: got '1'"),
        ({"price": [1, 1e39, 3]}, "'price': not float32 values: got .*1e.39"),
        ({"genres": [["v1"], ["v2"], 3]}, "'genres': .* each must be a list of values, got 3"),
        ({"genres": [["v1"], "v2", []]}, "'genres': .* each must be a list of values, got 'v2'"),
    ],
)
def test_values_of_another_type(change, message):
    with pytest.raises(ValueError, match=message):
        request_inputs(SCHEMAS["both"], VALUES | change)


def test_some_inputs_alone():
    user = {name: VALUES[name] for name in ("user_id", "age", "hour")}
    found = request_inputs(SCHEMAS["both"], user, only=["age", "hour", "of another model"])
    assert {name: value.tolist() for name, value in found.items()} == {"age": [30.0], "hour": [5]}
    with pytest.raises(ValueError, match="missing input 'item_id'"):
        request_inputs(SCHEMAS["both"], user, only=["item_id"])


def test_cut_into_shards():
    inputs = request_inputs(SCHEMAS["both"], VALUES)
    first, second = split(SCHEMAS["both"], inputs, 2)
    assert first["item_id"].tolist() == [[100, 102]] and second["item_id"].tolist() == [[103]]
    assert first["genres"].tolist() == [[["v1"], ["v2"]]] and second["genres"].shape == (1, 1, 1)
    assert second["candidates_mask"].tolist() == [[True]]
    assert first["history_item_id"] is second["history_item_id"] is inputs["history_item_id"]
    (whole,) = split(SCHEMAS["both"], inputs, 3)
    assert all(np.array_equal(whole[name], own) for name, own in inputs.items())


def test_keys_in_the_place_of_features():
    user = {n: x for n, x in VALUES.items() if n not in ("item_id", "genres", "title", "price")}
    found = request_inputs(SCHEMAS["both"], user, {"candidate_keys": ["7", None]})
    assert found["candidate_keys"].tolist() == [["7", ""]] and "item_id" not in found
    assert found["candidates_mask"].tolist() == [[True, True]]
    first, second = split(SCHEMAS["both"], found, 1)
    assert second["candidate_keys"].tolist() == [[""]]
    # Features may be there too, of keys that the table has not.
    found = request_inputs(SCHEMAS["both"], VALUES | {"candidate_keys": ["7", "8", "9"]})
    assert found["item_id"].shape == found["candidate_keys"].shape == (1, 3)
    with pytest.raises(ValueError, match="'candidate_keys': has 2 values, 'item_id' has 3"):
        request_inputs(SCHEMAS["both"], VALUES | {"candidate_keys": ["7", "8"]})
