"""The stages of an experiment: where each one's output lies, and when it needs no second run."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from ctr_tf import datasets
from ctr_tf.config import fingerprint
from ctr_tf.data.manifest import HISTORIES, MANIFEST, Manifest
from ctr_tf.startup import start_tensorflow
from ctr_tf.workspace import StageError, Workspace

if TYPE_CHECKING:
    import tensorflow as tf

    from ctr_tf.data.input import Input
    from ctr_tf.models.model import CTRModel


class Interrupted(StageError):
    """A stage was asked to stop; what it had done is saved."""


def fetch(workspace: Workspace) -> None:
    """Fetches and verifies the experiment's dataset, if it names one."""
    if workspace.experiment.dataset and not workspace.experiment.prepared:
        datasets.get(workspace.experiment.dataset).fetch(workspace.root / "datasets")


def prepare(workspace: Workspace) -> Path:
    """Runs the Beam job, in a process of its own, unless its output is there.

    Raises:
        StageError: the job failed; it has said why.
    """
    output = workspace.prepared
    if workspace.experiment.prepared or (output / MANIFEST).exists():
        return output
    own = workspace.experiment.dump()
    settings = {key: own[key] for key in ("schema", "prepare")}
    settings["root"] = str(workspace.dataset)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "prepare.json"
        config.write_text(json.dumps(settings), encoding="utf-8")
        command = [sys.executable, "-m", "pipelines.prepare"]
        command += ["--config", str(config), "--output", str(output)]
        job = subprocess.Popen(command)
        try:
            code = job.wait()
        except BaseException:
            job.terminate()
            job.wait()
            raise
    if code:
        raise StageError(f"prepare failed with exit code {code}")
    return output


def check_prepared(workspace: Workspace, split: str | None = None) -> None:
    """Checks that there is prepared data of the experiment's schema, without TensorFlow.

    Args:
        workspace: whose data.
        split: one that must not be empty.

    Raises:
        StageError: there is none.
        ManifestError: the split is empty.
        ValueError: it is of another schema.
    """
    if not (workspace.prepared / MANIFEST).exists():
        raise StageError(f"{workspace.prepared}: not prepared; run `ctr-tf prepare` first")
    found = Manifest.read(workspace.prepared, workspace.experiment.log, check_files=False)
    if split:
        found.split(split)


def check_trained(workspace: Workspace) -> None:
    """Checks that training has ended, without TensorFlow.

    Raises:
        StageError: it has not.
    """
    if _read_stage(workspace.run, "train") is None:
        raise StageError(f"{workspace.run}: not trained; run `ctr-tf train` first")


def open_data(workspace: Workspace, training_split: str = "train") -> Input:
    """The prepared data.

    Args:
        workspace: whose data.
        training_split: what is trained on, `histories` for pre-training.

    Raises:
        StageError: it is not there.
    """
    check_prepared(workspace)
    start_tensorflow()
    from ctr_tf.data.input import Input

    experiment = workspace.experiment
    settings, seed = experiment.input, experiment.train.seed
    if training_split == HISTORIES:
        settings = settings.model_copy(update={"batch_size": experiment.pretrain.batch_size})
        seed = experiment.pretrain.train.seed
    data = Input(workspace.prepared, experiment.log, settings, seed, training_split)
    for file, count in data.skipped.items():
        print(f"{workspace.prepared / file}: {count} unreadable records skipped", file=sys.stderr)
    return data


def make_model(workspace: Workspace, data: Input) -> CTRModel:
    """The experiment's model with fresh weights."""
    from ctr_tf.models.model import CTRModel

    found = data.preprocessor
    return CTRModel(workspace.experiment.log, workspace.experiment.model, found.rows, found.vectors)


def pretrain(workspace: Workspace, progress: bool = True) -> Path:
    """Pre-trains the model's encoder, or takes up a pre-training that was cut short.

    Returns:
        Its folder, which every experiment with this pre-training shares.

    Raises:
        Interrupted: by SIGTERM; the next call resumes.
    """
    folder, config = workspace.pretrained, workspace.experiment.pretrain

    def work() -> dict[str, Any]:
        check_prepared(workspace, "histories")
        check_prepared(workspace, "next")
        start_tensorflow()
        from ctr_tf.training.checkpoints import CHECKPOINTS
        from ctr_tf.training.pretrain import pretrain as run
        from ctr_tf.training.strategy import make_strategy

        if _read_stage(folder, "pretrain") is not None:
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
            (folder / _record("pretrain")).unlink(missing_ok=True)
        strategy = make_strategy(config.train.strategy)
        data = open_data(workspace, "histories")
        folder.mkdir(parents=True, exist_ok=True)
        workspace.experiment.save(folder / "config.yaml")
        with data.naming_corruption("histories", "next"):
            result = run(
                data, workspace.experiment.model, config, folder, progress, strategy=strategy
            )
        if result.interrupted:
            raise Interrupted("pre-training was interrupted; run it again to resume")
        return {**asdict(result), "outputs": _best_files(folder, strategy)}

    # Several workers make it together.
    together = config.train.strategy == "multi_worker"
    with nullcontext() if together else _alone(folder):
        _stage(folder, "pretrain", workspace.pretrain_fingerprint, work)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process makes the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: another process makes it; waiting", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_pretrained(workspace: Workspace) -> None:
    """Checks that pre-training has ended where there is to be one, without TensorFlow.

    Raises:
        StageError: it has not.
    """
    if workspace.experiment.pretrain and _read_stage(workspace.pretrained, "pretrain") is None:
        raise StageError(f"{workspace.pretrained}: not pre-trained; run `ctr-tf pretrain` first")


def initial_model(workspace: Workspace, data: Input) -> CTRModel:
    """The model as training begins with it: fresh, but for what was pre-trained."""
    model = make_model(workspace, data)
    experiment = workspace.experiment
    if experiment.pretrain:
        from ctr_tf.training.checkpoints import restore
        from ctr_tf.training.pretrain import pretraining_model, take_over

        rows = data.preprocessor.rows
        source = pretraining_model(experiment.log, experiment.model, experiment.pretrain, rows)
        restore(source, workspace.pretrained)
        take_over(model, source)
    return model


def train(workspace: Workspace, progress: bool = True) -> None:
    """Trains, or takes up a training that was cut short; nothing to do when it is done.

    An ended run whose best checkpoint is gone is trained anew: the last checkpoint, where there is
    one, does not bring it back.

    Raises:
        Interrupted: by SIGTERM; the next call resumes.
    """

    def work() -> dict[str, Any]:
        check_prepared(workspace, "train")
        if workspace.experiment.ranking_metrics:
            check_prepared(workspace, "validation")
        check_pretrained(workspace)
        start_tensorflow()
        from ctr_tf.training.checkpoints import CHECKPOINTS
        from ctr_tf.training.strategy import make_strategy
        from ctr_tf.training.train import train as run

        if _read_stage(workspace.run, "train") is not None:
            # With all that was made of it. The record goes last: until then this is done again.
            shutil.rmtree(workspace.run / CHECKPOINTS, ignore_errors=True)
            records = [_record(stage) for stage in ("evaluate", "export", "train")]
            for name in ("report.json", "report.html", *records):
                (workspace.run / name).unlink(missing_ok=True)
        # A multi-worker strategy has to be made before TensorFlow's first operation.
        strategy = make_strategy(workspace.experiment.train.strategy)
        data = open_data(workspace)
        workspace.run.mkdir(parents=True, exist_ok=True)
        workspace.experiment.save(workspace.run / "config.yaml")
        measured = {}
        if metrics := workspace.experiment.ranking_metrics:
            from ctr_tf.training.retrieval import RetrievalValidator

            cutoff = workspace.experiment.model.heads.cutoff
            measured["validator"] = lambda model: RetrievalValidator(model, data, cutoff)
            measured["metrics"] = metrics
        with data.naming_corruption("train", "validation"):
            result = run(
                lambda: initial_model(workspace, data),
                data,
                workspace.experiment.train,
                workspace.run,
                progress,
                strategy=strategy,
                **measured,
            )
        if result.interrupted:
            raise Interrupted("training was interrupted; run it again to resume")
        return {**asdict(result), "outputs": _best_files(workspace.run, strategy)}

    _stage(workspace.run, "train", workspace.run_fingerprint, work)


def _best_files(folder: Path, strategy: tf.distribute.Strategy) -> list[str]:
    """The best checkpoint's files, from the folder on."""
    from ctr_tf.training.checkpoints import CHECKPOINTS
    from ctr_tf.training.strategy import is_chief

    best = folder / CHECKPOINTS / "best"
    # Another worker cannot tell whether the chief has written all of it.
    files = best.iterdir() if is_chief(strategy) else [best / "checkpoint"]
    return sorted(str(path.relative_to(folder)) for path in files)


def trained_model(workspace: Workspace, data: Input) -> CTRModel:
    """The model with the weights of its best checkpoint.

    Raises:
        StageError: training has not ended.
    """
    check_trained(workspace)
    from ctr_tf.training.checkpoints import restore

    model = make_model(workspace, data)
    restore(model, workspace.run)
    return model


def predict(workspace: Workspace, split: str, folder: Path, progress: bool = True) -> Path:
    """Writes the scores of a split to Parquet shards.

    Raises:
        ValueError: the folder holds something else than such shards.
        StageError: the data is not prepared, or the model not trained.
    """
    from ctr_tf.evaluation.predictions import check_replaceable

    check_replaceable(folder)
    check_prepared(workspace, split)
    check_trained(workspace)
    start_tensorflow()
    from ctr_tf.evaluation.predict import predict as run

    data = open_data(workspace)
    with data.naming_corruption(split):
        return run(trained_model(workspace, data), data, split, folder, progress)


def evaluate(workspace: Workspace, progress: bool = True) -> dict[str, Any]:
    """Scores the test split and writes `report.json` and `report.html`; returns the report."""
    from ctr_tf.evaluation.curves import read_curves
    from ctr_tf.evaluation.evaluate import evaluate as run
    from ctr_tf.evaluation.page import write_report
    from ctr_tf.evaluation.predictions import Predictions

    def work() -> dict[str, Any]:
        folder = predict(workspace, "test", workspace.run / "predictions" / "test", progress)
        report = run(Predictions.read(folder), workspace.experiment.evaluate)
        folders = {"Training": workspace.run}
        if workspace.experiment.pretrain:
            folders = {"Pre-training": workspace.pretrained, **folders}
        curves = {name: read_curves(own / "history.jsonl") for name, own in folders.items()}
        write_report(workspace.run, report, curves, title=workspace.experiment.name)
        return {"outputs": ["report.json", "report.html"]}

    own = workspace.experiment.dump()["evaluate"]
    _stage(workspace.run, "evaluate", fingerprint([workspace.run_fingerprint, own]), work)
    return json.loads((workspace.run / "report.json").read_text(encoding="utf-8"))


def export(workspace: Workspace) -> Path:
    """Exports the model as the next version, unless the newest is of this model and its report."""

    def work() -> dict[str, Any]:
        config = workspace.experiment.export
        check_prepared(workspace, "test")
        if not config.as_trained:
            check_prepared(workspace, "validation")
        check_trained(workspace)
        start_tensorflow()
        from ctr_tf.export.export import export as run

        data = open_data(workspace)
        measured = {}
        if not config.as_trained:
            count = math.ceil(config.measure_requests / data.requests_per_batch("validation"))
            measured["labelled"] = data.evaluation("validation").take(count)
        files = ("config.yaml", "report.json", "report.html")
        extra = {name: workspace.run / name for name in files if (workspace.run / name).exists()}
        count = max(config.check_requests, config.warmup_requests)
        path = run(
            trained_model(workspace, data),
            data.preprocessor,
            workspace.exported,
            config,
            data.raw_requests("test", count),
            extra,
            **measured,
        )
        return {"version": path.name, "outputs": [str(path.relative_to(workspace.run))]}

    own = workspace.experiment.dump()["export"]
    path = workspace.run / "report.json"
    report = path.read_text(encoding="utf-8") if path.exists() else None
    inputs = fingerprint([workspace.run_fingerprint, own, report])
    done = _stage(workspace.run, "export", inputs, work)
    return workspace.exported / done["version"]


def run(workspace: Workspace, say: Callable[[str], None], progress: bool = True) -> dict[str, Any]:
    """All stages in order; returns the report.

    Raises:
        StageError: several workers are to train what is not pre-trained yet.
        ManifestError: the test split, which the last stages read, is empty.
    """
    fetch(workspace)
    prepared = prepare(workspace)
    say(f"data: {prepared}")
    Manifest.read(prepared, check_files=False).split("test")
    if workspace.experiment.pretrain:
        if workspace.experiment.train.strategy == "multi_worker":
            # TensorFlow joins its workers before its first operation, and pre-training has many.
            check_pretrained(workspace)
        say(f"pre-trained: {pretrain(workspace, progress)}")
    train(workspace, progress)
    say(f"run: {workspace.run}")
    report = evaluate(workspace, progress)
    say(f"report: {workspace.run / 'report.html'}")
    say(f"model: {export(workspace)}")
    return report


def _stage(
    folder: Path, name: str, inputs: str, work: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Runs `work` unless it is recorded as done for these inputs, with its outputs there."""
    done = _read_stage(folder, name)
    if done is not None and done["inputs"] == inputs:
        if all((folder / output).exists() for output in done.get("outputs", ())):
            return done
    start = time.time()
    record = {**work(), "inputs": inputs, "stage_seconds": round(time.time() - start, 1)}
    path = folder / _record(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of several workers each writes its own file, and all of them the same record.
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(record, indent=2), encoding="utf-8")
    partial.replace(path)
    return record


def _record(name: str) -> str:
    return f"stages/{name}.json"


def _read_stage(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / _record(name)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
