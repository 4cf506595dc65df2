"""Logs of other shapes: without a user side, without candidates' features, typed, joined."""

import copy
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq

from ctr_tf.schema import MISSING_INT
from tests.pipelines.jobs import (
    SHOP,
    SHOP_COLUMNS,
    prepare,
    read_rejects,
    read_split,
    write_csv,
)


def test_criteo_shaped(tmp_path):
    schema = {
        "features": {
            "I1": {"kind": "numeric", "default": 0, "normalise": "log"},
            "C1": {"kind": "categorical"},
            "C2": {"kind": "categorical", "dtype": "int", "encoding": "hashed", "size": 100},
        },
        "tasks": {"click": {"column": "label"}},
    }
    lines = ["0\t1\t68fd1e64\t12", "1\t\t\t", "0\t-3\t05db9164\t7"]
    (tmp_path / "log.tsv").write_text("\n".join(lines) + "\n")
    manifest = prepare(
        tmp_path,
        schema,
        impressions={"path": "log.tsv", "columns": ["label", "I1", "C1", "C2"]},
    )
    assert manifest.splits["train"].requests == manifest.splits["train"].candidates == 3
    assert manifest.splits["train"].users == 0 and manifest.splits["train"].first_time is None
    found = read_split(tmp_path / "out", "train")
    assert found["log.tsv:2"] == {
        "features/I1": [0.0],
        "features/C1": [""],
        "features/C2": [MISSING_INT],
        "labels/click": [1.0],
        "weights/click": [1.0],
        "request/candidates": [1],
        "request/id": ["log.tsv:2"],
    }
    vocabulary = (tmp_path / "out/vocabularies/C1.txt").read_text()
    assert vocabulary == "05db9164\n68fd1e64\n"


def test_census_shaped(tmp_path):
    schema = {
        "features": {
            "age": {"kind": "numeric", "side": "user"},
            "education": {"kind": "categorical", "side": "user"},
        },
        "tasks": {
            "income": {"column": "income", "equals": "50000+."},
            "married": {"column": "married"},
        },
    }
    rows = [[39, "Bachelors", "50000+.", 1], [50, "HS", "-50000", ""]]
    write_csv(tmp_path / "log.csv", ["age", "education", "income", "married"], rows)
    manifest = prepare(tmp_path, schema)
    assert manifest.splits["train"].positives == {"income": 1, "married": 1}
    found = read_split(tmp_path / "out", "train")
    assert found["log.csv:3"]["features/age"] == [50.0]
    assert found["log.csv:3"]["weights/married"] == [0.0]
    assert found["log.csv:3"]["request/candidates"] == [1]


def test_sequences_that_the_log_states(tmp_path):
    schema = copy.deepcopy(SHOP)
    schema["sequences"]["history"] = {
        "max_length": 2,
        "separator": ",",
        "attributes": {
            "item_id": {"column": "past_items"},
            "tags": {"column": "past_tags", "encoder": {"multi": True}},
        },
    }
    rows = [
        ["u", "i", 1, 1, "a,b,c", "x|y,,z"],
        ["u", "i", 2, 1, "", ""],
        ["u", "i", 3, 1, "a,b", "x"],
    ]
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "past_items", "past_tags"], rows)
    manifest = prepare(tmp_path, schema, max_bad_share=0.5)
    assert manifest.rejects == {"sequences.history: attributes of different lengths": 1}
    found = read_split(tmp_path / "out", "train")
    assert found["u:1"]["features/history_item_id"] == ["b", "c"]
    assert found["u:1"]["features/history_tags"] == ["z"]
    assert found["u:1"]["features/history_tags/lengths"] == [0, 1]
    assert found["u:2"]["features/history/length"] == [0]
    assert (tmp_path / "out/vocabularies/history_tags.txt").read_text() == "x\ny\nz\n"
    assert (tmp_path / "out/vocabularies/item_id.txt").read_text() == "i\n"


def test_rows_without_a_user_are_requests_of_their_own(tmp_path):
    rows = [["u", "a", 1, 1], ["", "b", 2, 1], ["", "c", 2, 0], ["u", "d", 2, 1]]
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, rows)
    manifest = prepare(tmp_path, SHOP)
    assert (manifest.splits["train"].requests, manifest.splits["train"].users) == (4, 1)
    found = read_split(tmp_path / "out", "train")
    assert set(found) == {"u:1", "u:2", "log.csv:3", "log.csv:4"}
    assert found["log.csv:4"]["features/history/length"] == [0]
    assert found["log.csv:4"]["request/user"] == [""]


def test_ids_that_are_not_a_number_are_rejected_and_whole_floats_match_text(tmp_path):
    schema = copy.deepcopy(SHOP)
    schema["features"]["age"] = {"kind": "numeric", "side": "user"}
    nan = math.nan
    users, items = [1.0, 2.0, nan, 1.0], [7.0, nan, 7.0, 8.0]
    columns = {"user_id": users, "item_id": items, "time": [1, 2, 3, 4], "click": [1, 0, 1, 0]}
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    write_csv(tmp_path / "users.csv", ["user_id", "age"], [[1, 30], [2, 40]])
    manifest = prepare(
        tmp_path,
        schema,
        impressions={"path": "log.parquet"},
        users={"path": "users.csv", "key": "user_id"},
        max_bad_share=0.5,
    )
    assert manifest.rejects == {"item_id: NaN": 1, "user_id: NaN": 1}
    assert [r["row"] for r in read_rejects(tmp_path / "out" / "rejects")] == [1, 2]
    found = read_split(tmp_path / "out", "train")
    assert set(found) == {"1:1", "1:4"} and found["1:4"]["features/age"] == [30.0]
    assert (tmp_path / "out/vocabularies/item_id.txt").read_text() == "7\n8\n"


def test_each_of_several_values_is_stripped_and_may_be_missing(tmp_path):
    schema = copy.deepcopy(SHOP)
    schema["features"]["tags"] = {"kind": "categorical", "multi": True}
    schema["sequences"]["history"] = {
        "separator": "^",
        "attributes": {"item_id": {"column": "past"}, "tags": {"column": "past_tags"}},
    }
    columns = [*SHOP_COLUMNS, "tags", "past", "past_tags"]
    row = ["u", "i", 1, 1, " a | b |?", "x ^ ? ^y", "a|? ^ ^ b | a"]
    write_csv(tmp_path / "log.csv", columns, [row, ["u", "i", 2, 0, "?", "", ""]])
    lists = dict(zip(columns, row)) | {
        "time": 3, "tags": [" a ", "b", None, "?"], "past": ["x", "?", " y"],
        "past_tags": [[" a", "?"], [], ["b", "a"]],
    }  # fmt: skip
    (tmp_path / "log.jsonl").write_text(json.dumps(lists))
    source = {"path": ["log.csv", "log.jsonl"], "strip": True, "missing": ["?"]}
    prepare(tmp_path, schema, impressions=source)
    found = read_split(tmp_path / "out", "train")
    for name in ("u:1", "u:3"):
        assert found[name]["features/tags"] == ["a", "b"]
        assert found[name]["features/history_item_id"] == ["x", "", "y"]
        assert found[name]["features/history_tags"] == ["a", "b", "a"]
        assert found[name]["features/history_tags/lengths"] == [1, 0, 2]
    assert found["u:2"]["features/tags"] == []


def test_typed_files_give_the_records_of_text_files(tmp_path):
    schema = copy.deepcopy(SHOP)
    schema["features"] |= {
        "price": {"kind": "numeric", "default": -1},
        "tags": {"kind": "categorical", "multi": True},
    }
    columns = [*SHOP_COLUMNS, "price", "tags"]
    rows = [[1, 7, 10, 1, 2.5, ["x", "y"]], [1, 8, 20, 0, None, []], [2, 7, 20, 1, 3.0, ["x"]]]
    bad = [1, 7, 30, 1, math.nan, []]
    write_csv(
        tmp_path / "log.csv",
        columns,
        [[*row[:5], "|".join(row[5])] for row in [*rows, bad]],
    )
    lines = [json.dumps(dict(zip(columns, row))) for row in [*rows, bad]]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    pq.write_table(
        pa.table({name: [row[n] for row in [*rows, bad]] for n, name in enumerate(columns)}),
        tmp_path / "log.parquet",
    )
    found = []
    for name in ("log.csv", "log.jsonl", "log.parquet"):
        manifest = prepare(tmp_path, schema, impressions={"path": name}, max_bad_share=0.5)
        assert manifest.rejects == {"price: NaN": 1}
        (reject,) = read_rejects(tmp_path / "out" / "rejects")
        assert reject["value"] == "nan"
        found.append(read_split(tmp_path / "out", "train"))
    assert found[0] == found[1] == found[2]
    assert found[0]["1:20"]["features/price"] == [-1.0]
    assert found[0]["1:20"]["features/history_item_id"] == ["7"]
    assert found[0]["1:10"]["features/tags"] == ["x", "y"]
