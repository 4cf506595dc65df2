"""The trainings of a row: every point of the grid, then every seed at the best of them."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.leaderboard.board import Board, Entry
from benchmarks.leaderboard.page import Row
from benchmarks.leaderboard.runs import Trainer, best_point


def train_row(
    trainer: Trainer,
    board: Board,
    entry: Entry,
    stack: str,
    start: bool,
    step: Callable[[Row], None] = lambda row: None,
) -> Row | None:
    """Tunes an entry and trains its best point with every seed.

    Args:
        trainer: of the runs.
        board: of the entry.
        entry: what is trained.
        stack: whose model.
        start: whether it is trained where it is not finished; None is returned otherwise.
        step: called with the row after each training.
    """
    row = Row(entry.name, stack)
    for point in board.points:
        row.trials.append(trainer.train(board, entry, stack, point, board.seeds[0], start))
        if row.trials[-1] is None:
            return None
        step(row)
    best = best_point(row.trials)
    for seed in board.seeds:
        row.runs.append(trainer.train(board, entry, stack, best, seed, start, tested=True))
        if row.runs[-1] is None:
            return None
        if seed != board.seeds[0]:
            step(row)
    row.rates = trainer.kept_rates(board, entry, stack)
    return row
