"""Files of keyed blobs that are written in any order and read in the order of their keys.

Only keys and offsets are held in memory, so a shard may be larger than it.
"""

from __future__ import annotations

import marshal
import os
import struct
import uuid
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

_START = struct.Struct("<Q")
"""The last bytes of a file: where its index begins."""
BUFFER = 1 << 18
MOST_OPEN = 128
"""Files that a reader of references holds open."""

Reference = tuple[str, int, int]


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
        self._file = open(self._partial, "wb", BUFFER)
        self._keys: list = []
        self._starts = array("Q", [0])

    def append(self, key: object, blob: bytes) -> None:
        """Appends a blob; keys must be distinct and of one kind."""
        self._file.write(blob)
        self._keys.append(key)
        self._starts.append(self._starts[-1] + len(blob))

    def close(self) -> None:
        """Completes the file and its index."""
        keys, starts = self._keys, self._starts
        order = sorted(range(len(keys)), key=keys.__getitem__)
        places = array("Q", (at for index in order for at in starts[index : index + 2]))
        self._file.write(marshal.dumps(([keys[index] for index in order], places.tobytes())))
        self._file.write(_START.pack(starts[-1]))
        self._file.close()
        os.replace(self._partial, self._path)
        del self._keys, self._starts  # what read the file holds them, too


def read_spill(path: Path) -> Iterator[tuple[object, bytes]]:
    """Keys and blobs in the order of keys; nothing where the file does not exist."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        file.seek(-_START.size, os.SEEK_END)
        file.seek(*_START.unpack(file.read()))
        keys, packed = marshal.load(file)
        places = iter(array("Q", packed))
        for key, start, end in zip(keys, places, places):
            # The order is random: a buffer would be read and thrown away.
            yield key, os.pread(file.fileno(), end - start, start)


class Pile:
    """A file of blobs that one worker writes; each is found by the reference that it got.

    Args:
        folder: where the file is made, under a name of its own.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> pile = Pile(folder)
        >>> references = [(key, *pile.append(blob)) for key, blob in [(b"b", b"2"), (b"a", b"1")]]
        >>> pile.close()
        >>> list(read_piles(folder, sorted(references)))
        [(b'a', b'1'), (b'b', b'2')]
    """

    def __init__(self, folder: Path):
        self._name = f"pile-{uuid.uuid4().hex}"
        self._file = open(folder / self._name, "wb", BUFFER)
        self._size = 0

    def append(self, blob: bytes) -> Reference:
        """Appends a blob; returns its reference, for when the file is closed."""
        self._file.write(blob)
        start, self._size = self._size, self._size + len(blob)
        return self._name, start, len(blob)

    def close(self) -> None:
        """Completes the file."""
        self._file.close()


def read_piles(
    folder: Path, references: Iterable[tuple[object, str, int, int]]
) -> Iterator[tuple[object, bytes]]:
    """Keys and blobs in the order of the references.

    Args:
        folder: where the piles are.
        references: each behind its key.
    """
    files: dict[str, int] = {}
    try:
        for key, name, start, size in references:
            if name not in files:
                if len(files) == MOST_OPEN:
                    os.close(files.pop(next(iter(files))))
                files[name] = os.open(folder / name, os.O_RDONLY)
            yield key, os.pread(files[name], size, start)
    finally:
        for file in files.values():
            os.close(file)
