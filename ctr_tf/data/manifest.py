"""The manifest of a prepared folder: what was written, from what, with which schema."""

from __future__ import annotations

import difflib
import hashlib
import os
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, ValidationError

from ctr_tf.config_base import Config
from ctr_tf.schema import Schema

MANIFEST = "manifest.json"
SCHEMA = "schema.json"
VOCABULARIES = "vocabularies"
STATISTICS = "statistics.json"
ITEM_FREQUENCY = "item_frequency.parquet"
CATALOGUE = "catalogue.jsonl.gz"
REJECTS = "rejects"
SPLITS = ("train", "validation", "test")
PRETRAINING = HISTORIES, NEXT = ("histories", "next")
"""Splits that are written with `prepare.histories` alone."""

RECORD_FORMAT = 2
"""Of `ctr_tf.data.requests`; another number is another format of the records."""


class ManifestError(ValueError):
    """A prepared folder is missing, incomplete, or not what the reader needs."""


class RecordFile(Config):
    """One TFRecord file.

    Args:
        name: path within the prepared folder.
        records: requests it holds.
        size: bytes.
    """

    name: str
    records: NonNegativeInt
    size: NonNegativeInt


class SplitManifest(Config):
    """What one split holds.

    A record of `histories` counts as the request whose candidates it repeats, and its time is that
    of its newest behaviour.

    Args:
        files: the TFRecord files; a shard without requests has none.
        requests: records.
        candidates: candidates of all requests, sampled negatives included.
        negatives: sampled negatives.
        labelled: candidates whose label counts, sampled negatives included, by task.
        positives: labels that are 1, by task.
        behaviours: elements of the sequences of all requests.
        users: users with a request in this split.
        users_without_training_rows: those of them without a request in training.
        first_time: Unix seconds of the first row; None without `keys.time`.
        last_time: Unix seconds of the last row.
    """

    files: list[RecordFile] = []
    requests: NonNegativeInt = 0
    candidates: NonNegativeInt = 0
    negatives: NonNegativeInt = 0
    labelled: dict[str, NonNegativeInt] = {}
    positives: dict[str, NonNegativeInt] = {}
    behaviours: NonNegativeInt = 0
    users: NonNegativeInt = 0
    users_without_training_rows: NonNegativeInt = 0
    first_time: int | None = None
    last_time: int | None = None


class Rows(Config):
    """Rows of one kind of source.

    Args:
        read: rows seen.
        rejected: rows left out, each in the rejects files with its reason.
    """

    read: NonNegativeInt = 0
    rejected: NonNegativeInt = 0


class LeftOut(Config):
    """Users whom `prepare.most_active_users` leaves out.

    Args:
        users: how many.
        impressions: their rows in the log.
        below: each of them has fewer behaviours than this; everyone else has as many, or more.
    """

    users: NonNegativeInt = 0
    impressions: NonNegativeInt = 0
    below: NonNegativeInt = 0


class Manifest(Config):
    """What a prepared folder holds.

    Args:
        schema_fingerprint: of the schema that the records were written with.
        record_format: how requests are encoded.
        splits: train, validation and test; with `prepare.histories` histories and next, too.
        rows: by source: impressions, users, items, behaviours.
        left_out: users who are not among the most active.
        rejects: rejected rows by reason.
        warnings: what was accepted but is worth knowing, by reason.
        learned: SHA-256 of the vocabularies, the statistics and the item frequencies, by path
            within the folder.
        boundaries: Unix seconds at which validation and test begin, for a split by time; None
            where that split is empty.
        largest_user: the most rows of one user.
        config: the job's configuration.
        versions: of the software that wrote the folder.

    Example:
        >>> manifest = Manifest(schema_fingerprint="ab", splits={"train": SplitManifest()})
        >>> manifest.split("train")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ctr_tf.data.manifest.ManifestError: split 'train' is empty: 0 requests; requests by ...
    """

    schema_fingerprint: str
    record_format: int = RECORD_FORMAT
    splits: dict[str, SplitManifest]
    rows: dict[str, Rows] = {}
    left_out: LeftOut = LeftOut()
    rejects: dict[str, NonNegativeInt] = {}
    warnings: dict[str, NonNegativeInt] = {}
    learned: dict[str, str] = {}
    boundaries: tuple[float | None, float | None] | None = None
    largest_user: NonNegativeInt = 0
    config: dict[str, Any] = {}
    versions: dict[str, str] = {}

    def split(self, name: str) -> SplitManifest:
        """The split of that name.

        Raises:
            ManifestError: there is no such split, or it is empty.
        """
        if name in PRETRAINING and name not in self.splits:
            raise ManifestError(
                f"no split {name!r}; set prepare.histories: true and prepare the data again"
            )
        if name not in self.splits:
            near = difflib.get_close_matches(name, self.splits, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"splits: {', '.join(self.splits)}"
            raise ManifestError(f"no split {name!r}; {hint}")
        found = self.splits[name]
        if found.requests == 0:
            held = ", ".join(f"{key} {value.requests}" for key, value in self.splits.items())
            raise ManifestError(
                f"split {name!r} is empty: 0 requests; requests by split: {held}; check "
                "prepare.split"
            )
        return found

    def paths(self, folder: Path, split: str) -> list[Path]:
        """The TFRecord files of a split, in order.

        Raises:
            ManifestError: there is no such split, or it is empty.
        """
        return [Path(folder) / file.name for file in self.split(split).files]

    def write(self, folder: Path) -> None:
        """Writes `manifest.json`, under a temporary name first."""
        path = Path(folder) / MANIFEST
        partial = path.with_name(f".{MANIFEST}.partial")
        partial.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)

    @classmethod
    def read(
        cls, folder: Path, schema: Schema | None = None, check_files: bool = True
    ) -> "Manifest":
        """Reads and checks the manifest of a prepared folder, and what was learned.

        Args:
            folder: what the preparation job wrote.
            schema: the schema in use, whose fingerprint must be the manifest's.
            check_files: whether every record file must be there in its size.

        Raises:
            ManifestError: no manifest, an unreadable one, records of another format, a listed
                file that is missing or whose size or SHA-256 differs.
            ValueError: another schema's fingerprint.
        """
        path = Path(folder) / MANIFEST
        try:
            manifest = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ManifestError(
                f"{folder}: no {MANIFEST}; it is not a prepared folder, or its preparation did "
                "not end"
            ) from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise ManifestError(f"{path}: {where}: {first['msg']}") from error
        # The first format was not named.
        own = manifest.record_format if "record_format" in manifest.model_fields_set else 1
        if own != RECORD_FORMAT:
            raise ManifestError(
                f"{path}: record_format: {own}, but this version reads {RECORD_FORMAT}; prepare "
                "the data again"
            )
        if schema is not None:
            schema.check_fingerprint(manifest.schema_fingerprint, path)
        for split in manifest.splits.values() if check_files else ():
            for file in split.files:
                _check_file(Path(folder) / file.name, file)
        for name, digest in manifest.learned.items():
            _check_digest(Path(folder) / name, digest)
        return manifest


def vocabulary_path(folder: Path, encoder: str) -> Path:
    """The file of a vocabulary, one value a line.

    Raises:
        FileNotFoundError: it is not there.
    """
    path = Path(folder) / VOCABULARIES / f"{encoder}.txt"
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no vocabulary for {encoder!r}; prepare the data again with this schema"
        )
    return path


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(path: Path, digest: str) -> None:
    if not path.exists():
        raise ManifestError(f"{path}: listed in the manifest but missing")
    if digest_of(path) != digest:
        raise ManifestError(
            f"{path}: not what the preparation wrote: its SHA-256 is not the manifest's; prepare "
            "the data again"
        )


def _check_file(path: Path, file: RecordFile) -> None:
    if not path.exists():
        raise ManifestError(f"{path}: listed in the manifest but missing")
    size = path.stat().st_size
    if size != file.size:
        raise ManifestError(f"{path}: {size} bytes, the manifest says {file.size}")
