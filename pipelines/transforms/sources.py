"""Reads rows of CSV, TSV, JSON lines and Parquet files, plain or gzipped, a chunk at a time.

CSV fields may be quoted and may then hold line breaks; TSV fields are taken as they stand. Both
have a header unless the source states its columns. A file is read by one worker from start to
end: a large log is read in parallel when it comes as several files. Blank lines are no rows.
"""

from __future__ import annotations

import csv
import glob
import gzip
import itertools
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from ctr_tf.data.config import Source
from pipelines.transforms.errors import PrepareError
from pipelines.transforms.values import cleaned

CHUNK = 10_000
JSONL_HEADER = 100
"""Lines of a JSON lines file that are looked at for its columns."""
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}
csv.field_size_limit(1 << 24)


@dataclass(frozen=True)
class SourceFile:
    """One file of rows.

    Args:
        number: position among the files of its source; orders rows of one time.
        path: where it is.
        name: as reports and rejects call it, relative to the root.
        format: `csv`, `tsv`, `jsonl` or `parquet`.
        columns: its columns, in order; in JSON lines those of its first objects, where a key
            that a row lacks is a missing value.
        header: whether the first line is a header.
        strip: whether white space around a text value is dropped.
        missing: texts that stand for a missing value.
    """

    number: int
    path: str
    name: str
    format: str
    columns: tuple[str, ...]
    header: bool
    strip: bool = False
    missing: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """What a position counts: `line` from 1, or `row` from 0 in Parquet."""
        return "row" if self.format == "parquet" else "line"


class Row(NamedTuple):
    """One row as read.

    Args:
        position: line or row.
        values: the wanted columns' values.
        problem: why the row is unusable as a whole; empty where it is not.
        raw: the row as it stands, or the lines it takes up, where there is a problem.
        lines: how many it takes up. Of more than one a stray quote may have made one row of
            many: where it is rejected, each of them counts.
    """

    position: int
    values: tuple
    problem: str = ""
    raw: Any = None
    lines: int = 1


def list_files(source: Source, root: Path, where: str) -> list[SourceFile]:
    """The files of a source, in the order of its paths and then of their names.

    Args:
        source: the configured source.
        root: what relative paths are relative to.
        where: the configuration key, for errors.

    Raises:
        PrepareError: no file, an unknown format, an empty file, a duplicate column, a Parquet
            file without a stated column, a JSON array.
    """
    files: list[SourceFile] = []
    for pattern in [source.path] if isinstance(source.path, str) else source.path:
        found = sorted(glob.glob(str(root / pattern), recursive=True))
        if not found:
            raise PrepareError(f"{where}.path: no file matches {str(root / pattern)!r}")
        for path in found:
            form = _format(path, source.format, where)
            name = str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path
            columns = _columns(path, name, form, source.columns, where)
            if source.strip and form in ("csv", "tsv"):
                columns = tuple(column.strip() for column in columns)
            header = source.columns is None
            clean = (source.strip, tuple(source.missing))
            files.append(SourceFile(len(files), path, name, form, columns, header, *clean))
    return files


def available(files: list[SourceFile]) -> list[str]:
    """The columns that every file has."""
    first, *others = [file.columns for file in files]
    return [column for column in first if all(column in other for other in others)]


def read_rows(file: SourceFile, wanted: list[str]) -> Iterator[Row]:
    """The rows of a file.

    Args:
        file: the file.
        wanted: the columns to read.

    Raises:
        PrepareError: the file is truncated or unreadable; names the last good position.
    """
    position = 0
    try:
        for row in _readers[file.format](file, wanted):
            position = row.position
            if row.values and (file.strip or file.missing):
                values = [cleaned(value, file.strip, file.missing) for value in row.values]
                row = row._replace(values=tuple(values))
            yield row
    except (EOFError, OSError, zlib.error, csv.Error, pa.ArrowException) as error:
        kind = "truncated gzip" if isinstance(error, EOFError) else "unreadable"
        raise PrepareError(
            f"{file.name}: {kind} file after {file.unit} {position}: {error}"
        ) from error


def _format(path: str, stated: str, where: str) -> str:
    if stated != "auto":
        return stated
    suffix = Path(path.removesuffix(".gz")).suffix
    if suffix not in FORMATS:
        raise PrepareError(
            f"{where}.format: {path!r} ends in none of {', '.join(FORMATS)} (or those and .gz); "
            "state the format"
        )
    return FORMATS[suffix]


def _columns(
    path: str, name: str, form: str, stated: list[str] | None, where: str
) -> tuple[str, ...]:
    columns = stated
    if stated is None or form in ("jsonl", "parquet"):
        try:
            found = _headers[form](path)
        except (EOFError, OSError, zlib.error, pa.ArrowException) as error:
            raise PrepareError(f"{name}: unreadable {form} file: {error}") from error
        except ValueError as error:
            raise PrepareError(f"{name}: {error}") from None
        columns = found if stated is None else stated
        lacking = [column for column in columns if column not in found]
        if lacking and form == "parquet":
            raise PrepareError(
                f"{where}.columns: {name} has no column {lacking[0]!r}; columns: {', '.join(found)}"
            )
    if not columns:
        raise PrepareError(f"{name}: the file is empty; a header was expected")
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise PrepareError(f"{name}: duplicate column in the header: {', '.join(twice)}")
    return tuple(columns)


def _delimited_header(path: str, form: str) -> list[str]:
    with _open(path) as text:
        return next(_delimited(text, form), [])


def _jsonl_header(path: str) -> list[str]:
    found: dict[str, None] = {}
    with _open(path) as text:
        lines = list(itertools.islice(text, JSONL_HEADER))
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            found.update(dict.fromkeys(row))
    if not found and "".join(lines).lstrip().startswith("["):
        raise ValueError("a JSON array; JSON lines hold one object a line, without brackets around")
    return list(found)


def _parquet_header(path: str) -> list[str]:
    with _open_parquet(path) as file:
        return pq.read_schema(file).names


def _open(path: str) -> TextIO:
    # Bytes that are not UTF-8 become surrogates, which the column's converter rejects by row.
    how = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    return gzip.open(path, "rt", **how) if path.endswith(".gz") else open(path, **how)


@contextmanager
def _open_parquet(path: str) -> Iterator[BinaryIO]:
    if not path.endswith(".gz"):
        with open(path, "rb") as file:
            yield file
        return
    # Parquet is read from its end and in places: a gzipped file is unpacked first.
    with gzip.open(path) as packed, tempfile.TemporaryFile() as file:
        shutil.copyfileobj(packed, file)
        yield file


def _delimited(text: TextIO, form: str) -> Iterator[list[str]]:
    if form == "csv":
        return csv.reader(text, strict=True)
    return csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)


def _read_delimited(file: SourceFile, wanted: list[str]) -> Iterator[Row]:
    indices = [file.columns.index(column) for column in wanted]
    pick = itemgetter(*indices) if len(indices) > 1 else lambda row: (row[indices[0]],)
    expected = len(file.columns)
    with _open(file.path) as text:
        reader = _delimited(text, file.format)
        if file.header:
            next(reader, None)
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                if "expected after" not in str(error):
                    raise
                raw, count = f"lines {line} to {reader.line_num}", reader.line_num - line + 1
                yield Row(line, (), "text after a closing quote", raw, count)
                continue
            if row is None:
                return
            count = reader.line_num - line + 1
            if len(row) == expected:
                yield Row(line, pick(row), lines=count)
            elif row:
                yield Row(line, (), f"expected {expected} fields", row, count)


def _read_jsonl(file: SourceFile, wanted: list[str]) -> Iterator[Row]:
    with _open(file.path) as text:
        for line, content in enumerate(text, start=1):
            if not content.strip():
                continue
            try:
                row = json.loads(content)
            except (ValueError, RecursionError):
                yield Row(line, (), "not JSON", content.rstrip("\n"))
                continue
            if not isinstance(row, dict):
                yield Row(line, (), "not a JSON object", row)
                continue
            yield Row(line, tuple(row.get(column) for column in wanted))


def _read_parquet(file: SourceFile, wanted: list[str]) -> Iterator[Row]:
    position = 0
    with _open_parquet(file.path) as content, pq.ParquetFile(content) as table:
        for batch in table.iter_batches(batch_size=CHUNK, columns=list(wanted)):
            columns = [_values(batch.column(column), column) for column in wanted]
            for values in zip(*columns):
                yield Row(position, values)
                position += 1


def _values(column: pa.Array, name: str) -> list:
    if pa.types.is_timestamp(column.type):
        return [_moment(value, column.type.unit) for value in column.cast(pa.int64()).to_pylist()]
    try:
        return column.to_pylist()
    except (ValueError, OverflowError) as error:
        raise pa.ArrowInvalid(f"column {name!r} of type {column.type}: {error}") from error


def _moment(value: int | None, unit: str) -> datetime | int | None:
    """A timestamp, whose own Python form knows neither nanoseconds nor years beyond 9999; such a
    year is left as a number, which the column's converter rejects."""
    if value is None:
        return None
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
            microseconds=value * 10**6 // PER_SECOND[unit]
        )
    except OverflowError:
        return value


_headers = {
    "csv": partial(_delimited_header, form="csv"),
    "tsv": partial(_delimited_header, form="tsv"),
    "jsonl": _jsonl_header,
    "parquet": _parquet_header,
}
_readers = {
    "csv": _read_delimited,
    "tsv": _read_delimited,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
