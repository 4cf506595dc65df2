"""Which version of a model answers: the newest in its folder, swapped without dropping a call."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Literal

from ctr_tf.export.versions import versions

logger = logging.getLogger(__name__)

State = Literal["LOADING", "AVAILABLE", "UNLOADING", "END"]


class VersionNotFound(LookupError):
    """No loaded version of that number."""


@dataclass
class _Version:
    files: Any
    state: State = "LOADING"
    error: str = ""
    model: Any = None
    calls: int = 0


class Versions:
    """The loaded versions of one model.

    The newest version that loads is served. An older one stays until its calls end. A version that
    fails to load is tried again once a file of it has changed: it may be copied while it is seen.

    Args:
        folder: holds a folder a version.
        load: makes a model, ready and warmed up, of a version's folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "7").mkdir()
        >>> (folder / "7" / "saved_model.pb").touch()
        >>> loaded = Versions(folder, load=lambda path: f"model {path.name}")
        >>> loaded.refresh()
        >>> with loaded.use() as (version, model):
        ...     print(version, model)
        7 model 7
        >>> loaded.statuses()
        {7: ('AVAILABLE', '')}
    """

    def __init__(self, folder: Path, load: Callable[[Path], Any]):
        self.folder = folder
        self._load = load
        self._lock = threading.Lock()
        self._versions: dict[int, _Version] = {}
        self._current: int | None = None

    @property
    def current(self) -> int | None:
        """The version that answers calls which name none."""
        return self._current

    def refresh(self) -> None:
        """Looks at the folder; loads the newest version if it is another, then retires the old.

        Where the folder has no version left, what is loaded goes on serving.
        """
        present = servable(self.folder)
        with self._lock:
            failed = {n: version.files for n, version in self._versions.items() if version.error}
            for number in set(failed) - set(present):
                del self._versions[number]
        for number in reversed(present):
            if number == self._current:
                return
            # Noted before it is loaded, so that no later change is missed.
            files = _files(self.folder / str(number))
            if failed.get(number) != files and self._loaded(number, files):
                return

    def _loaded(self, number: int, files: Any) -> bool:
        """Loads a version and makes it the current one; False where it fails."""
        new = _Version(files)
        with self._lock:
            if number in self._versions and self._versions[number].state == "UNLOADING":
                return True  # Its last calls are still under way: tried at the next look.
            self._versions[number] = new
        try:
            new.model = self._load(self.folder / str(number))
        # Whatever is wrong with a version must not end the serving of another.
        except Exception as error:
            logger.exception("version %d was not loaded", number)
            with self._lock:
                new.state, new.error = "END", f"{type(error).__name__}: {error}"
            return False
        with self._lock:
            old, self._current = self._current, number
            new.state = "AVAILABLE"
            if old is not None:
                self._versions[old].state = "UNLOADING"
                _unload_idle(self._versions[old])
        logger.info("version %d is served", number)
        return True

    @contextmanager
    def use(self, version: int | None = None) -> Iterator[tuple[int, Any]]:
        """A version and its model, kept loaded until the block ends.

        Args:
            version: the current one by default.

        Raises:
            VersionNotFound: it is not served.
        """
        with self._lock:
            number = self._current if version is None else version
            entry = self._versions.get(number)
            if entry is None or entry.state != "AVAILABLE":
                raise VersionNotFound(f"version {number} is not served; served: {self._current}")
            entry.calls += 1
            model = entry.model
        try:
            yield number, model
        finally:
            with self._lock:
                entry.calls -= 1
                _unload_idle(entry)

    def statuses(self) -> dict[int, tuple[State, str]]:
        """State and load error of each version seen, newest first."""
        with self._lock:
            found = sorted(self._versions.items(), reverse=True)
            return {number: (entry.state, entry.error) for number, entry in found}


def servable(folder: Path) -> list[int]:
    """The versions in a folder that hold a SavedModel, ascending."""
    return [n for n in versions(folder) if (folder / str(n) / "saved_model.pb").exists()]


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of each file of a version."""
    found = ((str(path), path.stat()) for path in sorted(folder.rglob("*")))
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def _unload_idle(entry: _Version) -> None:
    if entry.state == "UNLOADING" and not entry.calls:
        entry.state, entry.model = "END", None
