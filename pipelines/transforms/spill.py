"""Files of keyed blobs that are written in any order and read in the order of their keys.

Only keys and offsets are held in memory, so a shard may be larger than it.
"""

from __future__ import annotations

import marshal
import os
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

_START = struct.Struct("<Q")
"""The last bytes of a file: where its index begins."""


class Spill:
    """Writes blobs; the file appears under its name when it is closed.

    Args:
        path: the file; its index is at its end, so that both are of one writer.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "users"
        >>> spill = Spill(path)
        >>> spill.append(b"b", b"2")
        >>> spill.append(b"a", b"1")
        >>> spill.close()
        >>> list(read_spill(path))
        [(b'a', b'1'), (b'b', b'2')]
    """

    def __init__(self, path: Path):
        self._path = path
        # A runner may run the same step twice at once; each writes its own file.
        self._partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        self._file = open(self._partial, "wb")
        self._index: list[tuple] = []
        self._offset = 0

    def append(self, key: object, blob: bytes) -> None:
        """Appends a blob; keys must be distinct and of one kind."""
        self._file.write(blob)
        self._index.append((key, self._offset, len(blob)))
        self._offset += len(blob)

    def close(self) -> None:
        """Completes the file and its index."""
        self._file.write(marshal.dumps(sorted(self._index)) + _START.pack(self._offset))
        self._file.close()
        os.replace(self._partial, self._path)


def read_spill(path: Path) -> Iterator[tuple[object, bytes]]:
    """Keys and blobs in the order of keys; nothing where the file does not exist."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        file.seek(-_START.size, os.SEEK_END)
        file.seek(*_START.unpack(file.read()))
        index = marshal.load(file)
        for key, offset, size in index:
            file.seek(offset)
            yield key, file.read(size)
