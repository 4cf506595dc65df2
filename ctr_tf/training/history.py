"""The records of a run: `history.jsonl`, and TensorBoard summaries on request."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import tensorflow as tf

HISTORY = "history.jsonl"
TENSORBOARD = "tensorboard"


class History:
    """Writes one JSON object a line, each with `step`, `epoch` and `split`.

    A metric that is undefined is null; `undefined` then holds its reason, by name.

    Args:
        folder: of the run.
        step: where the run begins; records of later steps, of a run cut short, are removed.
        tensorboard: whether scalars are written for TensorBoard, too.
        write: whether this process writes at all.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool = False, write: bool = True):
        self.path = Path(folder) / HISTORY
        self._file = None
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        self._summaries = Path(folder) / TENSORBOARD if tensorboard and write else None
        if write:
            _truncate(self.path, step)
            self._file = self.path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Appends a record."""
        if self._file is None:
            return
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._summaries is None:
            return
        split = record["split"]
        if split not in self._writers:
            self._writers[split] = tf.summary.create_file_writer(str(self._summaries / split))
        with self._writers[split].as_default(step=record["step"]):
            for name, value in record.items():
                if name not in ("step", "epoch", "split", "undefined") and value is not None:
                    tf.summary.scalar(name, value)
        self._writers[split].flush()

    def close(self) -> None:
        """Closes the files."""
        if self._file is not None:
            self._file.close()
        for writer in self._writers.values():
            writer.close()


def _truncate(path: Path, step: int) -> None:
    """Keeps the records up to a step; a line cut short by a killed run is dropped."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step and step > 0:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(kept), encoding="utf-8")
    os.replace(partial, path)
