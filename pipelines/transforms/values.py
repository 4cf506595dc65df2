"""Turns the values of a log's columns into what records hold, or rejects them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from ctr_tf.schema import MISSING_INT, Categorical, Numeric, Task, Text, Vector
from ctr_tf.schema.features import Feature
from pipelines.transforms.errors import RejectError

Converter = Callable[[object], object]

MICROSECONDS = 1_000_000
FLOAT32_MAX = 3.4028234663852886e38
YEARS = (-62_135_596_800, 253_402_300_799)


def text(value: object, column: str) -> bytes:
    """A value as UTF-8; missing is empty, numbers are as JSON writes them.

    A whole number is one whatever its type: columns of integers with gaps come as floats.

    Example:
        >>> text("é", "title"), text(3.0, "id"), text(None, "id")
        (b'\\xc3\\xa9', b'3', b'')
    """
    if value is None:
        return b""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RejectError(f"{column}: {'NaN' if math.isnan(value) else 'infinite'}", value)
        value = int(value) if value.is_integer() and abs(value) < 2**53 else value
    try:
        if isinstance(value, bytes):
            return value.decode().encode()
        if isinstance(value, (bool, int, float)):
            value = json.dumps(value)
        return value.encode()
    except UnicodeError:
        raise RejectError(f"{column}: not valid UTF-8", ascii(value)) from None
    except AttributeError:
        raise RejectError(f"{column}: neither text nor a number", ascii(value)) from None


def cleaned(value: object, strip: bool, missing: Collection[str]) -> object:
    """A text value without white space around it, empty where it stands for a missing one.

    Values of a list are cleaned one by one.

    Example:
        >>> cleaned([" a", "?", 3], True, ["?"])
        ['a', '', 3]
    """
    if isinstance(value, (list, tuple)):
        return [cleaned(one, strip, missing) for one in value]
    if not isinstance(value, str):
        return value
    value = value.strip() if strip else value
    return "" if value in missing else value


def identifier(value: object, column: str) -> bytes:
    """A value that names something, on one line, because vocabularies hold one a line."""
    found = text(value, column)
    if b"\n" in found or b"\r" in found:
        raise RejectError(f"{column}: line break in a categorical value", value)
    return found


def integer(value: object, column: str) -> int:
    """A 64-bit integer; missing is `MISSING_INT`.

    Example:
        >>> integer("12", "age"), integer(12.0, "age")
        (12, 12)
    """
    if value is None or value == "":
        return MISSING_INT
    try:
        _check_plain(value)
        found = int(value)
        if found != value and not isinstance(value, str):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise RejectError(f"{column}: not an integer", value) from None
    if not MISSING_INT < found < 2**63:
        raise RejectError(f"{column}: beyond 64 bits", value)
    return found


def number(value: object, column: str) -> float:
    """A finite number within float32's range.

    Example:
        >>> number("1.5", "price")
        1.5
    """
    try:
        _check_plain(value)
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise RejectError(f"{column}: not a number", value) from None
    if not -FLOAT32_MAX <= found <= FLOAT32_MAX:
        rule = "NaN" if math.isnan(found) else "infinite or beyond float32"
        raise RejectError(f"{column}: {rule}", value)
    return found


def _check_plain(value: object) -> None:
    # Python reads `1_000` as a number; logs do not mean one by it.
    if isinstance(value, str) and "_" in value:
        raise ValueError


def timestamp(value: object, column: str, unit: str) -> int:
    """Unix microseconds of a time given in `s`, `ms` or as `iso` text; without a zone it is UTC.

    Example:
        >>> timestamp("978300019", "t", "s"), timestamp("1970-01-01T00:00:01", "t", "iso")
        (978300019000000, 1000000)
    """
    if value is None or value == "":
        raise RejectError(f"{column}: missing time", value)
    if unit == "iso":
        found = _iso(value, column)
    else:
        scale = MICROSECONDS if unit == "s" else 1000
        try:
            _check_plain(value)
            found = round(value * scale) if isinstance(value, float) else int(value) * scale
        except (TypeError, ValueError, OverflowError):
            found = round(number(value, column) * scale)
    if not YEARS[0] <= found // MICROSECONDS <= YEARS[1]:
        raise RejectError(f"{column}: beyond the years 1 to 9999 (keys.time_unit: {unit})", value)
    return found


def _iso(value: object, column: str) -> int:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise RejectError(f"{column}: not an ISO 8601 time", value) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (elapsed.days * 86_400 + elapsed.seconds) * MICROSECONDS + elapsed.microseconds


def as_it_stands(value: object) -> object:
    """The value."""
    return value


def converter(
    feature: Feature,
    column: str,
    identity: int | None = None,
    clean: Converter = as_it_stands,
) -> Converter:
    """What turns a column's value into a record's.

    Args:
        feature: the feature or the encoder of a sequence attribute.
        column: its column, for reasons.
        identity: ids must be below it; None where the encoding has no such bound.
        clean: applied to each of several values that one text holds.

    Example:
        >>> converter(Categorical(multi=True, max_values=2), "genres")("Drama|War|Comedy")
        (b'Drama', b'War')
    """
    if isinstance(feature, Numeric):
        return _numeric(feature, column)
    if isinstance(feature, Text):
        return lambda value: text(value, column)
    if isinstance(feature, Vector):
        one = integer if feature.dtype == "int" else identifier
        return lambda value: one(value, column)
    return _categorical(feature, column, identity, clean)


def _numeric(feature: Numeric, column: str) -> Converter:
    def convert(value: object) -> float:
        if value is None or value == "":
            if feature.default is None:
                raise RejectError(f"{column}: missing number, and the feature has no default")
            return feature.default
        return number(value, column)

    return convert


def _categorical(
    feature: Categorical, column: str, identity: int | None, clean: Converter
) -> Converter:
    def one(value: object) -> bytes | int:
        if feature.dtype == "string":
            return identifier(value, column)
        found = integer(value, column)
        if identity is not None and found != MISSING_INT and not 0 <= found < identity:
            raise RejectError(f"{column}: id beyond the identity vocabulary of {identity}", value)
        return found

    if not feature.multi:
        return one

    def several(value: object) -> tuple:
        if value is None:
            return ()
        parts = clean(value.split(feature.separator)) if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)):
            parts = [parts]
        kept = [part for part in parts if part is not None and part != ""]
        return tuple(one(part) for part in kept[: feature.max_values])

    return several


def joined(
    convert: Converter, separator: str, column: str, clean: Converter = as_it_stands
) -> Converter:
    """What turns a column that holds a whole sequence into the tuple of its elements."""

    def convert_all(value: object) -> tuple:
        if value is None or value == "":
            return ()
        parts = clean(value.split(separator)) if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)):
            raise RejectError(f"{column}: neither text nor a list", value)
        return tuple(convert(part) for part in parts)

    return convert_all


def label(task: Task, value: object) -> tuple[float, float]:
    """A task's label and whether it counts, 0 or 1 each; without a column every row is a positive.

    Example:
        >>> label(Task(column="rating", above=3), "4"), label(Task(column="click"), "")
        ((1.0, 1.0), (0.0, 0.0))
    """
    if task.column is None:
        return 1.0, 1.0
    if value is None or value == "":
        return 0.0, 0.0
    if task.equals is not None:
        return float(text(value, task.column) == task.equals.encode()), 1.0
    if task.above is not None:
        return float(number(value, task.column) > task.above), 1.0
    return binary(value, task.column), 1.0


def binary(value: object, column: str) -> float:
    """A number that must be 0 or 1."""
    found = number(value, column)
    if found not in (0.0, 1.0):
        raise RejectError(f"{column}: neither 0 nor 1", value)
    return found
