"""Binds a table of items into an export, so that its requests carry item keys alone.

    python -m ctr_tf.export.bind_items --export EXPORT/VERSION --table TABLE/VERSION \
        --output FOLDER

writes the next version in FOLDER, whose name is the name of the model that takes keys.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import get_args

from ctr_tf.data.item_table import ItemTableError
from ctr_tf.export.item_encoder import PARTS_FILE, EncoderInfo, Unknown
from ctr_tf.export.loading import load_saved_model
from ctr_tf.export.table import PRECISION_FILE
from ctr_tf.export.versions import new_version

KEYS_FILE = "item_keys.txt"
BINDING_FILE = "item_table.json"
CHECKED = 16
"""Warm-up requests, the largest ones, that are scored before a bound model appears."""
TOLERANCE = 1e-5


def bind(
    export: Path,
    table: Path,
    output: Path,
    unknown: Unknown = "missing",
    version: int | None = None,
) -> Path:
    """Writes a model that looks items up by their keys; it appears once a reload scores well.

    Its `serving_default` and `item_tower` take `candidate_keys` (B, N), strings, in the place of
    the candidates' features, and have one more output, `unknown_items` (B, N): keys that the table
    has not. Those are scored as an item whose id training has not seen and whose other features are
    missing (0 for a number without a default), or by the features that the request carries besides.

    Args:
        export: a version's folder, with an item encoder.
        table: that this export's encoder made.
        output: the model's folder: another one, since its requests are others.
        unknown: what an unknown key is scored by; with `features` requests carry them, too.
        version: a positive integer; one more than the newest by default.

    Returns:
        The version's folder.

    Raises:
        ItemTableError: the table is of another export, or damaged; a key has a line break; a reload
            of the bound model does not score as its export does with the table's vectors.
        ValueError: the version exists, or `output` is the folder of the export.
    """
    import tensorflow as tf

    from ctr_tf.export.bound import BoundModel, check_scores, warmup_requests
    from ctr_tf.export.tables import TABLES_FILE
    from ctr_tf.export.warmup import WARMUP_FILE, write_warmup

    export, output = Path(export), Path(output)
    if output.resolve() == export.resolve().parent:
        raise ValueError(f"output must be another folder than that of the export, got {output}")
    encoder = EncoderInfo.read(export)
    own = encoder.table(table)
    version = new_version(output, version)
    keys, vectors = own.read()
    for key in keys:
        if "\n" in key or "\r" in key:
            raise ItemTableError(f"{table}: the key {key!r} has a line break")
    hidden = output / f".writing-{version}-{os.getpid()}"
    try:
        hidden.mkdir(parents=True)
        lines = hidden / KEYS_FILE
        lines.write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
        loaded = load_saved_model(export, encoder.schema)
        bound = BoundModel(loaded, encoder.schema, lines, vectors, unknown)
        written = hidden / "model"
        # A server takes no gradients.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(bound, str(written), bound.functions, options)
        extra = written / "assets.extra"
        shutil.copytree(export / "assets.extra", extra)
        # Of the export alone: it cannot encode any more, and has other bytes.
        for name in (PARTS_FILE, Path(PRECISION_FILE).name):
            (extra / name).unlink(missing_ok=True)
        _move_tables(written / TABLES_FILE)
        requests = warmup_requests(extra / WARMUP_FILE, keys)
        write_warmup(extra / WARMUP_FILE, bound, requests, output.resolve().name)
        reloaded = load_saved_model(written, encoder.schema)
        check_scores(reloaded, loaded, requests[-CHECKED:], keys, vectors, TOLERANCE)
        facts = {"unknown": unknown, "items": len(keys), "table": Path(table).name}
        (extra / BINDING_FILE).write_text(json.dumps(facts, indent=2), encoding="utf-8")
        written.rename(output / str(version))
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return output / str(version)


def _move_tables(path: Path) -> None:
    """Says where the tables lie in the files of the bound model."""
    tables = json.loads(path.read_text(encoding="utf-8"))
    for table in tables.values():
        for piece in table["pieces"]:
            piece["variable"] = f"loaded/{piece['variable']}"
    path.write_text(json.dumps(tables, indent=2), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ctr_tf.export.bind_items", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--export", required=True, type=Path, help="a version with item encoder")
    parser.add_argument("--table", required=True, type=Path, help="a version of the table")
    parser.add_argument("--output", required=True, type=Path, help="folder of the bound model")
    parser.add_argument("--unknown", choices=get_args(Unknown), default="missing")
    given = parser.parse_args(arguments)
    try:
        print(bind(given.export, given.table, given.output, given.unknown))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
