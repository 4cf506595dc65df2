"""The whole job on small logs: every number can be checked by hand."""

import copy
import fcntl
import gzip
import hashlib
import json
import math
import shutil

import pyarrow.parquet as pq
import pytest
import yaml

from ctr_tf.data.config import InputConfig
from ctr_tf.data.manifest import Manifest, ManifestError
from ctr_tf.schema import Schema
from pipelines import prepare as module
from pipelines.prepare import main
from pipelines.transforms import catalogue
from pipelines.transforms.errors import PrepareError
from tests.pipelines.jobs import (
    SHOP,
    SHOP_COLUMNS,
    prepare,
    read_file,
    read_rejects,
    read_split,
    write_csv,
)

RICH = {
    "keys": {"user": "user_id", "time": "time", "item": "item_id", "request": "request_id"},
    "features": {
        "user_id": {"kind": "categorical", "side": "user"},
        "age": {"kind": "numeric", "side": "user"},
        "hour": {"kind": "categorical", "side": "context", "dtype": "int",
                 "encoding": "identity", "size": 24},
        "item_id": {"kind": "categorical"},
        "genres": {"kind": "categorical", "multi": True},
        "title": {"kind": "text", "size": 3},
        "price": {"kind": "numeric", "normalise": "log"},
        "position": {"kind": "categorical", "dtype": "int"},
    },
    "sequences": {
        "history": {
            "max_length": 2,
            "positive": "click",
            "timestamps": True,
            "attributes": {
                "item_id": {},
                "genres": {},
                "dwell": {"encoder": {"dtype": "int", "min_count": 2}},
            },
        }
    },
    "tasks": {
        "click": {"column": "click", "weight": "weight"},
        "buy": {"column": "bought", "equals": "yes", "mask": "click"},
    },
}  # fmt: skip
COLUMNS = ["request_id", "user_id", "time", "hour", "item_id", "position", "dwell", "click",
           "bought", "weight"]  # fmt: skip
LOG = [
    ["r1", "ann", 100, 7, "a", 0, 5, 1, "yes", 1],
    ["r1", "ann", 101, 7, "b", 1, 6, 0, "", 2],
    ["r2", "ann", 200, 8, "b", 0, 5, 1, "no", 1],
    ["r3", "ann", 300, 9, "c", 0, 5, 1, "yes", 1],
    ["r4", "ann", 400, 9, "a", 0, 8, 1, "yes", 1],
    ["r5", "bob", 400, 9, "a", 0, 9, 0, "", 0.5],
]
USERS = [["ann", 30], ["bob", 50]]
ITEMS = [
    ["a", "Drama|War", "War, and War", 10],
    ["b", "", "The war", 20.5],
    ["c", "War", "Peace", 0],
    ["d", "Horror", "Never shown", 1],
]


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    root = tmp_path_factory.mktemp("rich")
    write_csv(root / "log.csv", COLUMNS, LOG)
    write_csv(root / "users.csv", ["user_id", "age"], USERS)
    write_csv(root / "items.csv", ["item_id", "genres", "title", "price"], ITEMS)
    prepare(
        root,
        RICH,
        users={"path": "users.csv", "key": "user_id"},
        items={"path": "items.csv", "key": "item_id"},
        split={"by": "time", "boundaries": (250, 350)},
    )
    return root / "out"


def test_a_request_holds_what_the_format_says(rich):
    assert read_split(rich, "train")["r1"] == {
        "features/user_id": ["ann"],
        "features/age": [30.0],
        "features/hour": [7],
        "features/item_id": ["a", "b"],
        "features/genres": ["Drama", "War"],
        "features/genres/lengths": [2, 0],
        "features/title": ["War, and War", "The war"],
        "features/price": [10.0, 20.5],
        "features/position": [0, 1],
        "features/history/length": [0],
        "features/history_item_id": [],
        "features/history_genres": [],
        "features/history_genres/lengths": [],
        "features/history_dwell": [],
        "features/history_time": [],
        "labels/click": [1.0, 0.0],
        "weights/click": [1.0, 2.0],
        "labels/buy": [1.0, 0.0],
        "weights/buy": [1.0, 0.0],
        "request/candidates": [2],
        "request/id": ["r1"],
        "request/user": ["ann"],
        "request/time": [100],
        "request/items": ["a", "b"],
    }


def test_history_joins_items_and_keeps_the_newest(rich):
    found = read_split(rich, "test")["r4"]
    assert found["features/history_item_id"] == ["b", "c"]
    assert found["features/history_genres"] == ["War"]
    assert found["features/history_genres/lengths"] == [0, 1]
    assert found["features/history_dwell"] == [5, 5]
    assert found["features/history_time"] == [200, 300]


def test_a_user_first_seen_in_test_has_an_empty_history(rich):
    found = read_split(rich, "test")["r5"]
    assert found["features/history/length"] == [0] and found["request/user"] == ["bob"]


def test_manifest_counts(rich):
    manifest = Manifest.read(rich, Schema(**RICH))
    train, validation, test = manifest.splits.values()
    assert (train.requests, train.candidates, train.users) == (2, 3, 1)
    assert (validation.requests, validation.candidates) == (1, 1)
    assert (test.requests, test.candidates, test.users) == (2, 2, 2)
    assert test.users_without_training_rows == 1
    assert train.labelled == {"click": 3, "buy": 2} and train.positives == {"click": 2, "buy": 1}
    assert (train.first_time, train.last_time) == (100, 200)
    assert (test.first_time, test.last_time) == (400, 400)
    assert manifest.boundaries == (250, 350)
    assert {name: rows.read for name, rows in manifest.rows.items()} == {
        "impressions": 6, "users": 2, "items": 4
    }  # fmt: skip
    assert manifest.rejects == {} and manifest.warnings == {} and manifest.largest_user == 5


def test_vocabularies_and_statistics_come_from_training_rows_alone(rich):
    def vocabulary(name):
        values = (rich / "vocabularies" / f"{name}.txt").read_text().split()
        return dict(zip(values, (rich / "vocabularies" / f"{name}.counts").read_text().split()))

    # Training rows: ann's a, b and b. Item c, user bob and title "Peace" come later.
    assert vocabulary("item_id") == {"b": "2", "a": "1"}
    assert vocabulary("user_id") == {"ann": "3"}
    assert vocabulary("genres") == {"Drama": "1", "War": "1"}
    assert vocabulary("title") == {"war": "4", "the": "2", "and": "1"}
    assert vocabulary("position") == {"0": "2", "1": "1"}
    # The dwell time of training rows that are behaviours is 5 and 5; 6 was not clicked.
    assert vocabulary("history_dwell") == {"5": "2"}
    assert not (rich / "vocabularies" / "hour.txt").exists()
    statistics = json.loads((rich / "statistics.json").read_text())
    logs = [math.log1p(10), math.log1p(20.5), math.log1p(20.5)]
    mean = sum(logs) / 3
    assert statistics["age"] == {
        "count": 3, "mean": 30.0, "std": 0.0, "minimum": 30.0, "maximum": 30.0
    }  # fmt: skip
    assert statistics["price"] == pytest.approx(
        {
            "count": 3,
            "mean": mean,
            "std": math.sqrt(sum((x - mean) ** 2 for x in logs) / 3),
            "minimum": logs[0],
            "maximum": logs[1],
        }
    )
    assert pq.read_table(rich / "item_frequency.parquet").to_pydict() == {
        "item_id": ["a", "b"], "count": [1, 2]
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["vocabularies/item_id.txt", "statistics.json", "item_frequency.parquet"]
)
def test_a_damaged_or_missing_learned_file_is_named(rich, tmp_path, name):
    folder = shutil.copytree(rich, tmp_path / "copy")
    content = bytearray((folder / name).read_bytes())
    content[0] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ManifestError, match=rf"{name}: not what the preparation wrote"):
        from ctr_tf.data.input import Input  # TensorFlow is needed here alone.

        Input(folder, Schema(**RICH), InputConfig())
    (folder / name).unlink()
    with pytest.raises(ManifestError, match=rf"{name}: listed in the manifest but missing"):
        Manifest.read(folder, check_files=False)


def test_catalogue_holds_the_candidate_features_of_every_item(rich):
    with gzip.open(rich / "catalogue.jsonl.gz", "rt") as lines:
        found = [json.loads(line) for line in lines]
    assert [item["item_id"] for item in found] == ["a", "b", "c", "d"]
    assert found[0]["features"] == {
        "item_id": "a", "genres": ["Drama", "War"], "title": "War, and War", "price": 10.0
    }  # fmt: skip


def test_the_folder_holds_nothing_else(rich):
    assert sorted(path.name for path in rich.iterdir()) == [
        "catalogue.jsonl.gz", "item_frequency.parquet", "manifest.json", "rejects", "schema.json",
        "statistics.json", "test", "train", "validation", "vocabularies",
    ]  # fmt: skip
    assert [path.name for path in rich.parent.iterdir() if path.name.startswith(".")] == []


def test_split_by_last_cuts_no_request_and_earlier_test_requests_are_history(tmp_path):
    sizes = {1: 2, 2: 1, 3: 3, 4: 1, 5: 1, 6: 1}
    rows = [["u", f"i{t}{k}", t, 1] for t, size in sizes.items() for k in range(size)]
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, rows)
    manifest = prepare(tmp_path, SHOP, split={"by": "last", "interactions": 2})
    assert {name: split.requests for name, split in manifest.splits.items()} == {
        "train": 2, "validation": 2, "test": 2
    }  # fmt: skip
    assert set(read_split(tmp_path / "out", "train")) == {"u:1", "u:2"}
    test = read_split(tmp_path / "out", "test")
    assert set(test) == {"u:5", "u:6"}
    assert test["u:6"]["features/history_item_id"] == ["i32", "i40", "i50"]


def test_a_request_that_spans_a_boundary_is_of_the_later_split(tmp_path):
    schema = copy.deepcopy(SHOP)
    schema["keys"]["request"] = "session"
    rows = [["a", "i0", 1, 1, "s"], ["a", "late", 1000, 1, "s"]]
    rows += [["b", f"i{n}", n, 1, f"q{n}"] for n in range(2, 11)]
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "session"], rows)
    manifest = prepare(tmp_path, schema, split={"by": "time"})
    # Ten requests, the session the last of them: eight, one and one.
    assert manifest.boundaries == (10, 1000)
    assert {
        name: (split.requests, split.first_time, split.last_time)
        for name, split in manifest.splits.items()
    } == {"train": (8, 2, 9), "validation": (1, 10, 10), "test": (1, 1, 1000)}
    found = read_split(tmp_path / "out", "test")["s"]
    assert found["request/time"] == [1] and found["features/history/length"] == [0]
    vocabulary = (tmp_path / "out/vocabularies/item_id.txt").read_text().split()
    assert vocabulary == [f"i{n}" for n in range(2, 10)]


def test_equal_runs_give_equal_bytes(tmp_path):
    rows = [[f"u{n % 7}", f"i{n % 5}", n, n % 2] for n in range(60)]
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, rows)
    write_csv(tmp_path / "items.csv", ["item_id"], [[f"i{n}"] for n in range(9)])

    def files():
        prepare(
            tmp_path,
            SHOP,
            items={"path": "items.csv", "key": "item_id"},
            negatives={"popularity": 0.75},
            split={"by": "time"},
        )
        out = tmp_path / "out"
        return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}

    first = files()
    assert first == files() and len(first) > 8


def bad_log(tmp_path, bad, good=50):
    schema = copy.deepcopy(SHOP)
    schema["features"]["age"] = {"kind": "numeric", "side": "user"}
    schema["features"]["slot"] = {
        "kind": "categorical", "dtype": "int", "encoding": "identity", "size": 4
    }  # fmt: skip
    columns = [*SHOP_COLUMNS, "age", "slot"]
    rows = [[f"u{n % 9}", f"i{n % 7}", n, n % 2, 20 + n % 9, n % 4] for n in range(good)]
    write_csv(tmp_path / "log.csv", columns, rows + bad)
    return schema


@pytest.mark.parametrize(
    ("row", "reason", "value"),
    [
        (["u", "i", 9, 1, "young", 0], "age: not a number", "young"),
        (["u", "i", 9, 1, "NaN", 0], "age: NaN", "NaN"),
        (["u", "i", 9, 1, "", 0], "age: missing number, and the feature has no default", None),
        (["u", "i", 9, 1, 5, 4], "slot: id beyond the identity vocabulary of 4", "4"),
        (["u", "i", 9, 1, 5], "expected 6 fields", ["u", "i", "9", "1", "5"]),
        (["u", "i", "noon", 1, 5, 0], "time: not a number", "noon"),
        (["u", "i", 9, 2, 5, 0], "click: neither 0 nor 1", "2"),
    ],
)  # fmt: skip
def test_bad_rows_are_rejected_with_reason_and_position(tmp_path, row, reason, value):
    schema = bad_log(tmp_path, [row])
    manifest = prepare(tmp_path, schema, max_bad_share=0.05)
    assert manifest.rejects == {reason: 1}
    assert manifest.rows["impressions"].model_dump() == {"read": 51, "rejected": 1}
    assert manifest.splits["train"].candidates == 50
    (found,) = read_rejects(tmp_path / "out" / "rejects")
    assert (found["file"], found["line"], found["reason"]) == ("log.csv", 52, reason)
    assert found["value"] == value


@pytest.mark.parametrize(
    ("closing", "reason"),
    [
        ('"j,60,1', "text after a closing quote"),
        ('i",60,1', "item_id: line break in a categorical value"),
        ('"', "expected 4 fields"),
    ],
)
def test_every_line_that_a_stray_quote_swallows_is_rejected(tmp_path, closing, reason):
    rows = [f"u,i,{n},{n % 2}" for n in range(60)]
    lines = [",".join(SHOP_COLUMNS), *rows[:50], 'u,"i,50,1', *rows[50:], closing, "u,i,99,1"]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    write_csv(tmp_path / "items.csv", ["item_id"], [["i"], ["two\nlines"]])
    manifest = prepare(
        tmp_path, SHOP, items={"path": "items.csv", "key": "item_id"}, max_bad_share=0.7
    )
    # Line 52 opens the quote, line 63 closes it.
    assert manifest.rows["impressions"].model_dump() == {"read": 63, "rejected": 12}
    assert manifest.rows["items"].model_dump() == {"read": 3, "rejected": 2}
    found = read_rejects(tmp_path / "out" / "rejects")
    assert [r["line"] for r in found if r["source"] == "impressions"] == list(range(52, 64))
    assert manifest.rejects.pop(reason) >= 12
    assert found[1]["content"] == "of the row on line 52" and len(found) == 14
    with pytest.raises(PrepareError, match="12 of 63 rows rejected, more than max_bad_share 0.15"):
        prepare(tmp_path, SHOP, max_bad_share=0.15)


def test_too_many_bad_rows_fail_the_job_and_leave_the_rejects(tmp_path):
    schema = bad_log(tmp_path, [["u", "i", 9, 1, "x", 0]] * 5)
    message = (
        r"5 of 55 rows rejected, more than max_bad_share 0.05: 5 x age: not a number; first: "
        r"log.csv line 52: age: not a number \('x'\).*; every rejected row: .*/out\.rejects$"
    )
    with pytest.raises(PrepareError, match=message):
        prepare(tmp_path, schema, max_bad_share=0.05)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "out.rejects"]
    assert len(read_rejects(tmp_path / "out.rejects")) == 5
    prepare(tmp_path, schema, max_bad_share=0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "out"]


def test_a_log_that_is_large_for_memory_is_said_to_be(tmp_path, monkeypatch, capfd):
    path = write_csv(tmp_path / "log.csv", SHOP_COLUMNS, [["u", "i", 1, 1], ["u", "j", 2, 0]])
    monkeypatch.setattr(module, "LOCAL_BYTES", path.stat().st_size)
    prepare(tmp_path, SHOP)
    assert "warning" not in capfd.readouterr().err
    monkeypatch.setattr(module, "LOCAL_BYTES", path.stat().st_size - 1)
    prepare(tmp_path, SHOP)
    shown = " ".join(capfd.readouterr().err.split())
    assert "FnApiRunner keeps its shuffles in memory; prepare.runner may name another" in shown
    assert "DaskRunner" in shown and "FlinkRunner" in shown


def test_attributes_that_are_missing_or_twice(tmp_path):
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, [
        ["ann", "a", 1, 1], ["eve", "a", 2, 1], ["ann", "z", 3, 1], ["", "a", 4, 1]
    ])  # fmt: skip
    write_csv(tmp_path / "users.csv", ["user_id", "age"], [["ann", 1], ["ann", 2], ["", 3]])
    write_csv(tmp_path / "items.csv", ["item_id"], [["a"], ["a"]])
    schema = copy.deepcopy(SHOP)
    schema["features"]["age"] = {"kind": "numeric", "side": "user"}
    manifest = prepare(
        tmp_path,
        schema,
        users={"path": "users.csv", "key": "user_id"},
        items={"path": "items.csv", "key": "item_id"},
        max_bad_share=1,
    )
    found = read_rejects(tmp_path / "out" / "rejects")
    assert sorted((r["source"], r["line"], r["reason"], r["value"]) for r in found) == [
        ("impressions", 3, "user_id: not in users", "eve"),
        ("impressions", 4, "item_id: not in items", "z"),
        ("impressions", 5, "user_id: missing, and users has the user's features", None),
        ("items", 3, "item_id: duplicate id", "a"),
        ("users", 3, "user_id: duplicate id", "ann"),
        ("users", 4, "user_id: missing id", None),
    ]
    assert manifest.rows["users"].model_dump() == {"read": 3, "rejected": 2}
    assert read_split(tmp_path / "out", "train")["ann:1"]["features/age"] == [1.0]


def test_users_without_attributes_may_be_kept(tmp_path):
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, [
        ["ann", "a", 1, 1], ["eve", "a", 2, 0], ["", "a", 3, 1]
    ])  # fmt: skip
    write_csv(tmp_path / "users.csv", ["user_id", "age", "town"], [["ann", 30, "Ulm"]])
    schema = copy.deepcopy(SHOP)
    schema["features"]["town"] = {"kind": "categorical", "side": "user"}
    schema["features"]["age"] = {"kind": "numeric", "side": "user", "default": -1}
    users = {"path": "users.csv", "key": "user_id", "required": False}
    manifest = prepare(tmp_path, schema, users=users)
    assert manifest.rejects == {} and manifest.splits["train"].users == 2
    found = read_split(tmp_path / "out", "train")
    values = {
        name: tuple(record[f"features/{key}"][0] for key in ("user_id", "age", "town"))
        for name, record in found.items()
    }
    assert values == {
        "ann:1": ("ann", 30.0, "Ulm"), "eve:2": ("eve", -1.0, ""), "log.csv:4": ("", -1.0, "")
    }  # fmt: skip
    del schema["features"]["age"]["default"]
    with pytest.raises(PrepareError, match=r"features\.age\.default: missing; with prepare\.users"):
        prepare(tmp_path, schema, users=users)
    with pytest.raises(ValueError, match="items.required: false is for users alone"):
        prepare(tmp_path, SHOP, items={"path": "i.csv", "key": "item_id", "required": False})


def test_a_truncated_log_fails_the_job(tmp_path):
    rows = [[f"u{n % 9}", f"i{n * 7919 % 10007}", n, n % 2] for n in range(20_000)]
    whole = gzip.compress(write_csv(tmp_path / "log.csv", SHOP_COLUMNS, rows).read_bytes())
    (tmp_path / "log.csv.gz").write_bytes(whole[:-5000])
    with pytest.raises(PrepareError, match=r"log\.csv\.gz: truncated gzip file after line \d+"):
        prepare(tmp_path, SHOP, impressions={"path": "log.csv.gz"})
    assert not (tmp_path / "out").exists()


def test_differing_user_features_are_counted(tmp_path):
    schema = copy.deepcopy(SHOP)
    schema["features"]["age"] = {"kind": "numeric", "side": "user"}
    rows = [["u", "i", 1, 1, 30], ["u", "j", 1, 0, 31], ["u", "k", 2, 1, 31]]
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "age"], rows)
    manifest = prepare(tmp_path, schema)
    assert list(manifest.warnings.values()) == [1]
    assert read_split(tmp_path / "out", "train")["u:1"]["features/age"] == [30.0]


def test_an_existing_folder_is_kept_unless_overwritten(tmp_path, capfd):
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, [["u", "i", 1, 1]])
    job = {"schema": SHOP, "prepare": {"impressions": {"path": "log.csv"}, "split": {"by": "none"}},
           "root": str(tmp_path)}  # fmt: skip
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    command = ["--config", str(tmp_path / "job.yaml"), "--output", str(tmp_path / "out")]
    (tmp_path / ".out.partial" / "left by a killed job").mkdir(parents=True)
    assert main(command) == 0
    assert not (tmp_path / ".out.partial").exists()
    written = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    assert main(command) == 2
    assert "out exists; choose another" in capfd.readouterr().err.replace("\n", " ")
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == written
    assert main([*command, "--overwrite"]) == 0
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns > written


def test_a_folder_that_another_job_is_writing_is_left_alone(tmp_path):
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, [["u", "i", 1, 1]])
    (tmp_path / ".out.partial").mkdir()
    with open(tmp_path / ".out.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(PrepareError, match="out: another job is writing it"):
            prepare(tmp_path, SHOP)
    assert (tmp_path / ".out.partial").exists() and not (tmp_path / "out").exists()
    # The lock of a job that was killed holds nothing.
    prepare(tmp_path, SHOP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "out"]


@pytest.mark.parametrize("runner", ["FnApiRuner", "no.such.Runner", "os.NoRunner"])
def test_an_unknown_runner_is_named(tmp_path, runner):
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, [["u", "i", 1, 1]])
    with pytest.raises(PrepareError, match=f"prepare.runner: '{runner}': "):
        prepare(tmp_path, SHOP, runner=runner)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prepare": None}, "prepare: Input should be"),
        ({"prepare": {"shard": 3}}, "prepare.shard"),
        ({"schema": {**SHOP, "tasks": {}}}, "schema.tasks"),
        ({"prepares": {}}, "prepares: Extra inputs are not permitted"),
    ],
)
def test_configuration_errors_exit_with_2(tmp_path, capfd, change, message):
    job = {"schema": SHOP, "prepare": {}, **change}
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = ["--config", str(tmp_path / "job.json"), "--output", str(tmp_path / "out")]
    assert main(command) == 2
    error = capfd.readouterr().err
    assert message in error.replace("\n", " ") and "Traceback" not in error


def test_no_training_request_is_an_error(tmp_path):
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, [["u", "i", 10, 1]])
    with pytest.raises(PrepareError, match="the training split is empty"):
        prepare(tmp_path, SHOP, split={"by": "time", "boundaries": (1, 2)})


def test_a_task_without_a_label_in_training_is_an_error(tmp_path):
    schema = copy.deepcopy(SHOP)
    schema["tasks"]["buy"] = {"column": "bought"}
    rows = [["u", "i", 1, 1, ""], ["u", "j", 2, 0, ""], ["u", "k", 9, 0, 1]]
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "bought"], rows)
    with pytest.raises(PrepareError, match=r"tasks\.buy: no labelled candidate in training: its"):
        prepare(tmp_path, schema, split={"by": "time", "boundaries": (5, 5)})
    assert prepare(tmp_path, schema).splits["train"].labelled == {"click": 3, "buy": 1}


def test_one_class_alone_is_warned_of(tmp_path, capfd):
    schema = copy.deepcopy(SHOP)
    schema["tasks"] |= {"buy": {"column": "bought"}, "like": {"column": "liked"}}
    rows = [["u", "i", 1, 1, 1, 0], ["u", "j", 2, 0, 1, 0], ["u", "k", 3, 0, "", 0]]
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "bought", "liked"], rows)
    assert prepare(tmp_path, schema).warnings == {
        "tasks.buy: every label in training is positive": 2,
        "tasks.like: every label in training is negative": 3,
    }
    assert "warning: 2 x tasks.buy: every label in" in " ".join(capfd.readouterr().err.split())


def test_an_empty_log_is_an_error(tmp_path):
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, [])
    with pytest.raises(PrepareError, match=r"prepare\.impressions: no rows"):
        prepare(tmp_path, SHOP)


def test_a_catalogue_beyond_its_bound_is_an_error(tmp_path, monkeypatch):
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, [["u", "i", 10, 1]])
    write_csv(tmp_path / "items.csv", ["item_id"], [["i"]])
    monkeypatch.setattr(catalogue, "MAX_BYTES", 5)
    with pytest.raises(PrepareError, match="at most 5 are held by every worker. Join the item"):
        prepare(tmp_path, SHOP, items={"path": "items.csv", "key": "item_id"})


def test_a_misspelt_runner_option_is_an_error(tmp_path):
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, [["u", "i", 1, 1]])
    with pytest.raises(PrepareError, match=r"no option '--direct_num_worker'; did you mean '--dir"):
        prepare(tmp_path, SHOP, runner_options=["--direct_num_worker=2"])


def test_requests_lie_in_an_order_that_mixes_users(tmp_path):
    rows = [[f"u{n % 20}", "i", n, 1] for n in range(400)]
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, rows)

    def users(seed):
        prepare(tmp_path, SHOP, shards=1, seed=seed)
        (path,) = (tmp_path / "out" / "train").iterdir()
        return [request["request/user"][0] for request in read_file(path)]

    found = users(1)
    # User after user there would be 380 neighbours of one user; by chance there are 20.
    assert sum(a == b for a, b in zip(found, found[1:])) < 45
    assert users(1) == found and sorted(users(2)) == sorted(found) and users(2) != found


@pytest.mark.parametrize("key", [None, "session"])
def test_the_order_of_requests_is_fixed(tmp_path, key):
    schema = SHOP | {"keys": SHOP["keys"] | {"request": key}}
    rows = [[f"u{n % 5}", "i", n, 1, f"s{n // 5}"] for n in range(50)]
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "session"], rows)
    prepare(tmp_path, schema, shards=1, seed=7)
    (path,) = (tmp_path / "out" / "train").iterdir()
    records = read_file(path)
    found = [(r["request/user"][0], r["request/id"][0]) for r in records]

    def place(request):
        # Ids made of user and time stand alone: published figures depend on this order.
        text = "\n".join(request) if key else request[1]
        return hashlib.blake2b(text.encode(), digest_size=8, key=b"order 7").digest()

    assert found == sorted(found, key=place) and len(set(found)) == 50
