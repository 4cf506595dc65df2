"""Sequences from a log of behaviours of its own, and the most active users alone."""

import copy
import json
import random

import pytest

from pipelines.transforms.errors import PrepareError
from pipelines.transforms.ingest import RUN
from pipelines.transforms.sequences import Newest, newest
from tests.pipelines.jobs import (
    SHOP_COLUMNS,
    layout,
    prepare,
    read_rejects,
    read_split,
    write_csv,
)

SHOP = {
    "keys": {"user": "user_id", "time": "time", "item": "item_id"},
    "features": {"item_id": {"kind": "categorical"}, "brand": {"kind": "categorical"}},
    "sequences": {
        "history": {
            "max_length": 2,
            "timestamps": True,
            "attributes": {
                "brand": {},
                "action": {"encoder": {}},
            },
        }
    },
    "tasks": {"click": {"column": "click"}},
}
LOG = [
    ["ann", "i1", 10, 1],
    ["ann", "i2", 30, 0],
    ["ann", "i2", 50, 1],
    ["bob", "i1", 30, 0],
    ["eve", "i1", 40, 0],
]
ITEMS = [["i1", "acme"], ["i2", "bolt"]]
COLUMNS = ["user_id", "time", "action", "brand"]
# Not in the order of time; ann's of 30 and 50 are of the very time of a request.
PAST = [
    ["ann", 29, "view", "corn"],
    ["ann", 5, "buy", "dot"],
    ["ann", 30, "view", "now"],
    ["ann", 8, "view", "acme"],
    ["ann", 9, "cart", ""],
    ["ann", 50, "buy", "answer"],
    ["bob", 31, "buy", "later"],
    ["zoe", 1, "view", "unseen"],
]
JOB = {
    "items": {"path": "items.csv", "key": "item_id"},
    "behaviours": {"path": "past.csv"},
}


def write(root, past=PAST, log=LOG):
    write_csv(root / "log.csv", SHOP_COLUMNS, log)
    write_csv(root / "items.csv", ["item_id", "brand"], ITEMS)
    write_csv(root / "past.csv", COLUMNS, past)


def job(root, schema=SHOP, **config):
    return prepare(root, schema, **(JOB | config))


def history(record):
    return [record[f"features/history_{name}"] for name in ("brand", "action", "time")]


def test_a_request_has_the_newest_behaviours_strictly_before_it(tmp_path):
    write(tmp_path)
    manifest = job(tmp_path)
    assert manifest.rejects == {} and manifest.rows["behaviours"].read == 8
    assert manifest.left_out.model_dump() == {"users": 0, "impressions": 0, "below": 0}
    found = read_split(tmp_path / "out", "train")
    assert history(found["ann:10"]) == [["acme", ""], ["view", "cart"], [8, 9]]
    assert history(found["ann:30"]) == [["", "corn"], ["cart", "view"], [9, 29]]
    assert history(found["ann:50"]) == [["corn", "now"], ["view", "view"], [29, 30]]
    assert history(found["bob:30"]) == history(found["eve:40"]) == [[], [], []]
    # The candidates' brands are still those of the items.
    assert found["ann:50"]["features/brand"] == ["bolt"]


def test_what_training_requests_see_is_learned_each_row_once(tmp_path):
    write(tmp_path)
    job(tmp_path, split={"by": "time", "boundaries": (45, 45)})

    def vocabulary(name):
        folder = tmp_path / "out/vocabularies"
        values, counts = ((folder / f"{name}.{kind}").read_text() for kind in ("txt", "counts"))
        return dict(zip(values.split(), map(int, counts.split())))

    # Ann's training requests, at 10 and 30, see the behaviours of 8, 9 and 29: 5 is older than
    # the two newest, 30 is seen by the test request alone. Candidates are i1 three times, i2 once.
    assert vocabulary("history_action") == {"view": 2, "cart": 1}
    assert vocabulary("brand") == {"acme": 3 + 1, "bolt": 1, "corn": 1}
    statistics = json.loads((tmp_path / "out/statistics.json").read_text())
    assert statistics == {}


def test_a_planted_leak_is_not_read(tmp_path):
    # Each user's behaviours name the time they were done at: a request that saw one of its own
    # time or later would tell.
    draw = random.Random(3)
    past = [[f"u{draw.randrange(5)}", draw.randrange(60), "a", "b"] for _ in range(400)]
    log = [[f"u{draw.randrange(5)}", "i1", draw.randrange(60), 0] for _ in range(80)]
    write(tmp_path, past, log)
    schema = copy.deepcopy(SHOP)
    schema["sequences"]["history"]["max_length"] = 7
    job(tmp_path, schema)
    found = read_split(tmp_path / "out", "train")
    assert len(found) == len({(row[0], row[2]) for row in log})
    for record in found.values():
        user, time = record["request/user"][0], record["request/time"][0]
        before = sorted(row[1] for row in past if row[0] == user and row[1] < time)
        assert record["features/history_time"] == before[-7:]


def test_bad_behaviours_are_rejected_with_reason_and_position(tmp_path):
    bad = [["ann", "soon", "view", "x"], ["", 3, "view", "x"], ["ann", 4, "view"]]
    write(tmp_path, PAST + bad)
    manifest = job(tmp_path, max_bad_share=0.3)
    assert manifest.rows["behaviours"].model_dump() == {"read": 11, "rejected": 3}
    assert manifest.rows["impressions"].model_dump() == {"read": 5, "rejected": 0}
    rejects = read_rejects(tmp_path / "out/rejects")
    assert [(own["source"], own["file"], own["line"], own["reason"]) for own in rejects] == [
        ("behaviours", "past.csv", 10, "time: not a number"),
        ("behaviours", "past.csv", 11, "user_id: missing, and a behaviour is a user's"),
        ("behaviours", "past.csv", 12, "expected 4 fields"),
    ]
    with pytest.raises(PrepareError, match="prepare.behaviours: 3 of 11 rows rejected, more than"):
        job(tmp_path, max_bad_share=0.2)
    write(tmp_path, [])
    with pytest.raises(PrepareError, match="prepare.behaviours: no rows"):
        job(tmp_path)


def test_behaviours_with_the_items_key_have_their_attributes(tmp_path):
    write(tmp_path)
    past = [["ann", 5, "buy", "i2"], ["ann", 8, "view", "i9"], ["ann", 9, "view", "i1"]]
    write_csv(tmp_path / "past.csv", ["user_id", "time", "action", "item_id"], past)
    manifest = job(tmp_path, max_bad_share=0.5)
    assert manifest.rejects == {"item_id: not in items": 1}
    found = read_split(tmp_path / "out", "train")
    assert history(found["ann:10"]) == [["bolt", "acme"], ["buy", "view"], [5, 9]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positive": "click"}, "sequences.history.positive: the rows of prepare.behaviours have"),
        ({"separator": "|", "timestamps": False}, "prepare.behaviours: no sequence of the schema"),
        (
            {"attributes": {"brandt": {"encoder": {}}}},
            "attributes.brandt: no column 'brandt' in behaviours; did you mean 'brand'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_prepared_is_named(tmp_path, change, message):
    write(tmp_path)
    schema = copy.deepcopy(SHOP)
    schema["sequences"]["history"] |= change
    with pytest.raises(PrepareError, match=message):
        layout(tmp_path, schema, **JOB)


def test_behaviours_need_user_and_time(tmp_path):
    write(tmp_path)
    write_csv(tmp_path / "past.csv", ["user_id", "when", "action", "brand"], [])
    with pytest.raises(PrepareError, match="keys.time: no column 'time' in behaviours"):
        layout(tmp_path, SHOP, **JOB)


def test_newest_forgets_what_no_request_asks_for():
    draw = random.Random(5)
    rows = [(draw.randrange(5000), b"", 0, position) for position in range(20_000)]
    times = sorted(draw.sample(range(5000), 4))
    found = Newest(times, 50)
    for start in range(0, len(rows), RUN):
        found.add(rows[start : start + RUN])
    ordered = sorted(rows)
    expected = {row for time in times for row in [r for r in ordered if r[0] < time][-50:]}
    assert found.rows() == sorted(expected) == newest(ordered, times, 50)
    assert found.seen == 20_000
    # What is asked for, twice, and a run more.
    assert len(expected) <= 200 and found.held <= 2 * 200 + Newest.SPARE + RUN


@pytest.mark.parametrize(
    ("share", "kept", "left_out"),
    [
        (1.0, {"ann", "bob", "eve"}, {"users": 0, "impressions": 0, "below": 0}),
        (0.7, {"ann", "bob", "eve"}, {"users": 0, "impressions": 0, "below": 0}),
        (0.6, {"ann", "bob"}, {"users": 1, "impressions": 1, "below": 1}),
        (0.1, {"ann"}, {"users": 2, "impressions": 2, "below": 6}),
    ],
)
def test_the_most_active_users_alone_are_kept(tmp_path, share, kept, left_out):
    # Ann has six behaviours, bob one, eve none; zoe has no impression and is nobody here.
    write(tmp_path)
    manifest = job(tmp_path, most_active_users=share)
    found = read_split(tmp_path / "out", "train")
    assert {record["request/user"][0] for record in found.values()} == kept
    assert manifest.left_out.model_dump() == left_out
    assert manifest.splits["train"].users == len(kept)
    assert manifest.rows["impressions"].read == 5


def test_without_a_log_of_behaviours_impressions_are_counted_and_ties_stay(tmp_path):
    rows = [[user, "i1", time, 0] for time in range(3) for user in ("ann", "bob")]
    rows += [["eve", "i1", 90, 0], ["", "i1", 99, 0]]
    write(tmp_path, log=rows)
    schema = copy.deepcopy(SHOP)
    schema["sequences"] = {}
    split = {"by": "time", "fractions": (0.5, 0.25, 0.25)}
    manifest = job(tmp_path, schema, behaviours=None, most_active_users=0.3, split=split)
    assert manifest.left_out.model_dump() == {"users": 1, "impressions": 1, "below": 3}
    # Seven requests are left, of times 0, 0, 1, 1, 2, 2 and, without a user, 99: eve's do not
    # move the boundaries.
    assert manifest.boundaries == (2, 2)
    assert [split.requests for split in manifest.splits.values()] == [4, 0, 3]
