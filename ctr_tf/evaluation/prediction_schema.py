"""The schema of prediction files, and the checks that name file, row and request."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

IMPRESSION_FIELDS = {
    "request_id": pa.string(),
    "user_id": pa.string(),
    "time": pa.int64(),
    "item_id": pa.string(),
    "item_frequency": pa.int64(),
    "history_length": pa.int32(),
}
_SHARD = re.compile(r"^(?P<prefix>.*)-(?P<index>\d{5})-of-(?P<count>\d{5})(?P<suffix>\..*)?$")


def task_names(table: pa.Table | pa.Schema) -> list[str]:
    """The tasks that a table or schema has scores for."""
    names = table.names if isinstance(table, pa.Schema) else table.column_names
    return [name.removeprefix("score.") for name in names if name.startswith("score.")]


def check_shards(names: Sequence[str]) -> None:
    """Checks that every set of shards `name-00000-of-00004` among the names is complete.

    Raises:
        FileNotFoundError: no names, or a shard is missing; names it.

    Example:
        >>> check_shards(["p-00000-of-00002.parquet"])
        Traceback (most recent call last):
        FileNotFoundError: shard p-00001-of-00002.parquet is missing
    """
    if not names:
        raise FileNotFoundError("no prediction file")
    found: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for name in names:
        if match := _SHARD.match(name):
            key = (match["prefix"], match["count"], match["suffix"] or "")
            found[key].add(int(match["index"]))
    for (prefix, count, suffix), indices in found.items():
        for index in range(int(count)):
            if index not in indices:
                raise FileNotFoundError(f"shard {prefix}-{index:05d}-of-{count}{suffix} is missing")


def check_table(table: pa.Table, source: str, first_row: int = 0) -> pa.Table:
    """Checks columns, types and values; returns the known columns in their order and type.

    Args:
        table: the rows to check.
        source: file the rows come from, for messages.
        first_row: position of the table's first row in that file.

    Raises:
        ValueError: a column is missing or has the wrong type, or a value breaks its rule.
    """
    if "request_id" not in table.column_names:
        raise ValueError(f"{source}: column `request_id` is missing, received {table.column_names}")
    tasks = task_names(table)
    if not tasks:
        raise ValueError(f"{source}: no column `score.<task>`, received {table.column_names}")
    task_fields = {
        f"{kind}.{task}": pa.float64() for task in tasks for kind in ("label", "weight", "score")
    }
    columns = {}
    for name, kind in (IMPRESSION_FIELDS | task_fields).items():
        if name in table.column_names:
            columns[name] = _cast(table[name], name, kind, source)
        elif name in IMPRESSION_FIELDS:
            columns[name] = pa.nulls(table.num_rows, kind)
        else:
            raise ValueError(f"{source}: column `{name}` is missing, received {table.column_names}")
    checked = pa.table(columns)
    rules = _Rules(checked, source, first_row)
    rules.require("request_id", "not null", pc.is_valid(checked["request_id"]))
    for name in ("item_frequency", "history_length"):
        rules.require(name, "at least 0 or null", pc.greater_equal(checked[name], 0))
    for task in tasks:
        label, weight, score = (checked[f"{kind}.{task}"] for kind in ("label", "weight", "score"))
        rules.require(f"score.{task}", "a probability in [0, 1]", _between(score, 0, 1))
        rules.require(
            f"weight.{task}",
            "finite and at least 0",
            pc.and_(_between(weight, 0, float("inf")), pc.fill_null(pc.is_finite(weight), False)),
        )
        binary = pc.is_in(label, value_set=pa.array([0.0, 1.0]))
        masked = pc.equal(weight, 0)
        rules.require(f"label.{task}", "0 or 1 where its weight is above 0", pc.or_(masked, binary))
    return checked


def _between(values: pa.ChunkedArray, low: float, high: float) -> pa.ChunkedArray:
    """Whether each value is in [low, high]; false for null and NaN."""
    inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
    return pc.fill_null(inside, False)


def _cast(values: pa.ChunkedArray, name: str, kind: pa.DataType, source: str) -> pa.ChunkedArray:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    numeric = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if not pa.types.is_null(values.type) and not (text if kind == pa.string() else numeric):
        raise ValueError(f"{source}: column `{name}` must be of {kind}, received {values.type}")
    try:
        return values.cast(kind)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{source}: column `{name}` must be of {kind}: {error}") from error


@dataclass(frozen=True)
class _Rules:
    """Rules on the values of a table, whose first breach is an error."""

    table: pa.Table
    source: str
    first_row: int

    def require(self, name: str, rule: str, holds: pa.ChunkedArray | pa.Array) -> None:
        row = pc.index(pc.fill_null(holds, True), False).as_py()
        if row >= 0:
            raise ValueError(
                f"{self.source}: `{name}` must be {rule}, received {self.table[name][row].as_py()} "
                f"in row {self.first_row + row}, "
                f"request_id {self.table['request_id'][row].as_py()!r}"
            )
