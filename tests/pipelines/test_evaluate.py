"""The Beam evaluation job against the exact metrics."""

import json

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from ctr_tf.evaluation.predictions import Predictions, write_shard
from ctr_tf.metrics import auc, gauc
from pipelines.evaluate import (
    HISTOGRAM,
    NO_USER,
    USER,
    ReadPredictions,
    gauc_values,
    main,
    sums_of_user,
)


@pytest.fixture(name="folder", scope="module")
def make_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictions")
    rng = np.random.default_rng(0)
    for shard in range(3):
        size = 700
        users = rng.zipf(1.4, size) % 80
        scores = np.round(rng.random(size), 3)
        labels = (rng.random(size) < scores * 0.6).astype(float)
        write_shard(
            folder / f"predictions-{shard:05d}-of-00003.parquet",
            {
                "request_id": [f"{shard}-{i // 5}" for i in range(size)],
                "user_id": [None if user == 3 else f"u{user}" for user in users],
                "label.click": labels,
                "weight.click": rng.choice([0.0, 1.0, 2.5], size),
                "score.click": scores,
                "label.buy": labels * (rng.random(size) < 0.2),
                "weight.buy": np.ones(size),
                "score.buy": scores / 2,
            },
        )
    return folder


def run_job(folder, tmp_path, *arguments):
    output = tmp_path / "metrics.json"
    command = ["--predictions", f"{folder}/*.parquet", "--output", str(output), *arguments]
    assert main(command) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    return json.loads(output.read_text())


def assert_agrees(report, folder):
    predictions = Predictions.read(folder)
    for task, metrics in report["tasks"].items():
        rows = predictions.task(task)
        arrays = (rows.labels, rows.scores)
        exact = auc(*arrays, rows.weights).value
        bound = metrics["auc"]["details"]["error_bound"]
        assert abs(metrics["auc"]["value"] - exact) <= bound + 1e-12
        for name, weighting in (("gauc", "impressions"), ("gauc_by_clicks", "clicks")):
            expected = gauc(*arrays, predictions.users, rows.weights, weighting)
            assert metrics[name]["value"] == pytest.approx(expected.value, abs=1e-12)
            assert metrics[name]["details"] == expected.details


@pytest.mark.parametrize("bins", ["8", "65536"])
def test_job_agrees_with_the_exact_metrics(folder, tmp_path, bins):
    report = run_job(folder, tmp_path, "--bins", bins)
    assert sorted(report["tasks"]) == ["buy", "click"]
    assert len(report["files"]) == 3
    assert report["tasks"]["click"]["gauc"]["details"]["users_left_out"] > 0
    assert report["tasks"]["click"]["gauc"]["details"]["impressions_without_user"] > 0
    assert_agrees(report, folder)


def test_one_task_with_two_workers(folder, tmp_path):
    report = run_job(
        folder,
        tmp_path,
        "--task",
        "click",
        "--direct_num_workers",
        "2",
        "--direct_running_mode",
        "multi_threading",
    )
    assert list(report["tasks"]) == ["click"]
    assert_agrees(report, folder)


def test_users_across_batches_and_files_are_put_together(folder):
    files = sorted(str(path) for path in folder.iterdir())
    small, large = (
        [part for file in files for part in ReadPredictions(["click"], 16, rows).process(file)]
        for rows in (7, 10_000)
    )
    assert len(small) > len(large)
    results = []
    for parts in (small, large):
        users = {}
        for kind, (_, value) in parts:
            if kind == USER:
                users.setdefault(value[0], []).append(value[1])
        without_user = sum(value for kind, (_, value) in parts if kind == NO_USER)
        sums = sum(sums_of_user(rows) for rows in users.values())
        results.append(gauc_values(sums, without_user)["gauc"])
        assert sum(kind == HISTOGRAM for kind, _ in parts) == 3
    assert results[0].value == pytest.approx(results[1].value, abs=1e-12)
    assert results[0].details == results[1].details


def test_reader_in_a_pipeline_splits_rows_by_user(tmp_path):
    path = write_shard(
        tmp_path / "p.parquet",
        {
            "request_id": ["a", "b", "c", "d"],
            "user_id": ["u", "v", "u", None],
            "label.t": [1, 0, 0, 1],
            "weight.t": [1, 1, 2, 1],
            "score.t": [0.5, 0.25, 0.75, 0.5],
        },
    )
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        parts = pipeline | beam.Create([str(path)]) | beam.ParDo(ReadPredictions(["t"], 4))
        users = parts | beam.Filter(lambda part: part[0] == USER)
        rows = users | beam.Map(lambda part: (part[1][1][0], part[1][1][1].tolist()))
        expected = [
            ("u", [[1.0, 0.0], [0.5, 0.75], [1.0, 2.0]]),
            ("v", [[0.0], [0.25], [1.0]]),
        ]
        assert_that(rows, equal_to(expected))


def test_rows_without_user_have_an_auc_and_no_gauc(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_shard(
        folder / "p.parquet",
        {"request_id": ["a", "b"], "label.t": [1, 0], "weight.t": [1, 1], "score.t": [0.9, 0.1]},
    )
    (tmp_path / "out").mkdir()
    metrics = run_job(folder, tmp_path / "out")["tasks"]["t"]
    assert metrics["auc"]["value"] == 1.0
    assert metrics["gauc"]["reason"] == "no user id"
    assert metrics["gauc"]["details"]["impressions_without_user"] == 2


def test_a_pattern_without_a_folder_is_of_the_current_one(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    output = tmp_path / "metrics.json"
    assert main(["--predictions", "predictions-*.parquet", "--output", str(output)]) == 0
    assert len(json.loads(output.read_text())["files"]) == 3


def test_bad_input_is_named(folder, tmp_path, capfd):
    def error_of(predictions, *arguments):
        output = str(tmp_path / "x.json")
        assert main(["--predictions", str(predictions), "--output", output, *arguments]) == 2
        (error,) = [line for line in capfd.readouterr().err.splitlines() if "error: " in line[:7]]
        return error

    shards = folder / "*.parquet"
    assert "`predictions` must match a file, received" in error_of(tmp_path / "*.parquet")
    assert "`task` must be one of" in error_of(shards, "--task", "watch")
    assert "runner: 'FnApiRuner': " in error_of(shards, "--runner", "FnApiRuner")
    assert "no option '--bin'; did you mean" in error_of(shards, "--bin=8")
    with pytest.raises(SystemExit):
        run_job(folder, tmp_path, "--bins", "0")
    shard = folder / "predictions-00000-of-00003.parquet"
    assert "00001-of-00003.parquet is missing" in error_of(shard)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(shard.read_bytes()[:-20])
    assert "broken.parquet: not a whole Parquet file" in error_of(broken)
    whole = tmp_path / "a.parquet"
    whole.write_bytes(shard.read_bytes())
    assert "broken.parquet: not a whole Parquet file" in error_of(tmp_path / "*.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "broken.parquet"]
