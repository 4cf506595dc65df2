"""What a column's values become, and why some are rejected."""

import math
from datetime import UTC, datetime

import pytest

from ctr_tf.schema import MISSING_INT, Categorical, Numeric, Task, Text, Vector
from pipelines.transforms.errors import RejectError
from pipelines.transforms.values import converter, joined, label, timestamp

INT = Categorical(dtype="int", encoding="hashed", size=9)
MULTI = Categorical(multi=True, separator=";", max_values=2)


@pytest.mark.parametrize(
    ("feature", "value", "expected"),
    [
        (Categorical(), "é", "é".encode()),
        (Categorical(), None, b""),
        (Categorical(), 3, b"3"),
        (Categorical(), 3.0, b"3"),
        (Categorical(), -0.0, b"0"),
        (Categorical(), 3.5, b"3.5"),
        (Categorical(), 1e300, b"1e+300"),
        (MULTI, [1.0, 2], (b"1", b"2")),
        (Categorical(), True, b"true"),
        (INT, " 7 ", 7),
        (INT, "", MISSING_INT),
        (INT, None, MISSING_INT),
        (INT, 7.0, 7),
        (MULTI, "a;;b;c", (b"a", b"b")),
        (MULTI, "", ()),
        (MULTI, ["a", None, "b"], (b"a", b"b")),
        (Categorical(dtype="int", encoding="hashed", size=9, multi=True), "1|2", (1, 2)),
        (Numeric(), "1e3", 1000.0),
        (Numeric(default=-1.0), "", -1.0),
        (Text(), "two\nlines", b"two\nlines"),
        (Vector(table="t.npz", width=2, dtype="int"), "5", 5),
    ],
)
def test_converted(feature, value, expected):
    assert converter(feature, "x")(value) == expected


@pytest.mark.parametrize(
    ("feature", "value", "reason"),
    [
        (Categorical(), "two\nlines", "x: line break in a categorical value"),
        (Categorical(), "bad \udcff byte", "x: not valid UTF-8"),
        (Categorical(), b"\xff", "x: not valid UTF-8"),
        (Categorical(), {1, 2}, "x: neither text nor a number"),
        (Categorical(), ["a"], "x: neither text nor a number"),
        (Categorical(), {"a": 1}, "x: neither text nor a number"),
        (MULTI, [["a"]], "x: neither text nor a number"),
        (Text(), ["a"], "x: neither text nor a number"),
        (Categorical(), math.nan, "x: NaN"),
        (Categorical(), -math.inf, "x: infinite"),
        (MULTI, ["a", math.nan], "x: NaN"),
        (Vector(table="t.npz", width=2), math.nan, "x: NaN"),
        (INT, "3.5", "x: not an integer"),
        (INT, "1_000", "x: not an integer"),
        (Numeric(), "1_000", "x: not a number"),
        (INT, 3.5, "x: not an integer"),
        (INT, str(2**63), "x: beyond 64 bits"),
        (Numeric(), "abc", "x: not a number"),
        (Numeric(), "nan", "x: NaN"),
        (Numeric(), math.nan, "x: NaN"),
        (Numeric(), "1e39", "x: infinite or beyond float32"),
        (Numeric(), "", "x: missing number, and the feature has no default"),
    ],
)
def test_rejected(feature, value, reason):
    with pytest.raises(RejectError) as error:
        converter(feature, "x")(value)
    assert error.value.reason == reason


@pytest.mark.parametrize("value", ["-1", "4", 2**40])
def test_ids_beyond_an_identity_vocabulary_are_rejected(value):
    feature = Categorical(dtype="int", encoding="identity", size=4)
    convert = converter(feature, "age", identity=4)
    assert convert("3") == 3 and convert("") == MISSING_INT
    with pytest.raises(RejectError, match="age: id beyond the identity vocabulary of 4"):
        convert(value)


def test_joined_sequences():
    convert = joined(converter(MULTI, "x"), ",", "x")
    assert convert("a;b,c,") == ((b"a", b"b"), (b"c",), ())
    assert convert("") == ()
    assert convert([["a"], ["b", "c", "d"]]) == ((b"a",), (b"b", b"c"))
    with pytest.raises(RejectError, match="x: neither text nor a list"):
        convert(5)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("978300019", "s", 978300019_000000),
        ("978300019.5", "s", 978300019_500000),
        (978300019.25, "s", 978300019_250000),
        ("-1", "ms", -1000),
        ("1970-01-02", "iso", 86400_000000),
        ("1970-01-01T01:00:00+01:00", "iso", 0),
        (datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC), "iso", 1_000005),
    ],
)
def test_times_are_microseconds(value, unit, expected):
    assert timestamp(value, "t", unit) == expected


@pytest.mark.parametrize(
    ("value", "unit", "reason"),
    [
        ("", "s", "t: missing time"),
        ("yesterday", "s", "t: not a number"),
        ("yesterday", "iso", "t: not an ISO 8601 time"),
        ("978300019000", "s", "t: beyond the years 1 to 9999 (keys.time_unit: s)"),
    ],
)
def test_unusable_times(value, unit, reason):
    with pytest.raises(RejectError) as error:
        timestamp(value, "t", unit)
    assert error.value.reason == reason


def test_labels():
    assert label(Task(column="c"), 1) == (1.0, 1.0)
    assert label(Task(column="c", above=3), "3") == (0.0, 1.0)
    assert label(Task(column="c", equals="buy"), "buy") == (1.0, 1.0)
    assert label(Task(column="c", equals="buy"), None) == (0.0, 0.0)
    with pytest.raises(RejectError, match="c: neither 0 nor 1"):
        label(Task(column="c"), "2")
