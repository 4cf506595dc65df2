"""Trains every baseline with one budget, tuned on validation, and tabulates the test split.

    python -m benchmarks.leaderboard --workspace workspace

A finished training is kept below `<workspace>/leaderboard` and not repeated; one that was cut short
goes on where it was. The page of a board is written anew whenever an entry is finished.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.leaderboard import page, record
from benchmarks.leaderboard.board import OURS, PEER, Board, boards
from benchmarks.leaderboard.page import Row
from benchmarks.leaderboard.runs import MOST_RATES, RESULTS, Trainer
from benchmarks.leaderboard.tuning import train_row
from ctr_tf.config_base import check_known


def train_board(
    name: str, board: Board, trainer: Trainer, options: argparse.Namespace
) -> tuple[Path, int]:
    """Trains what is missing of a board and writes its page.

    A training that fails ends its row alone.

    Returns:
        the page, and how many rows failed.
    """
    asked = options.entries or [entry.name for entry in board.entries]
    wanted = [(own, stack) for own, stack in board.rows if own in asked and stack in options.stacks]
    trainer.prepare(board, peer=any(stack == PEER for _, stack in wanted))
    records = options.output / f"leaderboard_{name}.csv"
    # Boards may have a training in common; this one's own record comes first.
    for path in dict.fromkeys([records, *sorted(options.output.glob("leaderboard_*.csv"))]):
        trainer.remember(record.read(path))
    train = partial(train_row, trainer, board)
    # Those of earlier calls stay on the page until they are trained anew.
    rows = {own: train(board.entry(own[0]), own[1], start=False) for own in board.rows}
    done, failed = [], 0
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console()) as progress:
        each = len(board.points) + len(board.seeds) - 1
        bar = progress.add_task(name, total=each * len(wanted))

        def write() -> Path:
            return page.write(options.output, name, board, [row for row in rows.values() if row])

        def step(row: Row) -> None:
            record.write(records, [row], board.rows)
            progress.advance(bar)

        with ThreadPoolExecutor(options.jobs) as pool:
            futures = [
                pool.submit(train, board.entry(own), stack, True, step) for own, stack in wanted
            ]
            try:
                for future in as_completed(futures):
                    try:
                        row = future.result()
                    except RuntimeError as error:
                        failed += 1
                        progress.console.print(f"error: {error}")
                        continue
                    tuned = f"{', '.join(row.runs[0].point)}, " if row.runs[0].point else ""
                    value = f"{np.mean([run.value for run in row.runs]):.4f}"
                    said = f"{row.entry} ({row.stack}): {tuned}validation AUC {value}"
                    progress.console.print(said)
                    rows[row.entry, row.stack] = row
                    done.append(row)
                    write()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                trainer.stop()
                raise
    measure_rates(trainer, board, done, options.rates)
    return write(), failed


def measure_rates(trainer: Trainer, board: Board, rows: list[Row], repeats: int) -> None:
    """Adds short trainings to rows, one at a time, every row once before any twice.

    Args:
        trainer: of the runs.
        board: of the rows.
        rows: those that are measured.
        repeats: trainings of each; earlier ones count.
    """
    for repeat, row in itertools.product(range(1, repeats + 1), rows):
        if repeat in {rate.seed for rate in row.rates}:
            continue
        row.rates.append(trainer.rate(board, board.entry(row.entry), row.stack, repeat))
        if speed := row.rates[-1].facts["samples_per_second"]:
            print(f"{row.entry} ({row.stack}): {speed:,.0f} samples/s", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.leaderboard", description=__doc__.splitlines()[0]
    )
    every = boards()
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--boards", nargs="+", choices=every, default=list(every))
    parser.add_argument("--entries", nargs="+", help="of every board named; all by default")
    parser.add_argument("--stacks", nargs="+", choices=[OURS, PEER], default=[OURS, PEER])
    parser.add_argument(
        "--jobs", type=positive, default=1, help="trainings at a time, on shared cores"
    )
    parser.add_argument(
        "--max-steps", type=positive, help="a bound for a trial of everything; with --output"
    )
    parser.add_argument(
        "--rates",
        type=int,
        choices=range(MOST_RATES + 1),
        default=0,
        help="short trainings of each, for samples/s and FLOPs; nothing else may run",
    )
    parser.add_argument(
        "--recorded",
        action="store_true",
        help="trainings in the CSVs of --output count as finished, scores here or not",
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.max_steps and options.output == RESULTS:
        parser.error("--max-steps: name an --output, a trial is no result")
    # An exception, so that the trainings under way end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    trainer = Trainer(options.workspace, options.jobs, options.max_steps, options.recorded)
    failures = 0
    try:
        for name, entry in itertools.product(options.boards, options.entries or ()):
            known = [each.name for each in every[name].entries]
            check_known((name, "entries"), "row", entry, known)
        for name in options.boards:
            written, failed = train_board(name, every[name], trainer, options)
            failures += failed
            print(written)
    except (ValueError, RuntimeError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        trainer.stop()
    if failures:
        sys.exit(2)


def positive(text: str) -> int:
    """A whole number of at least 1, of the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


if __name__ == "__main__":
    main()
