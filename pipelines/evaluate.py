"""Beam job: AUC and GAUC from sharded prediction files of any size.

    python -m pipelines.evaluate --predictions 'scores/*.parquet' --output metrics.json

AUC comes from a histogram of the scores, mergeable and of fixed size, with its hard error bound
in the output. GAUC is exact: rows are grouped by user, and one user's rows at a time are in memory.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from numpy.typing import NDArray

from ctr_tf.evaluation.prediction_schema import check_shards, check_table, task_names
from ctr_tf.metrics import DEFAULT_BINS, HistogramAuc, MetricValue, RankedScores
from ctr_tf.metrics.gauc import gauc_terms
from pipelines.progress import console
from pipelines.runner import check_runner

HISTOGRAM, USER, NO_USER = "histogram", "user", "impressions_without_user"
# Rows of one task and user: labels, scores and weights, (3, M).
UserRows = NDArray[np.float64]


class ReadPredictions(beam.DoFn):
    """Reads a file batch by batch and gives (kind, (task, value)) in one collection.

    One collection of kinds instead of tagged outputs, which Beam's Dask runner gets wrong. The
    kinds are a histogram of the file (`HistogramAuc`), the rows of one user in one batch
    (`(user_id, UserRows)`), and the number of the file's impressions without user.

    Args:
        tasks: tasks to evaluate.
        bins: bins of the histogram.
        batch_rows: rows in memory at a time.
    """

    def __init__(self, tasks: Sequence[str], bins: int, batch_rows: int = 2**16) -> None:
        self._tasks = list(tasks)
        self._bins = bins
        self._batch_rows = batch_rows

    def process(self, path: str) -> Iterator[tuple[str, tuple[str, Any]]]:
        histograms = {task: HistogramAuc.empty(self._bins) for task in self._tasks}
        without_user = dict.fromkeys(self._tasks, 0)
        for table in read_batches(path, self._batch_rows):
            users = table["user_id"].combine_chunks().dictionary_encode()
            codes = users.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            order = np.argsort(codes, kind="stable")
            for task in self._tasks:
                if task not in task_names(table):
                    raise ValueError(
                        f"{path}: `task` must be one of {task_names(table)}, received {task!r}"
                    )
                names = (f"{kind}.{task}" for kind in ("label", "score", "weight"))
                rows = np.stack([table[name].to_numpy() for name in names])
                histogram = HistogramAuc.of(*rows, bins=self._bins)
                histograms[task] = histograms[task].merge(histogram)
                valid = order[rows[2, order] > 0]
                cuts = np.flatnonzero(np.diff(codes[valid])) + 1
                for chosen in np.split(valid, cuts):
                    if not len(chosen):
                        continue
                    if codes[chosen[0]] < 0:
                        without_user[task] += len(chosen)
                        continue
                    user = users.dictionary[int(codes[chosen[0]])].as_py()
                    yield USER, (task, (user, rows[:, chosen]))
        for task in self._tasks:
            yield HISTOGRAM, (task, histograms[task])
            yield NO_USER, (task, without_user[task])


def read_batches(path: str, batch_rows: int) -> Iterator[pa.Table]:
    """Checked rows of a Parquet file on any file system Beam knows, in batches.

    Raises:
        ValueError: the file is not whole, or a row breaks the schema; names file and row.
    """
    with FileSystems.open(path, compression_type="uncompressed") as handle:
        try:
            file = pq.ParquetFile(handle)
            first_row = 0
            for batch in file.iter_batches(batch_size=batch_rows):
                table = pa.Table.from_batches([batch])
                yield check_table(table, path, first_row)
                first_row += len(table)
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path}: not a whole Parquet file: {error}") from error


def add_histograms(histograms: Iterable[HistogramAuc]) -> HistogramAuc | None:
    """Merges histograms one by one, for `CombinePerKey`; None is the sum of none."""
    total = None
    for histogram in histograms:
        if histogram is not None:
            total = histogram if total is None else total.merge(histogram)
    return total


def add_sums(sums: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Adds the vectors of `sums_of_user`, for `CombinePerKey`."""
    return sum(sums, np.zeros(7))


def sums_of_user(rows: Iterable[UserRows]) -> NDArray[np.float64]:
    """What GAUC adds over users, from the rows of one user.

    Args:
        rows: the user's rows, in pieces of shape (3, M): labels, scores and weights.

    Returns:
        (7,): weight times AUC and weight, by impressions and then by clicks; 1 if the user has
        both classes, 1 if it has one class, and its rows in that case.

    Example:
        >>> sums_of_user([np.array([[0.0, 1.0], [0.2, 0.8], [1.0, 1.0]])])
        array([2., 2., 1., 1., 1., 0., 0.])
    """
    labels, scores, weights = np.concatenate(list(rows), axis=1)
    sums = RankedScores(labels, scores).pair_sums(weights)
    terms = np.concatenate([*gauc_terms(sums, "impressions"), *gauc_terms(sums, "clicks")])
    left_out = 0.0 if sums.defined[0] else 1.0
    return np.array([*terms, 1 - left_out, left_out, left_out * len(labels)])


def gauc_values(sums: NDArray[np.float64], without_user: int) -> dict[str, MetricValue]:
    """GAUC by impressions and by clicks from the sums over users, (7,)."""
    details = {
        "users": int(sums[4]),
        "users_left_out": int(sums[5]),
        "impressions_left_out": int(sums[6]),
        "impressions_without_user": without_user,
    }
    if not sums[4]:
        reason = (
            "no user has both classes" if sums[5] else "no user id" if without_user else "no rows"
        )
        undefined = MetricValue.undefined(reason, **details)
        return {"gauc": undefined, "gauc_by_clicks": undefined}
    return {
        "gauc": MetricValue(float(sums[0] / sums[1]), details=details),
        "gauc_by_clicks": MetricValue(float(sums[2] / sums[3]), details=details),
    }


class WriteMetrics(beam.DoFn):
    """Puts the parts of all tasks together and writes them as JSON, whole or not at all."""

    def __init__(self, output: str, files: Sequence[str]) -> None:
        self._output = output
        self._files = list(files)

    def process(self, element: tuple[int, Iterable[tuple[str, tuple[str, Any]]]]) -> None:
        parts: dict[str, dict[str, Any]] = {}
        for kind, (task, value) in element[1]:
            parts.setdefault(task, {})[kind] = value
        report = {
            "files": self._files,
            "tasks": {task: self._metrics(parts[task]) for task in sorted(parts)},
        }
        partial = f"{self._output}.partial"
        with FileSystems.create(partial, mime_type="application/json") as handle:
            handle.write((json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
        FileSystems.rename([partial], [self._output])

    def _metrics(self, parts: dict[str, Any]) -> dict[str, Any]:
        # A task without a row that has a user has no sums.
        sums = parts.get(USER, np.zeros(7))
        metrics = {"auc": parts[HISTOGRAM].auc(), **gauc_values(sums, parts[NO_USER])}
        return {name: value.to_json() for name, value in metrics.items()}


def build(
    pipeline: beam.Pipeline, files: Sequence[str], tasks: Sequence[str], bins: int, output: str
) -> None:
    """Adds the job to a pipeline.

    Args:
        pipeline: where to.
        files: prediction files.
        tasks: tasks to evaluate.
        bins: bins of the score histogram.
        output: the JSON file to write.
    """
    parts = (
        pipeline
        | "Files" >> beam.Create(list(files))
        | "SpreadFiles" >> beam.Reshuffle()
        | "Read" >> beam.ParDo(ReadPredictions(tasks, bins))
    )
    histograms = (
        parts
        | "Histograms" >> beam.FlatMap(_of_kind, HISTOGRAM)
        | "MergeHistograms" >> beam.CombinePerKey(add_histograms)
        | "NameHistograms" >> beam.Map(_with_kind, HISTOGRAM)
    )
    without_user = (
        parts
        | "WithoutUser" >> beam.FlatMap(_of_kind, NO_USER)
        | "CountWithoutUser" >> beam.CombinePerKey(sum)
        | "NameWithoutUser" >> beam.Map(_with_kind, NO_USER)
    )
    users = (
        parts
        | "UserRows" >> beam.FlatMap(_of_kind, USER)
        | "KeyByUser" >> beam.Map(_by_task_and_user)
        | "GroupByUser" >> beam.GroupByKey()
        | "SumsOfUser" >> beam.Map(_task_and_sums)
        | "AddSums" >> beam.CombinePerKey(add_sums)
        | "NameSums" >> beam.Map(_with_kind, USER)
    )
    _ = (
        (histograms, without_user, users)
        | "Parts" >> beam.Flatten()
        | "OneKey" >> beam.Map(_with_one_key)
        | "Gather" >> beam.GroupByKey()
        | "Write" >> beam.ParDo(WriteMetrics(output, files))
    )


def _of_kind(part: tuple[str, Any], kind: str) -> list[Any]:
    return [part[1]] if part[0] == kind else []


def _with_kind(value: Any, kind: str) -> tuple[str, Any]:
    return kind, value


def _with_one_key(value: Any) -> tuple[int, Any]:
    return 0, value


def _by_task_and_user(element: tuple[str, tuple[str, UserRows]]) -> tuple[tuple[str, str], Any]:
    task, (user, rows) = element
    return (task, user), rows


def _task_and_sums(element: tuple[tuple[str, str], Iterable[UserRows]]) -> tuple[str, Any]:
    (task, _), rows = element
    return task, sums_of_user(rows)


def find_files(pattern: str) -> list[str]:
    """Files that match a pattern, in order of name.

    Raises:
        FileNotFoundError: nothing matches, or a shard of a set is missing.
    """
    # Beam lists nothing for a pattern without a folder.
    listed = pattern if os.path.dirname(pattern) else os.path.join(".", pattern)
    [match] = FileSystems.match([listed])
    files = sorted(metadata.path for metadata in match.metadata_list)
    if not files:
        raise FileNotFoundError(f"`predictions` must match a file, received {pattern!r}")
    check_shards(files)
    return files


def choose_tasks(file: str, wanted: Sequence[str] | None) -> list[str]:
    """The wanted tasks, or all that a file has scores for.

    Raises:
        ValueError: the file has no such task, or none at all.
    """
    with FileSystems.open(file, compression_type="uncompressed") as handle:
        try:
            found = task_names(pq.read_schema(handle))
        except pa.ArrowInvalid as error:
            raise ValueError(f"{file}: not a whole Parquet file: {error}") from error
    if not found:
        raise ValueError(f"{file}: no column `score.<task>`")
    for task in wanted or []:
        if task not in found:
            raise ValueError(f"`task` must be one of {found}, received {task!r}")
    return list(dict.fromkeys(wanted)) if wanted else found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; options it does not know go to Beam.

    Args:
        argv: command line arguments; those of the process by default.

    Returns:
        The exit code, 2 for an error of options or input.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--predictions", required=True, help="pattern of prediction files")
    parser.add_argument("--output", required=True, help="JSON file to write")
    parser.add_argument("--task", action="append", help="a task, repeatable; all by default")
    parser.add_argument("--bins", type=int, default=DEFAULT_BINS, help="bins of the histogram")
    # By name: Beam's DirectRunner first looks for another runner's binary on the network.
    parser.add_argument("--runner", default="FnApiRunner", help="any Beam runner")
    arguments, beam_arguments = parser.parse_known_args(argv)
    if arguments.bins < 1:
        parser.error(f"--bins must be at least 1, received {arguments.bins}")
    try:
        check_runner(arguments.runner, beam_arguments)
        files = find_files(arguments.predictions)
        tasks = choose_tasks(files[0], arguments.task)
        options = PipelineOptions([*beam_arguments, f"--runner={arguments.runner}"])
        with beam.Pipeline(options=options) as pipeline:
            build(pipeline, files, tasks, arguments.bins, arguments.output)
    except (ValueError, OSError) as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
