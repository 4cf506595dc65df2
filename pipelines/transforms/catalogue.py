"""The catalogue of items, read once and held by every worker: ids and their features.

It is held in memory to join items without a shuffle of the log and to draw negatives from it, so
its source files may be `MAX_BYTES` at most; a larger one is an error that says what to do.
"""

from __future__ import annotations

import gzip
import json
import marshal
from functools import lru_cache
from pathlib import Path

from pipelines.transforms.errors import PrepareError, RejectError
from pipelines.transforms.layout import Field, Layout
from pipelines.transforms.rejects import pack_row
from pipelines.transforms.sources import Row, SourceFile, read_rows
from pipelines.transforms.values import identifier

MAX_BYTES = 2 << 30

Items = dict[bytes, tuple]


class AttributeParser:
    """Turns rows of users or items into their id and values.

    Args:
        key: the id column.
        fields: what is read.
    """

    def __init__(self, key: str, fields: tuple[Field, ...]):
        self._key = key
        self.wanted = list(dict.fromkeys([key, *(field.column for field in fields)]))
        self._convert = [(self.wanted.index(field.column), field.converter()) for field in fields]

    def __call__(self, row: Row) -> tuple[bytes, tuple]:
        """The id and the values of a row.

        Raises:
            RejectError: a value is unusable or the id is missing.
        """
        if row.problem:
            raise RejectError(row.problem, row.raw)
        key = identifier(row.values[0], self._key)
        if not key:
            raise RejectError(f"{self._key}: missing id")
        return key, tuple([convert(row.values[index]) for index, convert in self._convert])


def read_items(layout: Layout) -> tuple[Items, int, list[tuple[SourceFile, bytes]]]:
    """Reads the item files; of two rows of one id the first is kept.

    Args:
        layout: where everything is read from.

    Returns:
        The values of the layout's `item` group by id, in the order of ids; the rows read; and
        the packed rejects, each with its file.

    Raises:
        PrepareError: the files are larger than `MAX_BYTES`, or hold no item.
    """
    files = layout.files["items"]
    size = sum(Path(file.path).stat().st_size for file in files)
    if size > MAX_BYTES:
        raise PrepareError(
            f"prepare.items: {size:,} bytes; at most {MAX_BYTES:,} are held by every worker. "
            "Join the item columns to the log beforehand and leave prepare.items out"
        )
    parse = AttributeParser(layout.config.items.key, layout.groups["item"])
    items: Items = {}
    read = 0
    rejects: list[tuple[SourceFile, bytes]] = []
    for file in files:
        for row in read_rows(file, parse.wanted):
            read += 1
            try:
                key, values = parse(row)
                if key in items:
                    raise RejectError(f"{layout.config.items.key}: duplicate id", key.decode())
                items[key] = values
            except RejectError as error:
                read += row.lines - 1
                packed = pack_row("items", file, row, parse.wanted, error)
                rejects += [(file, blob) for blob in packed]
    if not items:
        raise PrepareError("prepare.items: no usable row")
    return dict(sorted(items.items())), read, rejects


def save_items(items: Items, path: Path) -> None:
    """Saves the catalogue for the workers."""
    path.write_bytes(marshal.dumps(items))


@lru_cache(maxsize=1)
def load_items(path: Path) -> Items:
    """The catalogue that `save_items` wrote; held once a process."""
    return marshal.loads(path.read_bytes())


def write_catalogue(layout: Layout, items: Items, path: Path) -> None:
    """Writes the candidate features of every item, a JSON object a line, by id.

    Args:
        layout: where everything is read from.
        items: the catalogue.
        path: a `.jsonl.gz` file.
    """
    fields = [
        (index, field.input)
        for index, field in enumerate(layout.groups["item"])
        if field.sequence is None
    ]
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        for key, values in items.items():
            features = {name: _plain(values[index]) for index, name in fields}
            line = {"item_id": key.decode(), "features": features}
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value
