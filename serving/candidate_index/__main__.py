"""Builds a candidate index over a table of items, as a SavedModel that TF Serving answers from.

    python -m serving.candidate_index --export EXPORT/VERSION --table TABLE/VERSION --output FOLDER

The export is of a two-tower model, with `export.item_encoder: true`; `FOLDER/<version>/` appears
once a reload of it finds the best items of real requests.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from ctr_tf.startup import start_tensorflow
from serving.candidate_index.top_k import Kind, UnavailableError


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.candidate_index", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--export", required=True, type=Path, help="a version with item encoder")
    parser.add_argument("--table", required=True, type=Path, help="a version of the table")
    parser.add_argument("--output", required=True, type=Path, help="folder of the index's versions")
    parser.add_argument("--kind", choices=get_args(Kind), default="brute_force")
    parser.add_argument("--k", type=int, default=500, help="items of an answer")
    given = parser.parse_args(arguments)
    start_tensorflow()
    import tensorflow as tf

    from serving.candidate_index.build import build

    try:
        print(build(given.export, given.table, given.output, given.kind, given.k))
    except (ValueError, OSError, UnavailableError, tf.errors.OpError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
