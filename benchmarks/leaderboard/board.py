"""What a board says: entries, budget, grid, seeds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, NonNegativeInt, field_validator, model_validator

from ctr_tf.config_base import Config, check_known

BOARDS = Path(__file__).parent / "boards.yaml"
OURS, PEER = "ctr_tf", "fuxictr"


def flat(given: Any) -> Any:
    """Lists within a list, which YAML's anchors give, as part of it.

    Example:
        >>> flat([[["train.epochs=10"], "train.seed=1"], "model.units=[8]"])
        ['train.epochs=10', 'train.seed=1', 'model.units=[8]']
    """
    if not isinstance(given, list):
        return given
    return [each for part in given for each in (flat(part) if isinstance(part, list) else [part])]


Overrides = Annotated[list[str], BeforeValidator(flat)]


class Entry(Config):
    """One row of a board.

    Args:
        name: in the table.
        config: of the experiment, without `.yaml`; the name by default.
        set: what differs from it, as `--set` takes it.
        published: its AUC in the paper, on that paper's rows.
    """

    name: str
    config: str = ""
    set: Overrides = []
    published: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        value = {"name": value} if isinstance(value, str) else value
        return {"config": value.get("name"), **value}


class Board(Config):
    """One table.

    Args:
        title: of the page.
        configs: folder of the experiments, from the root of the repository.
        set: the budget, where it differs from the experiments', as `--set` takes it.
        grid: the values to tune over, by key.
        seeds: of the runs of the best point; the first is that of tuning.
        entries: the rows.
        peers: entries that the other library runs too.

    Example:
        >>> board = Board(title="A", configs="configs/movielens", entries=["fm", "din"],
        ...               grid={"model.dropout": [0.1], "train.seed": [1, 2]})
        >>> board.points
        [['model.dropout=0.1', 'train.seed=1'], ['model.dropout=0.1', 'train.seed=2']]
        >>> board.entry("din").config
        'din'
    """

    title: str
    configs: str
    set: Overrides = []
    grid: dict[str, list[float | int]] = {}
    seeds: list[NonNegativeInt] = Field([1, 2, 3], min_length=1)
    entries: list[Entry] = Field(min_length=1)
    peers: list[str] = []

    @field_validator("entries")
    @classmethod
    def _distinct(cls, entries: list[Entry]) -> list[Entry]:
        names = [entry.name for entry in entries]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is there twice")
        return entries

    @model_validator(mode="after")
    def _known(self) -> "Board":
        for name in self.peers:
            check_known(("peers",), "row", name, [entry.name for entry in self.entries])
        return self

    @property
    def points(self) -> list[list[str]]:
        """The points of the grid, as overrides."""
        keys = [[f"{key}={value}" for value in values] for key, values in self.grid.items()]
        return [list(point) for point in itertools.product(*keys)]

    def at_edge(self, point: Sequence[str]) -> bool:
        """Whether a key of the grid has its least or its greatest value at that point.

        Example:
            >>> board = Board(title="", configs="", entries=["fm"], grid={"a": [1, 2, 4]})
            >>> [board.at_edge(point) for point in board.points]
            [True, False, True]
        """
        ends = {
            f"{key}={end}"
            for key, values in self.grid.items()
            if len(values) > 1
            for end in (min(values), max(values))
        }
        return not ends.isdisjoint(point)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What is trained: entry and stack, ours before the other library's."""
        names = [entry.name for entry in self.entries]
        ours = [(name, OURS) for name in names]
        return ours + [(name, PEER) for name in names if name in self.peers]

    def entry(self, name: str) -> Entry:
        """The entry of that name.

        Raises:
            SettingError: there is none.
        """
        check_known(("entries",), "row", name, [entry.name for entry in self.entries])
        return next(entry for entry in self.entries if entry.name == name)


def boards(path: Path = BOARDS) -> dict[str, Board]:
    """All boards by name.

    Example:
        >>> "fm" in [entry.name for entry in boards()["movielens_1m"].entries]
        True
    """
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: Board(**board) for name, board in found.items()}
