"""The command line answers help and errors without TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ctr_tf import cli
from ctr_tf.config import load
from ctr_tf.data.manifest import SPLITS, Manifest, SplitManifest
from ctr_tf.workspace import Workspace

CONFIG = str(Path(__file__).parents[1] / "configs" / "movielens" / "din.yaml")
RUN = """
import sys
from ctr_tf.cli import main
try:
    main()
finally:
    heavy = {"tensorflow", "keras", "apache_beam", "matplotlib"} & set(sys.modules)
    print("imported:", sorted(heavy))
"""


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "Trains, evaluates, exports and serves"),
        (["train", "--help"], 0, "takes up a run that was cut short"),
        (["models"], 0, "arXiv:1706.06978"),
        (["datasets", "list"], 0, "movielens_1m"),
        (["trian"], 2, "No such command 'trian'"),
        (["train"], 2, "Missing argument"),
        (["train", "absent.yaml"], 2, "absent.yaml: no such file"),
        (["train", CONFIG, "--set", "train.epoch=2"], 2, "did you mean 'epochs'?"),
        (["serve", CONFIG, "--port", "99999"], 2, "Invalid value for '--port'"),
        (["serve", CONFIG, "--max-candidates", "0"], 2, "Invalid value for '--max-candidates'"),
        (["score", CONFIG, "--candidates", "0"], 2, "Invalid value for '--candidates'"),
        (["score", CONFIG, "--candidates", "-1"], 2, "Invalid value for '--candidates'"),
        (["score", CONFIG, "--top", "0"], 2, "Invalid value for '--top'"),
        (["score", CONFIG, "--top", "-2"], 2, "Invalid value for '--top'"),
        (["models", "--help"], 0, "needs no data"),
        (["models", "--flops", "absent.yaml"], 2, "absent.yaml: no such file"),
        (["models", "--flops", CONFIG, "--set", "model.unit=[3]"], 2, "did you mean 'units'?"),
        (["models", "--flops", CONFIG, "--candidates", "0"], 2, "Invalid value for '--candidates'"),
        (["models", "--flops", CONFIG, "--length", "0"], 2, "Invalid value for '--length'"),
        (["models", "--users", "3"], 2, "--users: is of --flops CONFIG"),
        (["models", "--set", "model.name=fm"], 2, "--set: is of --flops CONFIG"),
        (["datasets", "fetch", "movielens_1m", "--source", "/nope"], 2, "'/nope' does not exist"),
        (["datasets", "fetch", "movielens"], 2, "nearest is 'movielens_"),
    ],
)
def test_help_and_errors_import_nothing_heavy(arguments, code, said, tmp_path):
    done = run(*arguments)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert "imported: []" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.fixture
def local(tmp_path):
    """The arguments of an experiment on a log of one row."""
    log = tmp_path / "log.csv"
    log.write_text("item_id,click\na,1\n")
    config = tmp_path / "local.yaml"
    config.write_text(
        "schema: {features: {item_id: {kind: categorical}}, tasks: {click: {column: click}}}\n"
        f"prepare: {{impressions: {{path: {log}}}}}\nmodel: {{name: dcn_v2}}\n"
    )
    return [str(config), "--workspace", str(tmp_path / "workspace")]


def test_each_stage_names_the_one_before_it(local, tmp_path):
    done = run("serve", *local)
    assert done.returncode == 2 and "run `ctr-tf export` first" in done.stderr
    (tmp_path / "log.csv").unlink()
    done = run("prepare", *local)
    assert done.returncode == 2 and f"{tmp_path / 'log.csv'}: no such file" in done.stderr


def test_what_is_missing_is_told_before_tensorflow_is_imported(local, tmp_path):
    output = ["--output", str(tmp_path / "scores")]

    def refused(said: str, *arguments: str) -> None:
        done = run(*arguments)
        assert done.returncode == 2 and said in done.stderr, done.stderr
        assert "imported: []" in done.stdout

    refused("Invalid value for '--split'", "predict", *local, *output, "--split", "tset")
    for command in ("train", "evaluate", "export"):
        refused("not prepared; run `ctr-tf prepare` first", command, *local)
    refused("not prepared; run `ctr-tf prepare` first", "predict", *local, *output)
    schema = load(local[0]).log
    splits = dict.fromkeys(SPLITS, SplitManifest(requests=1, candidates=1))
    splits["validation"] = SplitManifest()
    prepared = Workspace(Path(local[2]), load(local[0])).prepared
    prepared.mkdir(parents=True)
    Manifest(schema_fingerprint=schema.fingerprint, splits=splits).write(prepared)
    for command in ("evaluate", "export"):
        refused("not trained; run `ctr-tf train` first", command, *local)
    refused("not trained; run `ctr-tf train` first", "predict", *local, *output)
    refused("split 'validation' is empty", "predict", *local, *output, "--split", "validation")


def test_serve_hands_its_limits_to_the_server(local, monkeypatch):
    called = []
    monkeypatch.setattr(cli, "_module", lambda *arguments: called.append(arguments))
    exported = Workspace(Path(local[2]), load(local[0])).exported
    exported.mkdir(parents=True)
    limits = ["--max-request-mb", "2", "--max-candidates", "50", "--max-seconds", "0.5"]
    limits += ["--max-waiting", "3", "--workers", "1", "--batch-candidates", "200"]
    limits += ["--metrics-port", "0", "--log-format", "json"]
    limits += ["--request-log", "calls", "--request-log-share", "0.5"]
    for given in ([], limits):
        cli.app(["serve", *local, *given], standalone_mode=False)
    start = ["--model", "local", "--folder", str(exported), "--port", "8500"]
    assert called == [("serving.server", start), ("serving.server", start + limits)]


def test_predict_refuses_a_folder_of_other_files(local, tmp_path):
    kept = tmp_path / "home" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    (kept.parent / "predictions-00000-of-00001.parquet").write_text("")
    for output, said in (
        (kept.parent, f"{kept.parent}: holds 'notes.txt', which is no prediction shard"),
        (kept, f"{kept}: the output must be a folder"),
    ):
        done = run("predict", *local, "--output", str(output))
        assert done.returncode == 2 and said in done.stderr
        assert "imported: []" in done.stdout
    assert kept.read_text() == "mine" and len(list(kept.parent.iterdir())) == 2
