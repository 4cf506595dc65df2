"""Prepares a raw log: validated, joined, grouped into requests, split, written as TFRecords.

    python -m pipelines.prepare --config job.yaml --output FOLDER [--overwrite]

The configuration file holds `schema`, `prepare` (a `PrepareConfig`) and optionally `root`, the
folder that relative paths are relative to. Three pipelines run one after the other; between them
rows lie in a work folder within the output folder to be, so every worker must reach `root` and the
output folder at the same path. Each pipeline is one chain of steps that ends in one step: the
Dask runner runs nothing else.

The local runner keeps its shuffles in memory. Measured on MovieLens-1M (42 bytes a row), the peak
of the command line and the job, one process each, is 246 MiB at 100,406 rows and 614 and 641 MiB at
1,000,209 (two runs): some 0.4 KiB a row. It is reached where rows, by then 102 bytes each, pass the
shuffle: the runner holds several copies of them. `benchmarks/preparation.py` measures it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apache_beam as beam
import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from pydantic import Field, ValidationError

from ctr_tf.config_base import Config
from ctr_tf.data.config import PrepareConfig
from ctr_tf.data.manifest import CATALOGUE, HISTORIES, REJECTS, SCHEMA, VOCABULARIES, Manifest
from ctr_tf.schema import Schema
from pipelines.progress import console, quiet, stage
from pipelines.runner import check_runner
from pipelines.transforms.assemble import Ingested, make_manifest, vocabularies, write_statistics
from pipelines.transforms.catalogue import read_items, save_items, write_catalogue
from pipelines.transforms.errors import PrepareError
from pipelines.transforms.ingest import Folders, GroupUser, ReadRows, ReadTask, WriteShard
from pipelines.transforms.layout import Layout, resolve
from pipelines.transforms.learn import LearnShard, MergeCounts, WriteLearned
from pipelines.transforms.rows import time_boundaries
from pipelines.transforms.users import keep_active
from pipelines.transforms.write import WriteRecords

LOCAL_RUNNER = "FnApiRunner"
LOCAL_BYTES = 1 << 30
"""Input size above which the local runner, which shuffles in memory, is warned of."""


def run(
    schema: Schema, config: PrepareConfig, root: Path, output: Path, overwrite: bool = False
) -> Manifest:
    """Prepares a log into `output`, which appears whole or not at all.

    Args:
        schema: what a row is.
        config: the job.
        root: what relative paths are relative to.
        output: the folder to be written.
        overwrite: replace an existing folder, once the new one is whole.

    Returns:
        The manifest.

    Raises:
        PrepareError: the configuration or the input cannot be prepared; another job is writing
            the same folder; too many bad rows, whose rejects are then left in
            `<output>.rejects`.
    """
    output = Path(output).absolute()
    layout = resolve(schema, config, Path(root).absolute())
    try:
        check_runner(config.runner, config.runner_options)
    except ValueError as error:
        raise PrepareError(f"prepare.{error}") from None
    _warn_of_size(layout)
    with _alone(output):
        if output.exists() and not overwrite:
            raise PrepareError(f"{output} exists; choose another folder or overwrite it")
        return _run(layout, output)


def _run(layout: Layout, output: Path) -> Manifest:
    partial = output.with_name(f".{output.name}.partial")
    kept = output.with_name(f"{output.name}.rejects")
    shutil.rmtree(partial, ignore_errors=True)
    # The work folder's name is new each time: worker processes remember what they loaded.
    folders = Folders(partial / f"work-{time.time_ns()}", partial)
    try:
        for folder in (folders.work / "statistics.summary", partial / VOCABULARIES):
            folder.mkdir(parents=True)
        for folder in (*layout.splits, REJECTS):
            (partial / folder).mkdir()
        manifest = _prepare(layout, folders)
        shutil.rmtree(folders.work)
        manifest.write(partial)
        _replace(partial, output)
    except BaseException as error:
        left = _keep_rejects(partial / REJECTS, kept)
        shutil.rmtree(partial, ignore_errors=True)
        if left and isinstance(error, PrepareError):
            raise PrepareError(f"{error}; every rejected row: {kept}") from error
        raise
    shutil.rmtree(kept, ignore_errors=True)  # of a job that failed before
    return manifest


def _prepare(layout: Layout, folders: Folders) -> Manifest:
    config = layout.config
    tasks = [
        ReadTask(source, file)
        for source in ("impressions", "users", "behaviours")
        for file in layout.files.get(source, ())
    ]
    items_read = 0
    if config.items:
        with stage("items") as say:
            items, items_read, rejects = read_items(layout)
            tasks += [ReadTask("rejects", file, packed) for file, packed in rejects]
            save_items(items, folders.items)
            write_catalogue(layout, items, folders.output / CATALOGUE)
            say(f"{len(items):,} items")
    with stage("rows") as say:
        _run_pipeline(
            layout,
            folders,
            tasks,
            ReadRows(layout, folders),
            GroupUser(layout, folders),
            WriteShard(layout, folders),
        )
        ingested = Ingested(folders, items_read, config.most_active_users)
        ingested.check(layout, folders.output / REJECTS)
        for source, rows in ingested.rows.items():
            say(f"{source}: {rows.read:,} rows read, {rows.rejected:,} rejected")
        if config.most_active_users < 1:
            out = ingested.left_out
            keep_active(folders, config.shards, out.below)
            say(
                f"left out: {out.users:,} users of fewer than {out.below:,} behaviours, with "
                f"{out.impressions:,} impressions"
            )
    boundaries = (float("inf"), float("inf"))
    if config.split.by == "time":
        boundaries = time_boundaries(config.split, ingested.times)
    shards = list(range(config.shards))
    with stage("vocabularies and statistics"):
        for name in vocabularies(layout):
            for suffix in ("txt", "counts"):
                (folders.output / VOCABULARIES / f"{name}.{suffix}").touch()
        _run_pipeline(
            layout,
            folders,
            shards,
            LearnShard(layout, folders, boundaries),
            MergeCounts(),
            WriteLearned(layout, folders),
        )
        write_statistics(folders)
        (folders.output / SCHEMA).write_text(layout.schema.to_json() + "\n", encoding="utf-8")
    with stage("records") as say:
        _run_pipeline(layout, folders, shards, WriteRecords(layout, folders, boundaries))
        manifest = make_manifest(layout, folders, ingested, boundaries)
        for name, split in manifest.splits.items():
            held = f"{split.requests:,} requests, {split.candidates:,} candidates"
            if name == HISTORIES:
                held = f"{split.requests:,} windows, {split.behaviours:,} behaviours"
            say(f"{name}: {held}")
        for warning, count in manifest.warnings.items():
            say(f"warning: {count:,} x {warning}")
    if manifest.splits["train"].requests == 0:
        raise PrepareError("the training split is empty; check prepare.split")
    for task, labelled in manifest.splits["train"].labelled.items():
        if labelled == 0:
            raise PrepareError(
                f"tasks.{task}: no labelled candidate in training: its column is empty, masked or "
                "without weight in every row"
            )
    return manifest


def _run_pipeline(layout: Layout, folders: Folders, elements: list, *steps: beam.DoFn) -> None:
    config = layout.config
    options = PipelineOptions(config.runner_options, pickle_library="cloudpickle")
    with (
        quiet(folders.work / "beam.log", folders.output),
        beam.Pipeline(runner=config.runner, options=options) as pipeline,
    ):
        found = pipeline | beam.Create(elements) | beam.Reshuffle()
        for index, step in enumerate(steps):
            if index:
                found = found | f"Group{index}" >> beam.GroupByKey()
            found = found | type(step).__name__ >> beam.ParDo(step)
    client = getattr(pipeline.result, "client", None)
    if client is not None:  # the Dask runner leaves its connection open
        client.close()


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keeps a second job, which would write to the same partial folder, out."""
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.with_name(f".{output.name}.lock")
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The file may have been the one of a job that has ended and removed it.
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise FileNotFoundError
        except (BlockingIOError, FileNotFoundError):
            raise PrepareError(f"{output}: another job is writing it") from None
        try:
            yield
        finally:
            path.unlink()


def _replace(partial: Path, output: Path) -> None:
    old = output.with_name(f".{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    partial.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def _keep_rejects(rejects: Path, kept: Path) -> bool:
    found = any(rejects.glob("*.jsonl"))
    if found:
        shutil.rmtree(kept, ignore_errors=True)
        rejects.rename(kept)
    return found


def _warn_of_size(layout: Layout) -> None:
    size = sum(Path(file.path).stat().st_size for files in layout.files.values() for file in files)
    if size > LOCAL_BYTES and layout.config.runner == LOCAL_RUNNER:
        console.print(
            f"warning: {size / 2**30:.1f} GiB of input, and {LOCAL_RUNNER} keeps its shuffles in "
            "memory; prepare.runner may name another: "
            "apache_beam.runners.dask.dask_runner.DaskRunner, FlinkRunner, SparkRunner"
        )


class Job(Config):
    """A job file.

    Args:
        log: under the key `schema`, what a row is.
        prepare: the job.
        root: the folder that relative paths are relative to.
    """

    log: Schema = Field(alias="schema")
    prepare: PrepareConfig
    root: Path = Field(Path("."), strict=False)


def load_job(path: Path) -> Job:
    """Reads a job file, YAML or JSON.

    Raises:
        PrepareError: the file is missing or not a job; names the key and the value.
    """
    try:
        return Job.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise PrepareError(f"{path}: {where}: {first['msg']}, not {first['input']!r}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PrepareError(f"{path}: {error}") from None


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code, 2 for an error of configuration or input."""
    parser = argparse.ArgumentParser(prog="pipelines.prepare", description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="schema, prepare and root")
    parser.add_argument("--output", type=Path, required=True, help="folder to be written")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")
    options = parser.parse_args(arguments)
    try:
        job = load_job(options.config)
        run(job.log, job.prepare, job.root, options.output, options.overwrite)
    except (PrepareError, OSError) as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
