"""Rejected rows: what is said of one, and the files that hold them."""

from __future__ import annotations

import json
import marshal
from collections import Counter
from pathlib import Path
from typing import Any

from pipelines.transforms.errors import RejectError
from pipelines.transforms.sources import Row, SourceFile
from pipelines.transforms.spill import Spill, read_spill

SOURCES = ("impressions", "users", "items", "behaviours")
Key = tuple[int, int, int]


def reject(
    source: str, file: SourceFile, position: int, row: Any, error: RejectError
) -> tuple[Key, bytes]:
    """The key and the JSON line of a rejected row.

    Args:
        source: impressions, users, items or behaviours.
        file: the file it stands in.
        position: its line or row there.
        row: its values, or the row as it stands.
        error: the reason.
    """
    found = {
        "source": source,
        "file": file.name,
        file.unit: position,
        "reason": error.reason,
        "value": error.value,
        "content": row,
    }
    try:
        line = json.dumps(found, default=_readable, allow_nan=False)
    except ValueError:  # JSON has no NaN and no infinity
        line = json.dumps(found | {"value": str(error.value), "content": str(row)})
    return (SOURCES.index(source), file.number, position), line.encode() + b"\n"


def _readable(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def pack(key: Key, line: bytes) -> bytes:
    """A reject as one blob, to travel through the pipeline."""
    return marshal.dumps((key, line))


def pack_row(
    source: str, file: SourceFile, row: Row, wanted: list[str], error: RejectError
) -> list[bytes]:
    """A rejected row as blobs, one for each line that it takes up.

    Args:
        source: impressions, users, items or behaviours.
        file: the file it stands in.
        row: the row.
        wanted: the columns of its values.
        error: the reason.
    """
    values = row.raw if row.problem else dict(zip(wanted, row.values))
    found = [pack(*reject(source, file, row.position, values, error))]
    further = RejectError(error.reason)
    for line in range(row.position + 1, row.position + row.lines):
        said = f"of the row on line {row.position}"
        found.append(pack(*reject(source, file, line, said, further)))
    return found


class RejectFile:
    """Writes rejects that come in any order; the file has them in the order of their sources.

    Args:
        path: the `.jsonl` file.
        spill: a file to hold them until then.
    """

    def __init__(self, path: Path, spill: Path):
        self._path = path
        self._place = spill
        self._spill = Spill(spill)
        self.reasons: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()

    def append(self, packed: bytes) -> None:
        """Adds one reject."""
        key, line = marshal.loads(packed)
        found = json.loads(line)
        self.reasons[found["reason"]] += 1
        self.sources[found["source"]] += 1
        self._spill.append(key, line)

    def close(self) -> None:
        """Completes the file; without a reject there is none."""
        self._spill.close()
        if self.reasons:
            partial = self._path.with_suffix(".partial")
            with open(partial, "wb") as file:
                for _, line in read_spill(self._place):
                    file.write(line)
            partial.replace(self._path)
