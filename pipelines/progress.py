"""Shows that a job lives: its stages, what they counted, and a line now and then."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

console = Console(stderr=True)


@contextmanager
def stage(name: str) -> Iterator[Callable[[str], None]]:
    """Prints a stage's name, lines that it says, and how long it took.

    Args:
        name: of the stage.
    """
    start = time.monotonic()
    console.print(f"[bold]{name}[/bold] ...")
    yield lambda line: console.print(f"  {line}", highlight=False)
    console.print(f"  {time.monotonic() - start:.1f} s", highlight=False)


@contextmanager
def quiet(log: Path, folder: Path, every: float = 20.0) -> Iterator[None]:
    """Sends standard error, workers' included, to a file, and says now and then what is written.

    Beam's worker processes log every connection; an error of theirs is raised in the job anyway.

    Args:
        log: where standard error goes.
        folder: the folder whose size is told.
        every: seconds between two lines.
    """
    kept = os.dup(2)
    done = threading.Event()
    start = time.monotonic()

    def tell() -> None:
        while not done.wait(every):
            line = f"  {time.monotonic() - start:.0f} s, {_size(folder) / 2**20:,.0f} MiB written\n"
            os.write(kept, line.encode())

    teller = threading.Thread(target=tell, daemon=True)
    try:
        with open(log, "ab") as file:
            os.dup2(file.fileno(), 2)
        teller.start()
        yield
    finally:
        done.set()
        teller.join()
        os.dup2(kept, 2)
        os.close(kept)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # renamed since it was listed
            continue
    return total
