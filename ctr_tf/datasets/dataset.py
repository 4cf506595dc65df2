"""What a public dataset is, and how its normalised folder is written and checked."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctr_tf.datasets.fetching import DatasetError, LocalFile, Source, make_folder

if TYPE_CHECKING:
    from rich.progress import Progress

logger = logging.getLogger(__name__)

DESCRIPTION = "dataset.json"
"""The file of a fetched dataset that says what it is."""


@dataclass(frozen=True)
class Dataset:
    """A public dataset that can be fetched into a folder of CSV files.

    Args:
        name: Name in the registry and of the folder made.
        description: One line on what the data is.
        citation: The reference its authors ask for.
        licence: One line on the terms of use.
        tables: Names of the files, `<table>.csv` each.
        rows: Expected counts; that of a table counts its rows.
        sha256: Expected checksum of the files, in the order of `tables`; None where none is known:
            the files must then be those that `dataset.json` was written beside.
        sources: Where archives come from, tried in order.
        write: Called with an archive and an empty folder; writes the files from the one into the
            other and returns the counts of `rows` that are of no table, or raises `DatasetError`.
        md5: The archive's own checksum where its publisher states one.
        folder: Whether `write` takes a folder of the published files as well as an archive.
    """

    name: str
    description: str
    citation: str
    licence: str
    tables: tuple[str, ...]
    rows: Mapping[str, int]
    sha256: str | None
    sources: tuple[Source, ...]
    write: Callable[[Path, Path], Mapping[str, int]]
    md5: str | None = None
    folder: bool = False

    def fetch(self, root: Path, progress: bool = True, source: Path | None = None) -> Path:
        """Makes `root/name`, whole or not at all; returns at once where it is present and right.

        Args:
            root: Folder that holds the datasets.
            progress: Whether to show a progress bar on standard error.
            source: Archive or, where the dataset takes one, folder on disk, read in place of the
                network.

        Returns:
            The folder, with the tables and `dataset.json`.

        Raises:
            DatasetError: If no source gave the expected data; names each source and its reason.
        """
        target = Path(root) / self.name
        if target.exists():
            try:
                verify(target, {table: self.rows[table] for table in self.tables}, self.sha256)
                return target
            except DatasetError as error:
                logger.warning("%s is fetched again: %s", target, error)
        sources = self.sources if source is None else (LocalFile(Path(source), self.folder),)
        return make_folder(target, sources, self._build, progress)

    def _build(self, archive: Path, source: Source, folder: Path, progress: Progress) -> None:
        task = progress.add_task(f"normalise {self.name}", total=2)
        if self.md5 is not None:
            check_md5(archive, self.md5)
        further = self.write(archive, folder)
        progress.advance(task)
        counted, sha256 = inspect(folder, self.tables)
        check_counts(self.rows, {**counted, **further})
        described = {
            "name": self.name,
            "description": self.description,
            "citation": self.citation,
            "licence": self.licence,
            "source": str(source),
            "rows": self.rows,
            "sha256": sha256,
        }
        text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")
        verify(folder, counted, self.sha256)
        progress.advance(task)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes one UTF-8 CSV file with a header and Unix line ends.

    Args:
        path: File to write.
        header: Column names.
        rows: Values in the order of `header`.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_csv(
    file: Iterable[bytes],
    name: str,
    header: Sequence[str],
    parse: Callable[[list[str]], Sequence[object]],
) -> Iterator[Sequence[object]]:
    """Reads a UTF-8 CSV file with a header, a row at a time.

    Args:
        file: Its lines.
        name: Its name, for messages.
        header: The columns it must have; white space around them is dropped.
        parse: Turns the fields of a row into what is yielded, or raises `ValueError`.

    Raises:
        DatasetError: If the header is another one, or a row has another number of fields, is not
            UTF-8 or does not parse; gives the line.

    Example:
        >>> list(read_csv([b"a,b\\n", b"1,2\\n"], "ab.csv", ("a", "b"), lambda row: row[::-1]))
        [['2', '1']]
    """
    number = 0

    def lines() -> Iterator[str]:
        nonlocal number
        for line in file:
            number += 1
            yield line.decode()

    try:
        reader = csv.reader(lines(), strict=True)
        found = [column.strip() for column in next(reader, [])]
        if found != list(header):
            raise ValueError(f"expected the columns {','.join(header)}, got {','.join(found)}")
        for row in reader:
            if len(row) != len(header):
                raise ValueError(f"expected {len(header)} fields, got {len(row)}")
            yield parse(row)
    except (ValueError, csv.Error) as error:  # of which a UnicodeDecodeError is one
        raise DatasetError(f"{name} line {number}: {error}") from error


def check_md5(archive: Path, md5: str) -> None:
    """Compares an archive with the checksum that its publisher states.

    Raises:
        DatasetError: If it is another file.
    """
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise DatasetError(f"{archive}: expected MD5 {md5}, got {found}")


def check_counts(expected: Mapping[str, int], got: Mapping[str, int]) -> None:
    """Compares counts by name.

    Args:
        expected: What the dataset is known to hold.
        got: What was found, under the same names.

    Raises:
        DatasetError: If any count differs; lists every one that does.

    Example:
        >>> check_counts({"users": 3}, {"users": 2})
        Traceback (most recent call last):
        ...
        ctr_tf.datasets.fetching.DatasetError: users: expected 3, got 2
    """
    wrong = [
        f"{key}: expected {count}, got {got[key]}"
        for key, count in expected.items()
        if got[key] != count
    ]
    if wrong:
        raise DatasetError("; ".join(wrong))


def inspect(folder: Path, tables: Sequence[str]) -> tuple[dict[str, int], str]:
    """Counts the rows of CSV files and takes one SHA-256 over all their bytes.

    Args:
        folder: Folder that holds `<table>.csv` for each table.
        tables: Names of the tables, in the order in which they are hashed.

    Returns:
        Rows by table, headers left out, and the checksum in hexadecimal.

    Raises:
        DatasetError: If a file is missing.
    """
    rows, digest = {}, hashlib.sha256()
    for table in tables:
        path = folder / f"{table}.csv"
        if not path.is_file():
            raise DatasetError(f"{path} is missing")
        lines = 0
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                # No value holds a line end, so that lines and rows are the same.
                lines += block.count(b"\n")
                digest.update(block)
        rows[table] = lines - 1
    return rows, digest.hexdigest()


def verify(folder: Path, rows: Mapping[str, int], sha256: str | None) -> None:
    """Checks the files of a fetched dataset and its `dataset.json` against what is expected.

    Args:
        folder: Folder made by `Dataset.fetch`.
        rows: Expected rows by table; the files are `<table>.csv`.
        sha256: Expected checksum, as `inspect` takes it; None for that of `dataset.json`.

    Raises:
        DatasetError: If a file is missing or unreadable, or a count or checksum differs.
    """
    path = folder / DESCRIPTION
    recorded = recorded_sha256(path)
    counted, digest = inspect(folder, tuple(rows))
    check_counts(rows, counted)
    for what, got in (("the files in " + str(folder), digest), (str(path), recorded)):
        expected = sha256 or recorded
        if got != expected:
            raise DatasetError(f"{what}: expected SHA-256 {expected}, got {got}")


def recorded_sha256(path: Path) -> str:
    """The checksum of a dataset's files that its description states.

    Args:
        path: of the description.

    Raises:
        DatasetError: If it is missing or damaged.
    """
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} is missing or damaged, fetch the dataset again: {error!r}"
        ) from error
