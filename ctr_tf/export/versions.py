"""Version folders as TF Serving wants them: named by a positive integer, the newest is served."""

from __future__ import annotations

import shutil
from pathlib import Path


def versions(folder: Path) -> list[int]:
    """The versions in a model's folder, ascending; whatever is no integer is not a version.

    Args:
        folder: the model's folder; it may be absent.

    Example:
        >>> versions(Path("no/such/folder"))
        []
    """
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir() if path.is_dir())
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)


def new_version(folder: Path, version: int | None) -> int:
    """The version to write: the one asked for, else one more than the newest.

    Raises:
        ValueError: it is there already, or is not positive.

    Example:
        >>> new_version(Path("no/such/folder"), None)
        1
    """
    found = versions(folder)
    if version is None:
        return max(found, default=0) + 1
    if version < 1:
        raise ValueError(f"version must be at least 1, got {version}")
    if version in found:
        raise ValueError(f"version {version} is already in {folder} (versions: {found})")
    return version


def prune(folder: Path, keep: int, spare: int) -> list[int]:
    """Removes all but the newest `keep` versions and the one to spare; returns what it removed."""
    old = [version for version in versions(folder)[:-keep] if version != spare]
    for version in old:
        # A server must never meet a half-removed version under its number.
        hidden = folder / f".removed-{version}"
        shutil.rmtree(hidden, ignore_errors=True)  # Of a removal that was cut short.
        (folder / str(version)).rename(hidden)
        shutil.rmtree(hidden)
    return old
