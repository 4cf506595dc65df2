"""Binds a table of items into an export, so that its requests carry item keys alone.

    python -m ctr_tf.export.bind_items --export EXPORT/VERSION --table TABLE/VERSION

writes the next version beside the export.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import get_args

from ctr_tf.data.item_table import ItemTable, ItemTableError
from ctr_tf.export.item_encoder import EncoderInfo, Unknown
from ctr_tf.export.versions import new_version
from ctr_tf.schema import Text

KEYS_FILE = "item_keys.txt"
BINDING_FILE = "item_table.json"
WARMUP = "tf_serving_warmup_requests"


def bind(
    export: Path, table: Path, unknown: Unknown = "missing", version: int | None = None
) -> Path:
    """Writes a version that looks items up by their keys.

    Its `serving_default` and `item_tower` take `candidate_keys` (B, N), strings, in the place of
    the candidates' features, and have one more output, `unknown_items` (B, N): keys that the table
    has not. Those are scored as items all of whose features are missing (0 for a number without a
    default), or by the features that the request carries besides.

    Args:
        export: a version's folder, with an item encoder.
        table: that this export's encoder made.
        unknown: what an unknown key is scored by; with `features` requests carry them, too.
        version: a positive integer; one more than the newest by default.

    Returns:
        The version's folder, beside the export.

    Raises:
        ItemTableError: the table is of another export, or damaged; a key has a line break.
        ValueError: the version exists.
    """
    import tensorflow as tf

    from ctr_tf.export.bound import BoundModel

    export = Path(export)
    encoder, own = EncoderInfo.read(export), ItemTable(table)
    if own.manifest.encoder != encoder.fingerprint:
        raise ItemTableError(f"{table}: made by another export than {export}; build it anew")
    folder = export.parent
    version = new_version(folder, version)
    if any(isinstance(feature, Text) for feature in encoder.schema.features.values()):
        importlib.import_module("tensorflow_text")  # Registers the ops of its tokeniser.
    keys, vectors = own.read()
    for key in keys:
        if "\n" in key or "\r" in key:
            raise ItemTableError(f"{table}: the key {key!r} has a line break")
    hidden = folder / f".writing-{version}"
    shutil.rmtree(hidden, ignore_errors=True)  # Of a call that was killed.
    try:
        hidden.mkdir()
        lines = hidden / KEYS_FILE
        lines.write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
        loaded = tf.saved_model.load(str(export))
        bound = BoundModel(loaded, encoder.schema, lines, vectors, unknown)
        written = hidden / "model"
        # A server takes no gradients.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(bound, str(written), bound.functions, options)
        shutil.copytree(export / "assets.extra", written / "assets.extra")
        # Its requests are those of the export.
        (written / "assets.extra" / WARMUP).unlink(missing_ok=True)
        facts = {"unknown": unknown, "items": len(keys), "table": Path(table).name}
        (written / "assets.extra" / BINDING_FILE).write_text(json.dumps(facts, indent=2))
        written.rename(folder / str(version))
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return folder / str(version)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ctr_tf.export.bind_items", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--export", required=True, type=Path, help="a version with item encoder")
    parser.add_argument("--table", required=True, type=Path, help="a version of the table")
    parser.add_argument("--unknown", choices=get_args(Unknown), default="missing")
    given = parser.parse_args(arguments)
    try:
        print(bind(given.export, given.table, given.unknown))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
