"""Encodes a catalogue with an export's item encoder: a sharded table, anew or for what changed.

    python -m pipelines.build_item_table --export EXPORT/VERSION \
        --catalogue PREPARED/catalogue.jsonl.gz --output FOLDER

The export has `export.item_encoder: true`. `FOLDER/<version>/` appears when it is whole.
Vectors of items whose features did not change are taken over from the newest version there, if the
same export made them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from ctr_tf.data.item_table import (
    ItemTable,
    ItemTableError,
    ItemTableManifest,
    TableShard,
    write_shard,
)
from ctr_tf.data.manifest import MANIFEST
from ctr_tf.export.item_encoder import EncoderInfo
from ctr_tf.export.versions import new_version, versions
from pipelines.progress import console, quiet, stage
from pipelines.runner import check_runner
from pipelines.transforms.items import (
    SUMMARIES,
    Item,
    ItemEncoder,
    ReadItems,
    TakeOver,
    WriteTable,
    shard_name,
)

SHOWN_REASONS = 3


def build(
    export: Path,
    catalogue: Path,
    output: Path,
    shards: int = 8,
    runner: str = "FnApiRunner",
    runner_options: Sequence[str] = (),
) -> Path:
    """Writes the next version of a table, unless the newest is of the same items and encoder.

    Args:
        export: a version's folder, with an item encoder.
        catalogue: JSON lines `{"item_id", "features"}`, gzipped.
        output: the folder of the table's versions.
        shards: files of the table; one at a time is in a worker's memory.
        runner: any Beam runner.
        runner_options: of it.

    Returns:
        The version's folder.

    Raises:
        ValueError: `shards` below 1, an unknown runner or option.
        ItemTableError: the export has no item encoder, the catalogue is missing, or no line of it
            is an item.
    """
    if shards < 1:
        raise ValueError(f"shards must be at least 1, got {shards}")
    check_runner(runner, runner_options)
    encoder = EncoderInfo.read(export)
    if not Path(catalogue).exists():
        raise ItemTableError(f"{catalogue}: no such file")
    previous = _previous(output, encoder, shards)
    version = new_version(output, None)
    hidden = Path(output) / f".writing-{version}-{os.getpid()}"
    try:
        (hidden / SUMMARIES).mkdir(parents=True)
        options = PipelineOptions([*runner_options], pickle_library="cloudpickle")
        with (
            stage("items") as say,
            quiet(hidden / "beam.log", hidden),
            beam.Pipeline(runner=runner, options=options) as pipeline,
        ):
            _ = (
                pipeline
                | beam.Create([str(catalogue)])
                | beam.ParDo(ReadItems(encoder.schema, shards))
                | "ByShard" >> beam.GroupByKey()
                | beam.ParDo(TakeOver(previous and str(previous.folder)))
                | RunInference(ItemEncoder(str(export), encoder.schema))
                | beam.Map(_by_shard)
                | "Encoded" >> beam.GroupByKey()
                | beam.ParDo(WriteTable(str(hidden), encoder.width))
            )
        manifest = _manifest(hidden, encoder, shards, previous)
        counts = f"{manifest.encoded:,} encoded, {manifest.reused:,} taken over"
        say(f"{counts}, {manifest.removed:,} gone, {sum(manifest.rejects.values()):,} rejected")
        if not manifest.rows:
            most = Counter(manifest.rejects).most_common(SHOWN_REASONS)
            reasons = "; ".join(f"{count:,} times {reason}" for reason, count in most)
            raise ItemTableError(f"{catalogue}: no usable item: {reasons or 'it is empty'}")
        if previous and not (manifest.encoded or manifest.removed):
            if previous.manifest.rejects == manifest.rejects:
                return previous.folder
        (hidden / "beam.log").unlink(missing_ok=True)
        shutil.rmtree(hidden / SUMMARIES)
        (hidden / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
        return hidden.rename(Path(output) / str(version))
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _by_shard(item: Item) -> tuple[int, Item]:
    return item.shard, item


def _previous(output: Path, encoder: EncoderInfo, shards: int) -> ItemTable | None:
    """The newest version, if vectors of it can be taken over."""
    found = versions(output)
    if not found:
        return None
    table = ItemTable(Path(output) / str(found[-1]))
    own = table.manifest.encoder, len(table.manifest.shards)
    return table if own == (encoder.fingerprint, shards) else None


def _manifest(
    folder: Path, encoder: EncoderInfo, shards: int, previous: ItemTable | None
) -> ItemTableManifest:
    """What `WriteTable` wrote, with empty files where no item went."""
    written: list[TableShard] = []
    counts: Counter[str] = Counter()
    rejects: Counter[str] = Counter()
    for shard in range(shards):
        path = folder / SUMMARIES / f"{shard}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            written.append(TableShard(**found["shard"]))
            counts.update(found["counts"])
            rejects.update(found["rejects"])
        else:
            none = np.zeros((0, encoder.width), "float32")
            written.append(write_shard(folder / shard_name(shard), [], [], none))
    before = previous.manifest.rows if previous else 0
    return ItemTableManifest(
        schema_fingerprint=encoder.schema.fingerprint,
        encoder=encoder.fingerprint,
        parts=encoder.parts,
        shards=written,
        encoded=counts["new"] + counts["changed"],
        reused=counts["reused"],
        removed=before - counts["reused"] - counts["changed"],
        rejects=dict(rejects),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; options it does not know go to Beam."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.build_item_table",
        description=__doc__.splitlines()[0],
        allow_abbrev=False,
    )
    parser.add_argument("--export", required=True, type=Path, help="a version with item encoder")
    parser.add_argument("--catalogue", required=True, type=Path, help="of prepared data")
    parser.add_argument("--output", required=True, type=Path, help="folder of the table's versions")
    parser.add_argument("--shards", type=int, default=8, help="files of the table")
    parser.add_argument("--runner", default="FnApiRunner", help="any Beam runner")
    given, beam_arguments = parser.parse_known_args(argv)
    try:
        print(
            build(
                given.export,
                given.catalogue,
                given.output,
                given.shards,
                given.runner,
                beam_arguments,
            )  # fmt: skip
        )
    except (ValueError, OSError) as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
