"""Histories for pre-training: the training period in windows, and nothing from after it."""

import copy
import random

import pytest

from pipelines.transforms import write
from pipelines.transforms.errors import PrepareError
from tests.pipelines.jobs import SHOP, SHOP_COLUMNS, layout, prepare, read_split, write_csv

TIMED = copy.deepcopy(SHOP)
TIMED["sequences"]["history"]["timestamps"] = True
SESSIONS = copy.deepcopy(TIMED)
SESSIONS["keys"]["request"] = "session"
SPLITS = ("train", "validation", "test")


def job(root, schema=TIMED, **config):
    return prepare(root, schema, **({"histories": True} | config))


def histories(root):
    """The items of each record by its id."""
    found = read_split(root / "out", "histories")
    return {name: record["features/history_item_id"] for name, record in found.items()}


def items(times):
    return [f"i{time}" for time in times]


def rows(user, times):
    return [[user, f"i{time}", time, 1] for time in times]


def test_the_training_period_is_cut_from_the_newest_backwards(tmp_path):
    # Of eleven requests the last two are test and the two before them validation.
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, rows("ann", range(11)))
    manifest = job(tmp_path, split={"by": "last", "interactions": 2})
    assert histories(tmp_path) == {
        "ann/0": items([4, 5, 6]),
        "ann/1": items([1, 2, 3]),
        # i0, alone, is left out.
    }
    record = read_split(tmp_path / "out", "histories")["ann/1"]
    assert record["request/user"] == ["ann"] and record["features/user_id"] == ["ann"]
    assert record["request/time"] == [3] and record["features/history_time"] == [1, 2, 3]
    # The candidate, not read, is the first one of the last training request.
    assert record["request/items"] == record["features/item_id"] == ["i6"]
    held = manifest.splits["histories"]
    assert (held.requests, held.behaviours, held.candidates, held.users) == (2, 6, 2, 1)
    assert (held.first_time, held.last_time, held.users_without_training_rows) == (3, 6, 0)
    assert sum(file.records for file in held.files) == 2


def test_nothing_at_or_after_the_first_request_held_out(tmp_path):
    # Ann's first request held out is of the time of a training one, bob's is of test, dan's is
    # before all training ones; eve has none; fay has no other; nobody knows the last.
    shown = {
        "train": {"ann": [1, 2, 5, 9], "bob": [1, 2, 5, 9], "eve": [1, 2, 5, 9], "dan": [4, 6],
                  "": [1, 2, 3]},
        "valid": {"ann": [5, 7], "bob": [8], "dan": [3], "fay": [1, 2, 3]},
        "test": {"bob": [4]},
    }  # fmt: skip
    for name, users in shown.items():
        log = [row for user, times in users.items() for row in rows(user, times)]
        log = [[*row, f"{name} {row[0]} {row[2]}"] for row in log]
        write_csv(tmp_path / f"{name}.csv", [*SHOP_COLUMNS, "session"], log)
    job(
        tmp_path,
        SESSIONS,
        impressions={"path": [f"{name}.csv" for name in shown]},
        split={"by": "files", "validation": "valid*", "test": "test*"},
    )
    assert histories(tmp_path) == {
        "ann/0": items([1, 2]),
        "bob/0": items([1, 2]),
        "eve/0": items([2, 5, 9]),
    }
    assert set(read_split(tmp_path / "out", "next")) == {
        "valid ann 5", "valid bob 8", "valid dan 3", "valid fay 1"
    }  # fmt: skip


def test_without_a_request_held_out_all_of_training_counts_to_its_end(tmp_path):
    # The first session ends after the second, which is the last to begin.
    log = [["ann", "i1", 1, 1, "s"], ["ann", "i4", 4, 1, "t"], ["ann", "i6", 6, 1, "s"]]
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "session"], log)
    job(tmp_path, SESSIONS)
    assert histories(tmp_path) == {"ann/0": items([1, 4, 6])}
    found = read_split(tmp_path / "out", "histories")["ann/0"]
    assert found["request/items"] == ["i4"] and found["request/time"] == [6]
    # Nobody has a validation request.
    assert read_split(tmp_path / "out", "next") == {}


def test_a_request_that_spans_the_boundary_is_held_out_with_all_its_rows(tmp_path):
    log = [[*row, str(row[2])] for row in rows("ann", [1, 2, 3, 10])]
    log += [["ann", "late", 3, 1, "s"], ["ann", "late", 12, 1, "s"]]
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "session"], log)
    job(tmp_path, SESSIONS, split={"by": "time", "boundaries": (11, 20)})
    # Session s begins at 3: the training rows at 3 and 10 are not before it.
    assert histories(tmp_path) == {"ann/0": items([1, 2])}
    assert set(read_split(tmp_path / "out", "next")) == {"s"}


def past(user, times):
    return [[user, f"i{time}", time] for time in times]


def test_a_log_of_behaviours_is_cut_at_the_boundary_and_before_the_first_held_out(tmp_path):
    shown = [["ann", "a", 20, 1], ["ann", "b", 50, 1], ["bob", "a", 20, 1], ["bob", "b", 30, 1]]
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, shown)
    times = [5, 19, 20, 29, 30, 44, 45, 46, 50]
    log = [*past("ann", times), *past("bob", times)]
    write_csv(tmp_path / "past.csv", ["user_id", "item_id", "time"], log)
    schema = copy.deepcopy(TIMED)
    schema["sequences"]["history"]["max_length"] = 9
    behaviours = {"path": "past.csv"}
    # Ann's validation request, at 50, asks for what she did up to 46, but validation begins at 45.
    job(tmp_path, schema, behaviours=behaviours, split={"by": "time", "boundaries": (45, 60)})
    assert read_split(tmp_path / "out", "validation")["ann:50"]["features/history_time"][-1] == 46
    assert histories(tmp_path) == {
        "ann/0": items([5, 19, 20, 29, 30, 44]),
        "bob/0": items([5, 19, 20, 29, 30, 44]),
    }
    # Of no time, training ends with the user's last request: ann's at 50 and bob's at 30.
    job(tmp_path, schema, behaviours=behaviours)
    assert histories(tmp_path) == {
        "ann/0": items([5, 19, 20, 29, 30, 44, 45, 46, 50]),
        "bob/0": items([5, 19, 20, 29, 30]),
    }
    # Ann's request at 50 is validation and bob's at 30: of each what is strictly before it.
    write_csv(
        tmp_path / "log.csv", SHOP_COLUMNS, shown + [["ann", "c", 70, 1], ["bob", "c", 70, 1]]
    )
    job(tmp_path, schema, behaviours=behaviours, split={"by": "last", "interactions": 1})
    assert histories(tmp_path) == {
        "ann/0": items([5, 19, 20, 29, 30, 44, 45, 46]),
        "bob/0": items([5, 19, 20, 29]),
    }


def test_a_log_of_behaviours_is_read_whole_though_requests_ask_for_the_newest(tmp_path):
    shown = [["ann", "a", 9, 1], ["ann", "b", 11, 1], ["eve", "a", 12, 1]]
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, shown)
    log = [*past("ann", range(1, 11)), *past("eve", range(1, 11))]
    write_csv(tmp_path / "past.csv", ["user_id", "item_id", "time"], log)
    config = {"behaviours": {"path": "past.csv"}, "split": {"by": "time", "boundaries": (10, 12)}}
    manifest = job(tmp_path, **config)
    # Windows are of three. Eve has no training request.
    assert manifest.warnings[write.UNTRAINED] == 1
    assert histories(tmp_path) == {
        "ann/0": items([7, 8, 9]),
        "ann/1": items([4, 5, 6]),
        "ann/2": items([1, 2, 3]),
    }
    train = read_split(tmp_path / "out", "train")
    assert train["ann:9"]["features/history_item_id"] == items([6, 7, 8])
    # What is learned is what the request at 9 sees, and its candidate.
    learned = (tmp_path / "out" / "vocabularies" / "item_id.txt").read_text().split()
    assert sorted(learned) == ["a", *items([6, 7, 8])]


def test_a_record_holds_a_window_of_every_sequence(tmp_path):
    schema = copy.deepcopy(TIMED)
    schema["sequences"] |= {
        "clicks": {"max_length": 2, "positive": "click", "timestamps": True,
                   "attributes": {"item_id": {}}},
        "stated": {"max_length": 4, "separator": ",",
                   "attributes": {"item_id": {"column": "past"}}},
    }  # fmt: skip
    schema["sequences"]["history"]["max_length"] = 4
    clicked = {1, 2, 4, 5}
    log = [["ann", f"i{time}", time, int(time in clicked), "x,y"] for time in range(1, 10)]
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "past"], log)
    manifest = job(tmp_path, schema)
    found = read_split(tmp_path / "out", "histories")
    held = {
        name: [record[f"features/{key}_item_id"] for key in ("history", "clicks", "stated")]
        for name, record in found.items()
    }
    # The third record, of i1 alone, has no sequence of two.
    assert held == {
        "ann/0": [items([6, 7, 8, 9]), items([4, 5]), []],
        "ann/1": [items([2, 3, 4, 5]), items([1, 2]), []],
    }
    assert found["ann/0"]["request/time"] == [9] and found["ann/1"]["request/time"] == [5]
    assert found["ann/0"]["features/clicks_time"] == [4, 5]
    assert manifest.splits["histories"].behaviours == 12
    assert read_split(tmp_path / "out", "train")["ann:9"]["features/stated_item_id"] == ["x", "y"]
    # The second window of clicks, of i1 alone, has no record of its own, but one with a history.
    schema["sequences"]["clicks"]["max_length"] = 3
    schema["sequences"]["history"]["max_length"] = 9
    job(tmp_path, schema)
    found = read_split(tmp_path / "out", "histories")
    assert {name: record["features/clicks_item_id"] for name, record in found.items()} == {
        "ann/0": items([2, 4, 5])
    }
    schema["sequences"]["history"]["max_length"] = 5
    job(tmp_path, schema)
    found = read_split(tmp_path / "out", "histories")["ann/1"]
    assert found["features/history_item_id"] == items([1, 2, 3, 4])
    assert found["features/clicks_item_id"] == items([1]) and found["request/time"] == [4]
    # A sequence of fewer windows is empty in the further ones.
    schema["sequences"]["clicks"]["max_length"] = 4
    job(tmp_path, schema)
    found = read_split(tmp_path / "out", "histories")["ann/1"]
    assert found["features/history_item_id"] == items([1, 2, 3, 4])
    assert found["features/clicks_item_id"] == [] and found["features/clicks_time"] == []


@pytest.mark.parametrize(
    "split",
    [
        {"by": "last", "interactions": 3},
        {"by": "time"},
        {"by": "random", "fractions": (0.96, 0.02, 0.02)},
        {"by": "none"},
    ],
    ids=lambda split: split["by"],
)
def test_a_planted_leak_is_not_read(tmp_path, split):
    # An item's name is its time: a window that held one of validation or later would tell.
    draw = random.Random(3)
    log = [[f"u{draw.randrange(8)}", "", draw.randrange(100), 1] for _ in range(400)]
    log = [[user, f"i{time}", time, click] for user, _, time, click in log]
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, log)
    job(tmp_path, split=split)
    requests = {name: read_split(tmp_path / "out", name) for name in SPLITS}
    times = {name: {} for name in SPLITS}
    for name, found in requests.items():
        for record in found.values():
            times[name].setdefault(record["request/user"][0], []).append(record["request/time"][0])
    expected = {}
    for user, training in times["train"].items():
        held_out = times["validation"].get(user, []) + times["test"].get(user, [])
        own = sorted(
            row[2] for row in log if row[0] == user and row[2] < min(held_out, default=100)
        )
        assert set(own) <= set(training)
        k = 0
        while len(own) > 1:
            expected[f"{user}/{k}"] = items(own[-3:])
            own, k = own[:-3], k + 1
    assert histories(tmp_path) == expected and len(expected) > 8


def test_the_first_validation_request_of_each_user_stands_once_more(tmp_path):
    log = [row for n in range(12) for row in rows("ann", [n]) + rows("bob", [n])]
    log += rows("eve", [9, 10]) + rows("fay", [1, 2]) + rows("", [9, 10])
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, log)
    write_csv(tmp_path / "items.csv", ["item_id"], [[f"i{n}"] for n in range(40)])
    manifest = job(
        tmp_path,
        items={"path": "items.csv", "key": "item_id"},
        negatives={"per_positive": 5},
        split={"by": "time", "boundaries": (9, 11)},
    )
    validation, found = (read_split(tmp_path / "out", name) for name in ("validation", "next"))
    # Ann and bob have a validation request at 9 and at 10, and so has whoever has no id.
    assert set(validation) == {f"{user}:{n}" for user in ("ann", "bob", "eve") for n in (9, 10)} | {
        "log.csv:30", "log.csv:31"
    }  # fmt: skip
    # Byte for byte, negatives included.
    assert found == {f"{user}:9": validation[f"{user}:9"] for user in ("ann", "bob", "eve")}
    assert found["ann:9"]["features/history_item_id"] == items([6, 7, 8])
    assert found["ann:9"]["labels/click"] == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    held = manifest.splits["next"]
    assert (held.requests, held.candidates, held.negatives, held.users) == (3, 18, 15, 3)
    assert held.users_without_training_rows == 1 and held.positives == {"click": 3}
    # Windows have no negatives; eve has no training request, fay's two are one window.
    assert manifest.splits["histories"].negatives == 0
    assert set(histories(tmp_path)) == {f"{u}/{k}" for u in ("ann", "bob") for k in range(3)} | {
        "fay/0"
    }


def test_nothing_else_changes(tmp_path, capfd):
    draw = random.Random(5)
    log = [[f"u{draw.randrange(9)}", f"i{draw.randrange(30)}", n, n % 2] for n in range(300)]
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, log + [["u1", "i1", "never", 1]])
    write_csv(tmp_path / "items.csv", ["item_id"], [[f"i{n}"] for n in range(31)])

    def outcome(**config):
        found = prepare(
            tmp_path,
            TIMED,
            items={"path": "items.csv", "key": "item_id"},
            negatives={"per_positive": 12},
            split={"by": "time"},
            max_bad_share=0.1,
            **config,
        )
        out = tmp_path / "out"
        names = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        del names["manifest.json"]
        return found, names

    manifest, files = outcome()
    capfd.readouterr()
    wider, more = outcome(histories=True)
    assert set(manifest.splits) == set(SPLITS) and "histories" not in manifest.config
    assert wider.config == manifest.config | {"histories": True}
    added = set(more) - set(files)
    assert {name.split("/")[0] for name in added} == {"histories", "next"} and len(added) == 4
    assert {name: more[name] for name in files} == files
    assert {name: wider.splits[name] for name in SPLITS} == manifest.splits
    for key in ("rows", "rejects", "warnings", "learned"):
        assert getattr(wider, key) == getattr(manifest, key)
    assert manifest.rejects and manifest.warnings
    held = wider.splits["histories"]
    shown = " ".join(capfd.readouterr().err.split())
    assert f"histories: {held.requests} windows, {held.behaviours} behaviours" in shown
    assert f"next: {wider.splits['next'].requests} requests, " in shown


def test_histories_need_a_sequence_that_is_built(tmp_path):
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, rows("ann", [1]))
    with pytest.raises(PrepareError, match="prepare.histories: no sequence of the schema is built"):
        layout(tmp_path, SHOP | {"sequences": {}}, histories=True)
