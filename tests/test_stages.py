"""When a stage's output is taken as it stands, and when it is made again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from ctr_tf import stages
from ctr_tf.config import load
from ctr_tf.data.manifest import ManifestError
from ctr_tf.datasets import DatasetError
from ctr_tf.export.versions import new_version
from ctr_tf.training.result import TrainResult
from ctr_tf.workspace import StageError, Workspace

CONFIG = """\
schema:
  features: {item_id: {kind: categorical}}
  tasks: {click: {column: click}}
prepare: {impressions: {path: LOG}, split: {by: none}}
model: {name: dcn_v2}
"""


@pytest.fixture
def workspace(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("item_id,click\na,1\n")
    path = tmp_path / "local.yaml"
    path.write_text(CONFIG.replace("LOG", str(log)))

    def open_workspace(*overrides: str) -> Workspace:
        return Workspace(tmp_path / "workspace", load(path, overrides))

    return open_workspace


def test_a_stage_runs_again_for_other_inputs_or_a_lost_output(tmp_path):
    made = tmp_path / "made"
    runs = []

    def work() -> dict:
        runs.append(len(runs))
        made.write_text("")
        return {"run": runs[-1], "outputs": ["made"]}

    def stage(inputs: str) -> int:
        return stages._stage(tmp_path, "evaluate", inputs, work)["run"]

    assert [stage("a"), stage("a"), stage("b"), stage("b")] == [0, 0, 1, 1]
    made.unlink()
    assert stage("b") == 2


@pytest.fixture
def trained(workspace, monkeypatch):
    """An experiment whose training writes a best checkpoint that counts the calls."""
    found = workspace()
    stages.prepare(found)
    calls = []

    def run(model, data, config, folder, progress, strategy):
        best = folder / "checkpoints" / "best"
        # A run that is taken up at its end does not write the best checkpoint again.
        if not (folder / "checkpoints" / "last").exists():
            for path in (folder / "checkpoints" / "last", best):
                path.mkdir(parents=True)
            for name in ("checkpoint", "ckpt-1.index", "ckpt-1.data-00000-of-00001"):
                (best / name).write_text(name)
        calls.append(folder)
        return TrainResult(1, 1, "click_auc", None, 1)

    monkeypatch.setattr("ctr_tf.training.train.train", run)
    stages.train(found)
    return found, calls


@pytest.mark.parametrize(
    "lost", ["checkpoints", "checkpoints/best", "checkpoints/best/ckpt-1.index"]
)
def test_a_run_that_lost_its_best_checkpoint_is_trained_anew(trained, lost):
    found, calls = trained
    stages.train(found)
    assert len(calls) == 1
    for name in ("report.json", "stages/evaluate.json", "stages/export.json"):
        (found.run / name).write_text("{}")
    path = found.run / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    stages.train(found)
    assert len(calls) == 2 and path.exists()
    # What was made of the weights that are gone is gone too.
    assert not (found.run / "report.json").exists()
    assert [p.name for p in (found.run / "stages").iterdir()] == ["train.json"]
    stages.train(found)
    assert len(calls) == 2


def test_a_version_carries_the_report_of_the_latest_evaluation(trained, monkeypatch):
    found, _ = trained

    def run(model, preprocessor, folder, config, requests, extra_files):
        path = folder / str(new_version(folder, None))
        path.mkdir(parents=True)
        for name, file in extra_files.items():
            shutil.copy(file, path / name)
        return path

    data = SimpleNamespace(preprocessor=None, raw_requests=lambda split, count: [])
    monkeypatch.setattr("ctr_tf.export.export.export", run)
    monkeypatch.setattr(stages, "open_data", lambda _: data)
    monkeypatch.setattr(stages, "trained_model", lambda *_: None)
    monkeypatch.setattr(stages, "check_prepared", lambda *_: None)
    report = found.run / "report.json"
    versions = []
    for text in (None, None, "first", "first", "second"):
        if text:
            report.write_text(text)
        path = stages.export(found)
        carried = path / "report.json"
        versions.append((path.name, carried.read_text() if carried.exists() else None))
    first, second, third = ("1", None), ("2", "first"), ("3", "second")
    assert versions == [first, first, second, second, third]


def test_a_prepared_folder_needs_no_raw_log(workspace, tmp_path):
    made = stages.prepare(workspace())
    (tmp_path / "log.csv").unlink()
    found = workspace(f"prepared={made}")
    assert stages.prepare(found) == found.prepared == made
    assert found.run_fingerprint == workspace(f"prepared={made}").run_fingerprint
    (made / "manifest.json").write_text("{}")
    assert workspace(f"prepared={made}").run_fingerprint != found.run_fingerprint
    with pytest.raises(StageError, match="absent/manifest.json: no such file"):
        stages.train(workspace(f"prepared={tmp_path / 'absent'}"))


def test_a_stage_that_fails_is_not_done(tmp_path):
    def work() -> dict:
        raise StageError("cut short")

    for _ in range(2):
        with pytest.raises(StageError, match="cut short"):
            stages._stage(tmp_path, "train", "a", work)
    assert list(tmp_path.rglob("*.json")) == []


def test_folders_follow_what_their_content_depends_on(workspace, tmp_path):
    first = workspace()
    same = workspace("prepare.runner_options=[--direct_num_workers=2]", "evaluate.seed=9")
    assert (same.prepared, same.run) == (first.prepared, first.run)
    trained = workspace("train.epochs=2")
    assert trained.prepared == first.prepared and trained.run != first.run
    prepared = workspace("prepare.shards=3")
    assert prepared.prepared != first.prepared and prepared.run != first.run
    os.utime(tmp_path / "log.csv", (1, 1))
    assert workspace().prepared != first.prepared


def test_folders_of_a_fetched_dataset_follow_its_checksum(workspace, tmp_path):
    folder = tmp_path / "workspace" / "datasets" / "movielens_1m"
    folder.mkdir(parents=True)
    (folder / "ratings.csv").write_text("item_id,click\na,1\n")
    (folder / "dataset.json").write_text('{"sha256": "1a"}')

    def prepared(pattern: str) -> Path:
        return workspace("dataset=movielens_1m", f"prepare.impressions.path={pattern}").prepared

    added = shutil.copy(folder / "ratings.csv", folder / "added.csv")
    elsewhere = str(tmp_path / "log.csv")
    first, others = prepared("ratings.csv"), [prepared("added.csv"), prepared(elsewhere)]
    for path in (folder / "ratings.csv", added, elsewhere):
        os.utime(path, (1, 1))
    assert prepared("ratings.csv") == first
    assert prepared("added.csv") != others[0] and prepared(elsewhere) != others[1]
    (folder / "dataset.json").write_text('{"sha256": "1b"}')
    assert prepared("ratings.csv") != first
    (folder / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match="dataset.json is missing or damaged"):
        prepared("ratings.csv")


def test_what_is_missing_is_named(workspace, tmp_path):
    with pytest.raises(StageError, match="not prepared; run `ctr-tf prepare` first"):
        stages.open_data(workspace())
    (tmp_path / "log.csv").unlink()
    with pytest.raises(StageError, match="log.csv: no such file"):
        workspace().sources()
    with pytest.raises(StageError, match="prepare.impressions: the config names no log"):
        workspace("prepare.impressions=null").sources()


def test_prepared_once(workspace):
    found = workspace()
    assert stages.prepare(found) == found.prepared
    written = (found.prepared / "manifest.json").stat().st_mtime_ns
    assert stages.prepare(workspace()) == found.prepared
    assert (found.prepared / "manifest.json").stat().st_mtime_ns == written


def test_an_empty_test_split_is_told_before_training(workspace):
    found = workspace()
    with pytest.raises(ManifestError, match="split 'test' is empty: 0 requests"):
        stages.run(found, print)
    assert found.prepared.exists() and not found.run.exists()


def test_a_failed_preparation_is_an_error(workspace, capfd):
    with pytest.raises(StageError, match="prepare failed with exit code 2"):
        stages.prepare(workspace("schema.tasks.click.column=clock"))
    assert "did you mean 'click'?" in capfd.readouterr().err.replace("\n", " ")
