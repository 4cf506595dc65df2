"""Which schemas are refused, and what names the tensors and tables of the others have."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ctr_tf.schema import Schema

KEYS = {"user": "user", "time": "time"}
ITEM = {"kind": "categorical"}
HASHED = {"kind": "categorical", "encoding": "hashed", "size": 10}


def schema(features=None, attributes=None, keys=KEYS, tasks=("click",), **sequence) -> Schema:
    sequences = {"history": {"attributes": attributes, **sequence}} if attributes else {}
    return Schema(
        keys=keys,
        features=features or {"item": ITEM},
        sequences=sequences,
        tasks={task: {"column": task} for task in tasks},
    )


def test_inputs_in_order_with_their_axes():
    found = schema(
        {"item": ITEM, "tags": {**ITEM, "multi": True}, "age": {"kind": "numeric", "side": "user"},
         "hour": {"kind": "numeric", "side": "context"}},
        {"item": {}, "tags": {}}, timestamps=True,
    )  # fmt: skip
    assert [(spec.name, spec.side, spec.dtype, "".join(spec.axes)) for spec in found.inputs] == [
        ("age", "user", "float32", "B"),
        ("history_item", "user", "string", "BL"),
        ("history_tags", "user", "string", "BLM"),
        ("history_time", "user", "int64", "BL"),
        ("history_mask", "user", "bool", "BL"),
        ("request_time", "context", "int64", "B"),
        ("hour", "context", "float32", "B"),
        ("item", "candidate", "string", "BN"),
        ("tags", "candidate", "string", "BNM"),
        ("candidates_mask", "candidate", "bool", "BN"),
    ]


def test_shared_encoders_are_one():
    found = schema(
        {"item": HASHED, "last": {"kind": "categorical", "share": "item", "side": "user"}},
        {"item": {}, "other": {"encoder": {"share": "item"}}, "own": {"encoder": ITEM}},
    )
    assert list(found.encoders) == ["item", "history_own"]
    assert found.encoder("last") == found.encoder("other", "history") == "item"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": {"class of worker": ITEM}}, "names are a letter.*'class of worker'"),
        ({"features": {"a/b": ITEM}}, "'a/b'"),
        ({"tasks": ["buy!"]}, "tasks.buy!: names are a letter.*'buy!'"),
        ({"attributes": {"item id": {"like": "item"}}}, "attributes.item id: names.*'item id'"),
        ({"features": {"request_time": ITEM}}, "kept for the request's time"),
        ({"features": {"candidate_keys": ITEM}}, "kept for what a table of items has"),
        ({"features": {"candidates_mask": ITEM}}, "used twice: candidates_mask"),
        (
            {"features": {"item": ITEM, "history_item": ITEM}, "attributes": {"item": {}}},
            "used twice: history_item",
        ),
        ({"features": {"a": {**ITEM, "share": "b"}}}, "a.share: no categorical feature 'b'"),
        (
            {"features": {"a": {**ITEM, "share": "b", "dtype": "int"}, "b": ITEM}},
            "a.share: b has dtype string, the one here int",
        ),
        (
            {"features": {"a": {**ITEM, "share": "b"}, "b": {**ITEM, "share": "c"}, "c": ITEM}},
            "'b' itself shares 'c'; name that one",
        ),
        ({"attributes": {"x": {"encoder": {"share": "b"}}}}, "x.encoder.share: no categorical"),
        (
            {"attributes": {"x": {"encoder": {"share": "item", "dtype": "int"}}}},
            "x.encoder.share: item has dtype string, the one here int",
        ),
        ({"attributes": {"x": {"like": "item", "encoder": ITEM}}}, "like and encoder exclude"),
        ({"attributes": {"x": {}}}, "attributes.x: no categorical feature 'x'; .*item"),
        ({"attributes": {"item": {}}, "keys": {"user": "user"}}, "needs keys.user and keys.time"),
        ({"attributes": {"item": {}}, "positive": "buy"}, "no task 'buy'; tasks: click"),
        (
            {"attributes": {"item": {}}, "keys": {}, "separator": ",", "timestamps": True},
            "history.timestamps: needs keys.time",
        ),
    ],
)  # fmt: skip
def test_impossible_schemas(arguments, message):
    with pytest.raises(ValidationError, match=message):
        schema(**arguments)


def test_the_fingerprint_is_of_the_content():
    one = schema({"item": ITEM})
    assert Schema.from_json(one.to_json()) == one
    assert one.fingerprint == schema({"item": {**ITEM, "oov": 1}}).fingerprint
    assert one.fingerprint != schema({"item": {**ITEM, "oov": 2}}).fingerprint
    with pytest.raises(ValueError, match="here: written with schema fingerprint 000000000000, but"):
        one.check_fingerprint("0" * 64, "here")
