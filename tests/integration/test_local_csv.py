"""The README's ten-line config takes a folder with one CSV file to a served model."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctr_tf import stages
from ctr_tf.config import load
from ctr_tf.workspace import Workspace

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A run of the README's config on a log in which cheap items are clicked."""
    folder = tmp_path_factory.mktemp("local")
    rng = random.Random(5)
    rows = ["user,time,item,price,click"]
    for second in range(1500):
        item = rng.randint(0, 29)
        click = int(rng.random() < (0.9 if item < 10 else 0.1))
        rows.append(f"u{rng.randint(0, 19)},{second},i{item},{item + rng.random():.2f},{click}")
    rows.insert(700, "u1,699,i3,not a price,1")
    (folder / "clicks.csv").write_text("\n".join(rows) + "\n")
    text = re.search(r"```yaml\n(schema:.*?)```", README.read_text(), re.DOTALL).group(1)
    assert len(text.splitlines()) <= 10
    path = folder / "clicks.yaml"
    path.write_text(text.replace("clicks.csv", str(folder / "clicks.csv")))
    experiment = load(
        path,
        [
            "input.batch_size=128",
            "train.epochs=3",
            "train.learning_rate=0.02",
            "export.check_requests=2",
            "export.warmup_requests=1",
        ],
    )
    found = Workspace(folder / "workspace", experiment)
    said: list[str] = []
    report = stages.run(found, said.append, progress=False)
    return found, report, said


def test_the_planted_rule_is_learned(workspace):
    _, report, _ = workspace
    assert report["tasks"]["click"]["metrics"]["auc"]["value"] > 0.75


def test_the_bad_row_is_counted_and_kept(workspace):
    found, _, _ = workspace
    manifest = json.loads((found.prepared / "manifest.json").read_text())
    assert sum(manifest["rejects"].values()) == 1
    rejects = "".join(p.read_text() for p in (found.prepared / "rejects").glob("*"))
    assert "price" in rejects and '"line": 701' in rejects


def test_everything_stands_where_it_is_said_to(workspace):
    found, _, said = workspace
    assert [line.split(":")[0] for line in said] == ["data", "run", "report", "model"]
    assert all(Path(line.split(": ")[1]).exists() for line in said)
    assert load(found.run / "config.yaml") == found.experiment


def test_stages_that_are_done_are_skipped(workspace):
    found, report, _ = workspace
    before = {path: path.stat().st_mtime_ns for path in found.run.rglob("*") if path.is_file()}
    assert stages.run(found, lambda line: None, progress=False) == report
    after = {path: path.stat().st_mtime_ns for path in found.run.rglob("*") if path.is_file()}
    assert after == before


def test_a_changed_evaluation_evaluates_again_and_trains_no_more(workspace):
    found, _, _ = workspace
    record = (found.run / "stages" / "train.json").read_text()
    changed = found.experiment.model_copy(
        update={"evaluate": found.experiment.evaluate.model_copy(update={"precision_at": [3]})}
    )
    report = stages.evaluate(Workspace(found.root, changed), progress=False)
    assert "precision_at_3" in str(report)
    assert (found.run / "stages" / "train.json").read_text() == record


def test_a_changed_training_is_another_run(workspace):
    found, _, _ = workspace
    changed = found.experiment.model_copy(
        update={"train": found.experiment.train.model_copy(update={"seed": 1})}
    )
    other = Workspace(found.root, changed)
    assert other.prepared == found.prepared and other.run != found.run


def test_a_terminated_command_saves_and_the_next_one_resumes(workspace, tmp_path):
    found, _, _ = workspace
    config = tmp_path / "resume.yaml"
    found.experiment.save(config)
    command = [sys.executable, "-c", "from ctr_tf.cli import main; main()", "train", str(config)]
    command += ["--workspace", str(found.root), "--set", "name=resumed"]
    command += ["--set", f"prepared={found.prepared}", "--set"]
    long = subprocess.Popen([*command, "train.epochs=100000"], cwd=ROOT, stderr=subprocess.PIPE)
    (run,) = _wait_for(lambda: list(found.root.glob("runs/resumed/*/checkpoints/last/*.index")))[:1]
    long.terminate()
    _, said = long.communicate(timeout=60)
    assert long.returncode == 143 and b"run it again to resume" in said
    folder = run.parents[2]
    assert not (folder / "stages" / "train.json").exists()
    before = [json.loads(line)["step"] for line in (folder / "history.jsonl").open()]
    again = subprocess.Popen([*command, "train.epochs=100000"], cwd=ROOT, stderr=subprocess.PIPE)
    _wait_for(lambda: len((folder / "history.jsonl").read_text().splitlines()) > len(before))
    again.kill()
    again.communicate(timeout=60)
    steps = [json.loads(line)["step"] for line in (folder / "history.jsonl").open()]
    assert steps[: len(before)] == before and steps[len(before)] > before[-1]


def _wait_for(condition):
    """What the condition gives once it is true."""
    for _ in range(600):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("waited a minute in vain")
