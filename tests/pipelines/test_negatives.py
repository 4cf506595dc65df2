"""Negatives are drawn at the rates that they should be, from what a user did not meet."""

import copy
from collections import Counter

import pytest

from ctr_tf.data.config import Negatives
from pipelines.transforms import write
from pipelines.transforms.negatives import NegativeSampler
from tests.pipelines.jobs import SHOP, SHOP_COLUMNS, prepare, read_file, read_split, write_csv

ITEMS = [b"%03d" % n for n in range(100)]


def rates(sampler, draws, excluded, count=1):
    found = Counter()
    for n in range(draws):
        drawn = sampler.sample(b"request %d" % n, count, excluded)
        assert len(set(drawn)) == len(drawn) == count and not set(drawn) & set(excluded)
        found.update(drawn)
    return found


def test_uniform_rate():
    excluded = set(ITEMS[:20])
    found = rates(NegativeSampler(Negatives(), ITEMS, {}, 5), 8000, excluded, count=4)
    # Each of 80 items is in a request with probability 4 / 80: 400 of 8000, deviation 19.5.
    assert set(found) == set(ITEMS[20:])
    assert all(abs(count - 400) < 5 * 19.5 for count in found.values())


def test_popularity_rate_and_items_never_seen():
    counts = {b"000": 16, b"001": 1, b"002": 81}
    sampler = NegativeSampler(Negatives(popularity=0.5), ITEMS, counts, 5)
    found = rates(sampler, 10_000, {b"002"})
    # 16 ** 0.5 to 1 ** 0.5 is 4 to 1: 8000 of 10,000, deviation 40.
    assert set(found) == {b"000", b"001"} and abs(found[b"000"] - 8000) < 200


def test_draws_depend_on_seed_and_request_alone():
    def draw(seed, request):
        return NegativeSampler(Negatives(), ITEMS, {}, seed).sample(request, 5, set())

    assert draw(1, b"a") == draw(1, b"a")
    assert draw(1, b"a") != draw(2, b"a") and draw(1, b"a") != draw(1, b"b")


@pytest.mark.parametrize("popularity", [0.0, 1.0])
def test_nearly_everything_met(popularity):
    counts = dict.fromkeys(ITEMS, 3)
    sampler = NegativeSampler(Negatives(popularity=popularity), ITEMS, counts, 5)
    assert sampler.sample(b"a", 3, set(ITEMS[1:])) == [b"000"]
    assert sampler.sample(b"a", 3, set(ITEMS)) == []


def test_nothing_to_draw_from():
    assert NegativeSampler(Negatives(popularity=1.0), ITEMS, {}, 5).sample(b"a", 2, set()) == []


@pytest.fixture
def future(tmp_path):
    """Each of 400 users meets item 0, then 1, then 2; the catalogue has ten items."""
    rows = [[f"u{u}", f"i{k}", 100 * k + 1, 1] for u in range(400) for k in range(3)]
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, rows)
    write_csv(tmp_path / "items.csv", ["item_id"], [[f"i{k}"] for k in range(10)])
    return tmp_path


def negatives_of(root, step):
    records = read_split(root / "out", "train")
    found = [record for record in records.values() if record["request/time"] == [100 * step + 1]]
    assert len(found) == 400
    return Counter(item for record in found for item in record["request/items"][1:])


def test_items_of_the_future_stay_eligible_and_those_of_the_past_do_not(future):
    manifest = prepare(
        future, SHOP, items={"path": "items.csv", "key": "item_id"}, negatives={"per_positive": 3}
    )
    assert manifest.splits["train"].negatives == 3 * 1200
    assert manifest.splits["train"].candidates == 4 * 1200
    assert manifest.splits["train"].positives == {"click": 1200}
    first, last = negatives_of(future, 0), negatives_of(future, 2)
    # In its first request a user has 9 eligible items, the planted future ones 1 and 2 among
    # them: each is drawn with probability 3 / 9, 133 of 400, deviation 9.4.
    assert set(first) == {f"i{k}" for k in range(1, 10)}
    assert abs(first["i1"] - 133) < 47 and abs(first["i2"] - 133) < 47
    assert set(last) == {f"i{k}" for k in range(3, 10)}


def test_what_was_met_is_excluded_without_a_copy_of_it(tmp_path, monkeypatch):
    rows = [["bot", f"i{k}", k, 1] for k in range(50)]
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, rows)
    write_csv(tmp_path / "items.csv", ["item_id"], [[f"i{k}"] for k in range(60)])
    given = []
    sample = NegativeSampler.sample

    def spy(self, request, count, own, seen):
        given.append((len(own), len(seen), id(seen)))
        return sample(self, request, count, own, seen)

    monkeypatch.setattr(NegativeSampler, "sample", spy)
    prepare(tmp_path, SHOP, items={"path": "items.csv", "key": "item_id"}, negatives={}, shards=1)
    assert [found[:2] for found in given] == [(1, k) for k in range(50)]
    assert len({found[2] for found in given}) == 1
    for record in read_split(tmp_path / "out", "train").values():
        met = {f"i{k}" for k in range(record["request/time"][0])}
        assert not met & set(record["request/items"])


@pytest.mark.parametrize(("bought", "reason"), [(0, write.UNPOPULAR), (1, write.SCARCE)])
def test_why_there_are_too_few_negatives(tmp_path, bought, reason):
    rows = [["u", "a", 1, bought], ["v", "a", 2, 0], ["u", "b", 9, 1]]
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, rows)
    write_csv(tmp_path / "items.csv", ["item_id"], [["a"], ["b"]])
    manifest = prepare(
        tmp_path,
        SHOP,
        items={"path": "items.csv", "key": "item_id"},
        negatives={"popularity": 0.75},
        split={"by": "time", "boundaries": (5, 5)},
    )
    # The test request's only possible negative, a, was met.
    assert manifest.warnings[reason] == 1 + bought
    assert len({write.UNPOPULAR, write.SCARCE} & set(manifest.warnings)) == 1


def test_seen_items_may_be_allowed_but_never_the_requests_own(future):
    items = {"path": "items.csv", "key": "item_id"}
    prepare(future, SHOP, items=items, negatives={"per_positive": 3, "exclude_seen": False})
    assert set(negatives_of(future, 2)) == {f"i{k}" for k in range(10) if k != 2}


def test_without_a_label_column_every_row_is_a_positive(tmp_path):
    schema = SHOP | {"tasks": {"click": {"weight": "weight"}}}
    rows = [["u", "a", 1, 2], ["u", "b", 2, 0]]
    write_csv(tmp_path / "log.csv", ["user_id", "item_id", "time", "weight"], rows)
    write_csv(tmp_path / "items.csv", ["item_id"], [["a"], ["b"], ["c"], ["d"]])
    items = {"path": "items.csv", "key": "item_id"}
    manifest = prepare(tmp_path, schema, items=items, negatives={"per_positive": 2})
    found = read_split(tmp_path / "out", "train")
    assert found["u:1"]["labels/click"] == [1.0, 0.0, 0.0]
    assert found["u:1"]["weights/click"] == [2.0, 1.0, 1.0]
    assert found["u:2"]["request/items"] == ["b"] and found["u:2"]["weights/click"] == [0.0]
    assert manifest.splits["train"].positives == {"click": 1}
    assert manifest.splits["train"].labelled == {"click": 3}


def test_labels_and_weights_of_negatives(future):
    prepare(future, SHOP, items={"path": "items.csv", "key": "item_id"}, negatives={})
    record = read_split(future / "out", "train")["u7:101"]
    assert record["labels/click"] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert record["weights/click"] == [1.0] * 5
    assert record["request/candidates"] == [5]
    assert record["features/item_id"] == record["request/items"]
    assert record["request/items"][0] == "i1"


def test_request_ids_that_start_anew_with_each_user_share_no_randomness(tmp_path):
    schema = copy.deepcopy(SHOP)
    schema["keys"]["request"] = "request_id"
    rows = [[f"u{u}", "i0", 1, 1, "1"] for u in range(300)]
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "request_id"], rows)
    write_csv(tmp_path / "items.csv", ["item_id"], [[f"i{k}"] for k in range(11)])
    prepare(
        tmp_path,
        schema,
        items={"path": "items.csv", "key": "item_id"},
        negatives={"per_positive": 1},
        split={"by": "random", "fractions": (0.5, 0.25, 0.25)},
        shards=1,
    )
    found = {
        split: [
            request for path in (tmp_path / "out" / split).iterdir() for request in read_file(path)
        ]
        for split in ("train", "validation", "test")
    }
    # By chance 150, 75 and 75 of 300, deviations 8.7 and 7.5; of one key all were in one split.
    assert abs(len(found["train"]) - 150) < 44 and abs(len(found["test"]) - 75) < 38
    drawn = Counter(r["request/items"][1] for records in found.values() for r in records)
    # Ten items, 30 of 300 each, deviation 5.2.
    assert len(drawn) == 10 and all(abs(count - 30) < 27 for count in drawn.values())
    users = [record["request/user"][0] for record in found["train"]]
    assert users != sorted(users)
