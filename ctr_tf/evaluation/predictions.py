"""Predictions of a model on labelled impressions: the Parquet files that evaluation reads."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ctr_tf.evaluation.prediction_schema import check_shards, check_table, task_names

SHARD_NAME = re.compile(r"predictions-\d{5}-of-\d{5}\.parquet")


@dataclass(frozen=True)
class TaskRows:
    """The columns of one task, one entry an impression.

    Args:
        labels: 0 or 1; anything where the weight is 0, (M,).
        scores: probabilities, (M,).
        weights: sample weights, 0 where the label is masked, (M,).
    """

    labels: NDArray[np.float64]
    scores: NDArray[np.float64]
    weights: NDArray[np.float64]


class Predictions:
    """Scored impressions in columns, checked when they are made.

    Columns: `request_id`, `user_id`, `time` (unix seconds), `item_id`, `item_frequency`
    (occurrences of the item in training rows), `history_length`, and for each task t `label.t`,
    `weight.t` (0 masks the label) and `score.t` (a probability). All but `request_id` and the
    columns of the tasks may be null.

    Args:
        table: the columns; those of an impression may miss, except `request_id`, and are
            then null.
        source: where the rows come from, for messages.

    Raises:
        ValueError: a column is missing or has the wrong type, or a value breaks its rule; names
            source, row and request id.

    Example:
        >>> columns = {"request_id": ["a", "a"], "user_id": ["u", "u"], "label.click": [1.0, 0.0],
        ...            "weight.click": [1.0, 1.0], "score.click": [0.7, 0.1]}
        >>> predictions = Predictions.from_columns(columns)
        >>> predictions.tasks, len(predictions), predictions.users
        (['click'], 2, array([0, 0]))
    """

    def __init__(self, table: pa.Table, source: str = "memory") -> None:
        self._table = check_table(table, source)

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any], source: str = "memory") -> "Predictions":
        """Predictions of a mapping from column names to arrays or lists."""
        return cls(pa.table(dict(columns)), source)

    @classmethod
    def read(cls, paths: str | os.PathLike | Sequence[str | os.PathLike]) -> "Predictions":
        """Reads one or several Parquet files, or all those of a folder, in order of name.

        Raises:
            FileNotFoundError: there is no file, or a shard of a set is missing.
            ValueError: a file breaks the schema, or files hold different tasks.
        """
        if isinstance(paths, str | os.PathLike):
            path = Path(paths)
            paths = list(path.glob("*.parquet")) if path.is_dir() else [path]
            if not paths:
                raise FileNotFoundError(f"no *.parquet file in the folder {path}")
        names = sorted(os.fspath(path) for path in paths)
        check_shards(names)
        tables = [check_table(read_table(name), name) for name in names]
        for name, table in zip(names, tables, strict=True):
            if table.column_names != tables[0].column_names:
                raise ValueError(
                    f"{name}: `tasks` must be those of {names[0]}, {task_names(tables[0])}, "
                    f"received {task_names(table)}"
                )
        return cls(pa.concat_tables(tables), ", ".join(names))

    def __len__(self) -> int:
        return self._table.num_rows

    @cached_property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the order of the file."""
        return task_names(self._table)

    def task(self, name: str) -> TaskRows:
        """The columns of a task.

        Raises:
            ValueError: there is no such task.
        """
        if name not in self.tasks:
            raise ValueError(f"`task` must be one of {self.tasks}, received {name!r}")
        return TaskRows(*(self._numbers(f"{kind}.{name}") for kind in ("label", "score", "weight")))

    @cached_property
    def requests(self) -> NDArray[np.int64]:
        """Integer codes of the requests, (M,); logs may count their ids anew for each user."""
        pairs = self._codes("request_id")[0] * (self.users.max(initial=0) + 2) + self.users
        return np.unique(pairs, return_inverse=True)[1]

    @cached_property
    def users(self) -> NDArray[np.int64]:
        """Integer codes of the users, -1 where there is none, (M,)."""
        return self._codes("user_id")[0]

    @cached_property
    def items(self) -> NDArray[np.int64]:
        """Integer codes of the items in the order of their ids, -1 where there is none, (M,)."""
        codes, names = self._codes("item_id")
        ranks = np.empty(len(names) + 1, dtype=np.int64)
        ranks[np.argsort(names)] = np.arange(len(names))
        ranks[-1] = -1
        return ranks[codes]

    @cached_property
    def item_frequencies(self) -> NDArray[np.int64]:
        """Occurrences of the item in training rows, -1 where unknown, (M,)."""
        return self._numbers("item_frequency", missing=-1)

    @cached_property
    def history_lengths(self) -> NDArray[np.int64]:
        """Behaviours before the request, -1 where unknown, (M,)."""
        return self._numbers("history_length", missing=-1)

    @cached_property
    def time_range(self) -> tuple[int, int] | None:
        """First and last time in unix seconds, or None where no row has a time."""
        bounds = pc.min_max(self._table["time"]).as_py()
        return None if bounds["min"] is None else (bounds["min"], bounds["max"])

    def _numbers(self, column: str, missing: int | None = None) -> NDArray:
        values = self._table[column]
        return (values if missing is None else pc.fill_null(values, missing)).to_numpy()

    def _codes(self, column: str) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
        encoded = self._table[column].combine_chunks().dictionary_encode()
        codes = pc.fill_null(encoded.indices, -1).to_numpy().astype(np.int64)
        return codes, encoded.dictionary.to_numpy(zero_copy_only=False)


def write_shard(path: str | os.PathLike, columns: Mapping[str, Any]) -> Path:
    """Checks columns and writes them as one Parquet file, which appears whole or not at all.

    Args:
        path: e.g. `predictions-00000-of-00004.parquet`.
        columns: column names to arrays or lists, as `Predictions` describes them.

    Raises:
        ValueError: as `Predictions`.
    """
    path = Path(path)
    table = check_table(pa.table(dict(columns)), path.name)
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(table, partial)
    os.replace(partial, path)
    return path


def check_replaceable(folder: Path) -> None:
    """Checks that replacing a folder by new shards loses nothing but older shards.

    Raises:
        ValueError: it is a file, or holds something else than prediction shards.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir() or folder.is_symlink():
        raise ValueError(f"{folder}: the output must be a folder")
    for path in sorted(folder.iterdir()):
        if not (SHARD_NAME.fullmatch(path.name) and path.is_file()):
            raise ValueError(
                f"{folder}: holds {path.name!r}, which is no prediction shard; the folder is "
                "replaced whole, so it must be new, empty or hold predictions alone"
            )


def read_table(source: str | BinaryIO, name: str | None = None) -> pa.Table:
    """Reads a Parquet file.

    Raises:
        ValueError: the file is not Parquet, or is cut short; names it.
    """
    try:
        # ParquetFile, because read_table would make columns of folder names such as `split=test`.
        with pq.ParquetFile(source) as file:
            return file.read()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{name or source}: not a whole Parquet file: {error}") from error
