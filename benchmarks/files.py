"""Files of results, which appear whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_text(path: Path, text: str) -> Path:
    """Writes a file in a folder that is made if it is not there; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], compressed: bool = False) -> Path:
    """Writes arrays as an `.npz`; returns its path."""
    partial = path.with_name(f".{path.name}")
    (np.savez_compressed if compressed else np.savez)(partial, **arrays)
    os.replace(partial, path)
    return path


def write_figure(path: Path, figure: Figure) -> Path:
    """Writes a figure as SVG and closes it; returns the path."""
    from matplotlib import pyplot

    partial = path.with_name(f".{path.name}")
    figure.savefig(partial, format="svg")
    pyplot.close(figure)
    os.replace(partial, path)
    return path


def read_result(path: Path, settings: dict) -> dict | None:
    """The result of a finished run with these settings; None where there is none."""
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if all(found.get(key) == value for key, value in settings.items()) else None


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[dict]) -> Path:
    """Writes these columns of rows, in order; returns the path."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a file that `write_csv` wrote; none where it is not there.

    Raises:
        ValueError: the file is not of these columns, or a line of another number; names it.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            raise ValueError(f"{path}: its columns must be {', '.join(columns)}")
        lines = list(reader)
    for number, line in enumerate(lines, start=2):
        if None in line or None in line.values():
            raise ValueError(f"{path}:{number}: {len(columns)} columns, got another number")
    return lines
