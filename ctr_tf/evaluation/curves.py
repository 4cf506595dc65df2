"""Learning curves, from the history a training run writes line by line."""

import json
import os
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

Series = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Curves:
    """Records of a training run and the lines of its history that could not be read.

    Args:
        records: `{"step": ..., "epoch": ..., "split": ..., "loss": ..., ...}`, in order.
        rejects: position and reason of each unreadable line.

    Example:
        >>> curves = Curves([{"step": 1, "split": "train", "loss": 0.7},
        ...                  {"step": 2, "split": "train", "loss": 0.6}])
        >>> curves.series("loss")
        {'train': ([1, 2], [0.7, 0.6])}
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[str] = field(default_factory=list)

    def series(self, name: str) -> dict[str, Series]:
        """Steps and values of a metric by split.

        A run that resumed repeats steps after its checkpoint; the last record of a step counts.
        """
        values: dict[str, dict[int, float]] = defaultdict(dict)
        for record in self.records:
            if isinstance(record.get(name), int | float):
                values[record["split"]][record["step"]] = record[name]
        return {
            split: (sorted(by_step), [by_step[step] for step in sorted(by_step)])
            for split, by_step in values.items()
        }

    def names_ending(self, suffix: str) -> list[str]:
        """Names of the metrics with a suffix, in order of appearance."""
        names = dict.fromkeys(name for record in self.records for name in record)
        return [name for name in names if name.endswith(suffix)]


def read_curves(path: str | os.PathLike) -> Curves:
    """Reads `history.jsonl`; a line cut short by a killed run is kept as a reject.

    Args:
        path: the file; a file that does not exist gives no records.
    """
    curves = Curves()
    if not os.path.exists(path):
        return curves
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                int(record["step"]), str(record["split"])
            except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                curves.rejects.append(f"line {number}: {type(error).__name__}: {error}")
            else:
                curves.records.append(record)
    return curves
