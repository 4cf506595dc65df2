"""Requests and splits, counted by hand."""

import math

import pytest

from ctr_tf.data.config import Split
from pipelines.transforms.errors import RejectError
from pipelines.transforms.rows import (
    LogRow,
    build_requests,
    log_rows,
    remembering,
    splitter,
    time_boundaries,
)
from pipelines.transforms.values import number, text


def row(time, request, position=0):
    return LogRow(time, request, 0, position, b"", (0.0,), (1.0,), (), (), ())


def requests(*sizes):
    rows = [row(n, b"r%02d" % n, k) for n, size in enumerate(sizes) for k in range(size)]
    return build_requests(rows)


def test_rows_of_one_id_are_one_request_at_its_earliest_time():
    found = build_requests([row(10, b"b", 1), row(10, b"c", 4), row(12, b"a", 2), row(15, b"b", 3)])
    assert [(request.time, request.id) for request in found] == [
        (10, b"b"),
        (10, b"c"),
        (12, b"a"),
    ]
    assert [r.position for r in found[0].rows] == [1, 3]
    assert [request.last for request in found] == [15, 10, 12]


def test_last_takes_whole_requests_from_the_end():
    assign = splitter(Split(by="last", interactions=3), (math.inf, math.inf))
    # From the end: 1 + 4 >= 3 is test, 2 + 1 >= 3 is validation, the rest training.
    assert assign(requests(5, 1, 2, 4, 1), True) == [0, 1, 1, 2, 2]
    assert assign(requests(9, 3), True) == [1, 2]
    assert assign(requests(2), True) == [2]
    assert assign(requests(2), False) == [0]


def test_by_time_puts_a_time_on_one_side():
    assign = splitter(Split(), (2, 4))
    assert assign(requests(1, 1, 1, 1, 1, 1), True) == [0, 0, 1, 1, 2, 2]


def test_by_time_goes_by_the_last_row():
    assign = splitter(Split(), (2, 4))
    spanning = [row(1, b"a"), row(2, b"a"), row(1, b"b"), row(4, b"b"), row(3, b"c"), row(1, b"d")]
    found = build_requests(sorted(spanning))
    assert [request.id for request in found] == [b"a", b"b", b"d", b"c"]
    assert assign(found, True) == [1, 2, 0, 1]


def test_fractions_are_exact_over_requests():
    counts = {time: 1 for time in range(100)}
    assert time_boundaries(Split(fractions=(0.8, 0.1, 0.1)), counts) == (80, 90)
    # Four of ten share the time at which validation would begin: all go to validation.
    assert time_boundaries(Split(fractions=(0.8, 0.1, 0.1)), {1: 5, 2: 4, 3: 1}) == (2, 3)


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [((1.0, 0.0, 0.0), (math.inf, math.inf)), ((0.5, 0.5, 0.0), (5, math.inf))],
)
def test_shares_of_nothing_never_begin(fractions, expected):
    assert time_boundaries(Split(fractions=fractions), {n: 1 for n in range(10)}) == expected


def test_stated_boundaries_are_seconds():
    assert time_boundaries(Split(boundaries=(5, 7)), {}) == (5_000_000, 7_000_000)


def test_a_split_by_files_follows_their_names():
    split = Split(by="files", validation="valid*.csv", test="*test*")
    files = ["in/train.csv", "in/valid-1.csv", "test/part.csv", "in/a_test.csv.gz"]
    assign = splitter(split, (math.inf, math.inf), files)
    rows = [row(time, b"%d" % time)._replace(file=time) for time in range(4)]
    assert assign(build_requests(rows), True) == [0, 1, 0, 2]


def test_a_random_split_has_its_shares_and_depends_on_the_request_alone():
    split = Split(by="random", fractions=(0.7, 0.2, 0.1))
    assign = splitter(split, (math.inf, math.inf), seed=3)
    requests = build_requests([row(i, b"r%d" % i) for i in range(4000)])
    found = assign(requests, True)
    # Three standard deviations of a share of 4,000 requests are at most 0.022.
    for part, share in enumerate(split.fractions):
        assert abs(found.count(part) / 4000 - share) < 0.022
    assert assign(requests[::-1], False) == found[::-1]
    assert splitter(split, (math.inf, math.inf), seed=4)(requests, True) != found


def test_log_rows_are_the_tuples_with_names():
    plain = tuple(row(10, b"b", 1))
    assert list(log_rows([plain])) == [row(10, b"b", 1)]
    assert next(log_rows([plain])).position == 1


def test_what_is_remembered_is_of_texts_alone():
    asked = []

    def convert(value):
        asked.append(value)
        return text(value, "id")

    found = remembering(convert)
    assert [found(v) for v in ("1", "1", 1, True, 1.0)] == [b"1", b"1", b"1", b"true", b"1"]
    assert asked == ["1", 1, True, 1.0]


def test_an_error_is_raised_each_time():
    found = remembering(lambda value: number(value, "price"))
    for _ in range(2):
        with pytest.raises(RejectError, match="price: not a number"):
            found("dear")
