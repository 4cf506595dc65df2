"""Sequences hold what was strictly before a request; a planted leak does not get in."""

import random

from pipelines.transforms.rows import MICROSECONDS, LogRow, build_requests
from pipelines.transforms.sequences import History, stated
from tests.pipelines.jobs import SHOP, SHOP_COLUMNS, layout, write_csv

LEAK = {
    **SHOP,
    "sequences": {
        "history": {
            "max_length": 4,
            "timestamps": True,
            "attributes": {"label_then": {"encoder": {"encoding": "hashed", "size": 2}}},
        }
    },
}


def history(tmp_path, rows, schema=LEAK, **config):
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "label_then"], [])
    return History("history", layout(tmp_path, schema, **config), rows, {})


def event(second, label=1.0, value=b""):
    time = second * MICROSECONDS
    return LogRow(
        time, b"%d" % second, 0, second, b"i", (label,), (1.0,), (), (), (value or b"%d" % second,)
    )


def test_a_planted_leak_is_not_read(tmp_path):
    # The attribute of every event is the label of the user's request at that very time: any
    # request that saw an event of its own time or later would see its answer.
    draw = random.Random(3)
    rows = [event(n // 2, float(draw.random() < 0.5), b"%d" % (n // 2)) for n in range(60)]
    found = history(tmp_path, rows)
    for request in build_requests(rows):
        second = request.time // MICROSECONDS
        before = found.before(request.time)
        expected = [n // 2 for n in range(60) if n // 2 < second][-4:]
        assert [int(value) for value in before.attributes[0]] == expected
        assert before.times == expected and before.length == len(expected)
        assert all(time < second for time in before.times)


def test_events_of_the_same_time_are_excluded_whatever_their_order(tmp_path):
    found = history(tmp_path, [event(1), event(2), event(2), event(3)])
    assert found.before(2 * MICROSECONDS).attributes == ([b"1"],)
    assert found.before(2 * MICROSECONDS + 1).attributes == ([b"1", b"2", b"2"],)
    assert found.before(1 * MICROSECONDS).length == 0


def test_the_newest_are_kept_oldest_first(tmp_path):
    found = history(tmp_path, [event(n) for n in range(9)])
    assert found.before(8 * MICROSECONDS).attributes == ([b"4", b"5", b"6", b"7"],)


def test_positive_events_alone(tmp_path):
    schema = {**LEAK, "sequences": {"history": {**LEAK["sequences"]["history"]}}}
    schema["sequences"]["history"]["positive"] = "click"
    found = history(tmp_path, [event(1, 1.0), event(2, 0.0), event(3, 1.0)], schema)
    assert found.before(9 * MICROSECONDS).attributes == ([b"1", b"3"],)


def test_stated_sequences_are_cut_to_the_newest(tmp_path):
    write_csv(tmp_path / "log.csv", [*SHOP_COLUMNS, "label_then"], [])
    sequence = layout(tmp_path, LEAK).schema.sequences["history"]
    found = stated(sequence, ((b"a", b"b", b"c", b"d", b"e"),))
    assert found.length == 4 and found.attributes == ((b"b", b"c", b"d", b"e"),)
