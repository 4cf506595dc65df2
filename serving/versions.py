"""Which versions of a model answer: swapped, and swapped back, without dropping a call."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ctr_tf.export.versions import versions

logger = logging.getLogger(__name__)

State = Literal["LOADING", "AVAILABLE", "UNLOADING", "END"]


class VersionNotFound(LookupError):
    """No loaded version of that number."""


class LabelNotFound(LookupError):
    """No version has that label."""


@dataclass(frozen=True)
class Policy:
    """Which versions of a folder are to be loaded.

    Args:
        latest: so many of the newest that load; None for all.
        specific: these alone; None for any.

    Example:
        >>> Policy(latest=None, specific=frozenset({2, 3})).wanted([1, 2, 3])
        [3, 2]
    """

    latest: int | None = 1
    specific: frozenset[int] | None = None

    def wanted(self, present: list[int]) -> list[int]:
        """The versions to try, newest first."""
        newest = sorted(present, reverse=True)
        return [n for n in newest if self.specific is None or n in self.specific]


@dataclass
class _Version:
    files: Any
    state: State = "LOADING"
    error: str = ""
    model: Any = None
    calls: int = 0


class Versions:
    """The loaded versions of one model; the newest answers calls that name none.

    A version that is to go stays until another is loaded and its own calls have ended. One that
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
        self.swaps = 0
        """How often another version took over."""
        self.load_failures = 0
        self._load = load
        self._policy = Policy()
        self._labels: dict[str, int] = {}
        # Held while versions are loaded, which takes seconds; the other one for moments.
        self._changing = threading.Lock()
        self._lock = threading.Lock()
        self._versions: dict[int, _Version] = {}
        self._unloaded = False

    @property
    def current(self) -> int | None:
        """The version that answers calls which name none."""
        with self._lock:
            return max(self._available(), default=None)

    def refresh(self) -> None:
        """Looks at the folder; loads what the policy wants of it, then retires the rest.

        Where nothing that is wanted loads, what is loaded goes on serving.
        """
        with self._changing:
            before = self.current
            self._retire_all_but(self._loaded(self._policy))
            self._count_swap(before)
        with self._lock:
            unloaded, self._unloaded = self._unloaded, False
        if unloaded:
            # A SavedModel is cycles of objects: Python by itself frees it some versions later.
            gc.collect()

    def configure(self, policy: Policy, labels: Mapping[str, int]) -> None:
        """Takes another policy and other labels; both stay as they were where one cannot be kept.

        Raises:
            VersionNotFound: a version that the policy or a label names is not loaded by the policy.
        """
        with self._changing:
            before = self.current
            kept = self._loaded(policy)
            missing = sorted({*(policy.specific or ()), *labels.values()} - set(kept))
            if missing:
                errors = self.statuses()
                self._retire_all_but(self._loaded(self._policy))
                _, error = errors.get(missing[0], ("END", ""))
                raise VersionNotFound(
                    f"version {missing[0]} is not loaded under the policy; "
                    f"{error or 'loaded: ' + ', '.join(map(str, kept))}"
                )
            self._policy, self._labels = policy, dict(labels)
            self._retire_all_but(kept)
            self._count_swap(before)
        logger.info("policy %s, labels %s", policy, dict(labels))

    @contextmanager
    def use(
        self, version: int | None = None, label: str | None = None
    ) -> Iterator[tuple[int, Any]]:
        """A version and its model, kept loaded until the block ends.

        Args:
            version: the current one by default.
            label: names a version instead.

        Raises:
            LabelNotFound: no version has the label.
            VersionNotFound: it is not served.
        """
        with self._lock:
            if label is not None:
                version = self.labelled(label)
            available = self._available()
            number = max(available, default=None) if version is None else version
            if number not in available:
                served = ", ".join(map(str, available)) or "none"
                raise VersionNotFound(f"version {number} is not served; served: {served}")
            entry = self._versions[number]
            entry.calls += 1
        try:
            yield number, entry.model
        finally:
            with self._lock:
                entry.calls -= 1
                self._unload_idle(entry)

    def labelled(self, label: str) -> int:
        """The version that has a label.

        Raises:
            LabelNotFound: none has.
        """
        if label not in self._labels:
            known = ", ".join(sorted(self._labels)) or "none"
            raise LabelNotFound(f"unknown version label {label!r}; labels: {known}")
        return self._labels[label]

    def statuses(self) -> dict[int, tuple[State, str]]:
        """State and load error of each version seen, newest first."""
        with self._lock:
            found = sorted(self._versions.items(), reverse=True)
            return {number: (entry.state, entry.error) for number, entry in found}

    def _available(self) -> list[int]:
        """Newest first; the lock is held."""
        found = sorted(self._versions.items(), reverse=True)
        return [number for number, entry in found if entry.state == "AVAILABLE"]

    def _loaded(self, policy: Policy) -> list[int]:
        """Loads what a policy wants of the folder; returns what of it is available."""
        present = servable(self.folder)
        with self._lock:
            for number, entry in list(self._versions.items()):
                if entry.state == "END" and number not in present:
                    del self._versions[number]
        kept: list[int] = []
        for number in policy.wanted(present):
            if len(kept) == policy.latest:
                break
            if self._available_after_load(number):
                kept.append(number)
        return kept

    def _available_after_load(self, number: int) -> bool:
        # Noted before it is loaded, so that no later change is missed.
        new = _Version(_files(self.folder / str(number)))
        with self._lock:
            old = self._versions.get(number)
            if old and old.state in ("AVAILABLE", "UNLOADING"):
                old.state = "AVAILABLE"
                return True
            if old and old.error and old.files == new.files:
                return False
            self._versions[number] = new
        try:
            new.model = self._load(self.folder / str(number))
        # Whatever is wrong with a version must not end the serving of another.
        except Exception as error:
            logger.exception("version %d was not loaded", number)
            with self._lock:
                new.state, new.error = "END", f"{type(error).__name__}: {error}"
                self.load_failures += 1
            return False
        with self._lock:
            new.state = "AVAILABLE"
        logger.info("version %d is served", number)
        return True

    def _retire_all_but(self, kept: list[int]) -> None:
        with self._lock:
            for number in self._available() if kept else []:
                if number not in kept:
                    self._versions[number].state = "UNLOADING"
                    self._unload_idle(self._versions[number])

    def _unload_idle(self, entry: _Version) -> None:
        """Lets a model go that no call uses any more; the lock is held."""
        if entry.state == "UNLOADING" and not entry.calls:
            entry.state, entry.model, self._unloaded = "END", None, True

    def _count_swap(self, before: int | None) -> None:
        if before not in (None, self.current):
            self.swaps += 1


def servable(folder: Path) -> list[int]:
    """The versions in a folder that hold a SavedModel, ascending."""
    return [n for n in versions(folder) if (folder / str(n) / "saved_model.pb").exists()]


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of each file of a version."""
    found = ((str(path), path.stat()) for path in sorted(folder.rglob("*")))
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]
