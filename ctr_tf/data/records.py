"""TFRecord files; `ctr_tf.data.requests` says what their records hold.

Files are gzipped or plain TFRecords; the bytes of equal records are equal.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import crcmod.predefined

_crc32c = crcmod.predefined.mkPredefinedCrcFun("crc-32c")
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_GZIP_MAGIC = b"\x1f\x8b"
GZIP_LEVEL = 3
"""Records repeat themselves so much that higher levels cost time and save little."""


class CorruptRecordError(ValueError):
    """A TFRecord file is truncated or its bytes do not match their checksum."""


def masked_crc32c(data: bytes) -> int:
    """CRC-32C, rotated and offset as TFRecord wants it.

    Example:
        >>> hex(masked_crc32c(b"123456789"))
        '0xc78ab0e5'
    """
    crc = _crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(record: bytes) -> bytes:
    """One record with its length and checksums."""
    length = _LENGTH.pack(len(record))
    return b"".join(
        (length, _CRC.pack(masked_crc32c(length)), record, _CRC.pack(masked_crc32c(record)))
    )


class RecordWriter:
    """Writes a TFRecord file; a gzipped one holds neither name nor time.

    Args:
        path: the file; an existing one is replaced.
        compression: `gzip` or `none`.
    """

    def __init__(self, path: Path, compression: str = "gzip"):
        if compression not in ("gzip", "none"):
            raise ValueError(f"compression must be 'gzip' or 'none', not {compression!r}")
        self._raw = open(path, "wb")
        self._file: BinaryIO = self._raw
        if compression == "gzip":
            self._file = gzip.GzipFile("", "wb", GZIP_LEVEL, self._raw, mtime=0)

    def write(self, record: bytes) -> None:
        """Appends one record."""
        self._file.write(frame(record))

    def close(self) -> None:
        """Completes the file."""
        self._file.close()
        self._raw.close()

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file, gzipped or plain.

    Raises:
        CorruptRecordError: the file is truncated or corrupt; names the file and the record,
            counted from 0.
    """
    with open(path, "rb") as raw:
        head = raw.read(12)
        raw.seek(0)
        # A plain file whose first record has such a length starts with the same two bytes.
        gzipped = head.startswith(_GZIP_MAGIC) and not _is_length(head)
        file = gzip.GzipFile(fileobj=raw) if gzipped else raw
        number = 0
        while True:
            try:
                record = _read(file)
            except (EOFError, OSError, zlib.error) as error:
                raise CorruptRecordError(f"{path}: record {number}: {error}") from error
            if record is None:
                return
            yield record
            number += 1


def _read(file: BinaryIO) -> bytes | None:
    head = file.read(12)
    if not head:
        return None
    if len(head) < 12:
        raise EOFError("truncated within its length")
    if not _is_length(head):
        raise OSError("the checksum of its length does not match")
    (length,) = _LENGTH.unpack(head[:8])
    record, crc = file.read(length), file.read(4)
    if len(record) < length or len(crc) < 4:
        raise EOFError("truncated")
    if masked_crc32c(record) != _CRC.unpack(crc)[0]:
        raise OSError("its checksum does not match")
    return record


def _is_length(head: bytes) -> bool:
    return len(head) == 12 and masked_crc32c(head[:8]) == _CRC.unpack(head[8:])[0]
