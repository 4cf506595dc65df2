"""What commands that make a page of a board have in common."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from benchmarks.leaderboard.runs import RESULTS


def page_parser(name: str, doc: str, boards: Iterable[str]) -> argparse.ArgumentParser:
    """A parser of `--workspace`, `--board` and `--output`.

    Args:
        name: of the module in this package.
        doc: of it; its first line is the description.
        boards: to choose from.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.leaderboard.{name}", description=doc.splitlines()[0]
    )
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--board", choices=list(boards), required=True)
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser
