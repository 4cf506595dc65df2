"""Runs the models of other libraries on given weights, and keeps what they say for the tests.

    python benchmarks/parity/regenerate.py

Each peer runs in an environment of its own. Its files in `tests/golden/<peer>` are those of the
last whole run; one that says the same as before is left alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.training import environment, run_module

ROOT = Path(__file__).parents[2]
PEERS = ("deepctr", "fuxictr")


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same arrays."""
    with np.load(one) as a, np.load(other) as b:
        return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def update(made: Path, kept: Path) -> dict[str, list[str]]:
    """Brings a folder to the files of another one, which loses those that are new.

    Args:
        made: with all files of a run.
        kept: what is to hold them.

    Returns:
        names of files `written`, `removed` and `left` as they were.
    """
    found = {"written": [], "removed": [], "left": []}
    kept.mkdir(parents=True, exist_ok=True)
    for file in sorted(made.glob("*.npz")):
        before = kept / file.name
        if before.exists() and same(file, before):
            found["left"].append(file.stem)
            continue
        os.replace(file, before)
        found["written"].append(file.stem)
    for file in sorted(kept.glob("*.npz")):
        if file.stem not in found["written"] + found["left"]:
            file.unlink()
            found["removed"].append(file.stem)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument(
        "--environments",
        type=Path,
        help="a folder with an environment of each peer; by default they are made from the pins in "
        "benchmarks/speed/requirements",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "tests" / "golden")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for peer in options.peers:
        if options.environments:
            python = options.environments / peer / "bin" / "python"
        else:
            python = environment(peer)
        with tempfile.TemporaryDirectory(dir=options.output, prefix=".") as folder:
            run_module(python, f"benchmarks.parity.{peer}_run", str(Path(folder).absolute()))
            found = update(Path(folder), options.output / peer)
        print(f"{peer}: " + ", ".join(f"{len(names)} {how}" for how, names in found.items()))


if __name__ == "__main__":
    main()
