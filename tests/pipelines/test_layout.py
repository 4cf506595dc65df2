"""Where everything is read from, and what cannot be prepared."""

import copy

import pytest

from pipelines.transforms.errors import PrepareError
from tests.pipelines.jobs import SHOP, SHOP_COLUMNS, layout, write_csv


def changed(**features):
    schema = copy.deepcopy(SHOP)
    schema["features"].update(features)
    return schema


@pytest.fixture
def root(tmp_path):
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "price", "hour"], [])
    write_csv(tmp_path / "users.csv", ["user_id", "age"], [])
    write_csv(tmp_path / "items.csv", ["item_id", "genre"], [])
    return tmp_path


USERS = {"path": "users.csv", "key": "user_id"}
ITEMS = {"path": "items.csv", "key": "item_id"}


def test_fields_are_placed_by_side_and_file(root):
    schema = changed(
        age={"kind": "numeric", "side": "user"},
        hour={"kind": "numeric", "side": "context"},
        genre={"kind": "categorical"},
        price={"kind": "numeric"},
    )
    schema["sequences"]["history"]["attributes"] |= {"genre": {}}
    schema["sequences"]["history"]["attributes"]["price_then"] = {
        "column": "price", "encoder": {"encoding": "hashed", "size": 5}
    }  # fmt: skip
    found = layout(root, schema, users=USERS, items=ITEMS)
    names = {group: [field.input for field in fields] for group, fields in found.groups.items()}
    assert names == {
        "request": ["hour"],
        "user": ["user_id", "age"],
        "candidate": ["price"],
        "item": ["item_id", "genre", "history_item_id", "history_genre"],
        "event": ["history_price_then"],
    }
    assert found.place("history_genre") == ("item", 3)


def test_unknown_column_names_the_nearest(root):
    with pytest.raises(
        PrepareError,
        match="features.prize: no column 'prize' in impressions; did you mean 'price'?",
    ):
        layout(root, changed(prize={"kind": "numeric"}))


def test_missing_column_of_a_file(tmp_path):
    write_csv(tmp_path / "log.csv", ["user_id", "item_id", "click"], [])
    with pytest.raises(PrepareError, match="keys.time: no column 'time' in impressions; columns"):
        layout(tmp_path, SHOP)


def test_every_file_needs_the_column(root):
    write_csv(root / "log2.csv", ["user_id", "item_id", "time"], [])
    with pytest.raises(PrepareError, match="tasks.click.column: no column 'click'"):
        layout(root, SHOP, impressions={"path": ["log.csv", "log2.csv"]})


def test_negatives_need_their_features_in_items(root):
    schema = changed(price={"kind": "numeric"})
    with pytest.raises(PrepareError, match="features.price: column 'price' is in the log but"):
        layout(root, schema, items=ITEMS, negatives={})


@pytest.mark.parametrize(
    ("keys", "config", "message"),
    [
        ({"user": "hour"}, {"users": USERS}, "prepare.users.key must be keys.user, 'hour'"),
        ({"item": "hour"}, {"items": ITEMS}, "prepare.items.key must be keys.item, 'hour'"),
        ({"item": None}, {"items": ITEMS, "negatives": {}}, "negatives needs keys.item"),
        ({"time": None}, {}, "split.by: time needs keys.time"),
        ({"time": None}, {"split": {"by": "last"}}, "split.by: last needs keys.user"),
        ({}, {"impressions": None}, "prepare.impressions: missing"),
    ],
)
def test_combinations_that_cannot_be_prepared(root, keys, config, message):
    schema = changed()
    schema["keys"].update(keys)
    schema["sequences"] = {}
    with pytest.raises(PrepareError, match=message):
        layout(root, schema, **config)


@pytest.mark.parametrize("key", ["validation", "test"])
def test_a_split_by_files_that_matches_none_is_an_error(root, key):
    split = {"by": "files", "validation": "log*", "test": "log*"}
    layout(root, SHOP, split=split)
    message = rf"prepare\.split\.{key}: no file .* matches './log.csv'; files: log.csv"
    with pytest.raises(PrepareError, match=message):
        layout(root, SHOP, split=split | {key: "./log.csv"})


def test_a_task_without_a_column_needs_negatives(root):
    schema = changed() | {"tasks": {"click": {}}}
    layout(root, schema, items=ITEMS, negatives={})
    with pytest.raises(PrepareError, match=r"tasks\.click\.column: missing; only with"):
        layout(root, schema, items=ITEMS)
    with pytest.raises(ValueError, match="above and equals need a column"):
        layout(root, changed() | {"tasks": {"click": {"above": 3}}})


def test_joined_sequences_have_no_times(root):
    schema = changed()
    schema["sequences"]["history"] |= {"separator": "|", "timestamps": True}
    with pytest.raises(PrepareError, match="sequences.history.timestamps"):
        layout(root, schema)
