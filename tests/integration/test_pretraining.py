"""Pre-training from a raw log to a served model: shared, resumed, taken over, frozen."""

import fcntl
import json
import multiprocessing
import os
import signal
import threading

import numpy as np
import pytest

from ctr_tf import stages
from ctr_tf.config import load
from ctr_tf.training.checkpoints import restore
from ctr_tf.training.history import History
from ctr_tf.training.pretrain import pretrain, pretraining_model
from ctr_tf.workspace import StageError, Workspace
from tests.training.processes import worker_tasks

ITEMS, USERS, ROWS = 12, 60, 20
CHANCE = sum(1 / rank for rank in range(1, ITEMS + 1)) / ITEMS
CONFIG = """\
schema:
  keys: {user: user, time: time, item: item}
  features:
    user: {kind: categorical, side: user}
    item: {kind: categorical}
    colour: {kind: categorical}
  sequences:
    history:
      max_length: 8
      attributes:
        item: {}
        colour: {}
        stars: {encoder: {dtype: int, encoding: identity, size: 6}}
  tasks: {like: {column: stars, above: 3}}
prepare:
  impressions: {path: LOG}
  split: {by: last, interactions: 3}
  histories: true
  shards: 1
pretrain:
  batch_size: 16
  objective: {name: fg_bert, last_share: 0.5}
  train: {epochs: 40, learning_rate: 0.01, validate_every: 45}
model:
  name: srp4ctr
  freeze: true
  own_tables: true
  encoder: {width: 16, feed_forward: 32, positions: 9, dropout: 0.0}
  units: [8]
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Users who meet one item after the other, in turn; stars follow from it."""
    folder = tmp_path_factory.mktemp("pretraining")
    lines = ["user,time,item,colour,stars"]
    for user in range(USERS):
        for step in range(ROWS):
            item = (5 * user + step) % ITEMS
            lines.append(f"u{user},{1000 + step},i{item},c{item % 3},{1 + item % 5}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    config = folder / "srp.yaml"
    config.write_text(CONFIG.replace("LOG", str(folder / "log.csv")))
    return lambda *overrides: Workspace(folder / "workspace", load(config, overrides))


def history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(workspace):
    said = []
    found = workspace()
    with pytest.raises(StageError, match="not prepared"):
        stages.pretrain(found, progress=False)
    stages.prepare(found)
    with pytest.raises(StageError, match="not pre-trained; run `ctr-tf pretrain` first"):
        stages.train(found, progress=False)
    stages.run(found, said.append, progress=False)
    assert f"pre-trained: {found.pretrained}" in said
    return found


def test_the_next_item_is_learned(run):
    """Each is the one after the last: all come first, where chance gives an MRR of 0.26."""
    validations = [r for r in history(run.pretrained) if r["split"] == "validation"]
    assert len(validations) == 8
    assert validations[-1]["mrr"] > 0.95 and validations[-1]["ndcg"] > 0.95
    assert validations[0]["mrr"] < 0.7
    records = [r for r in history(run.pretrained) if r["split"] == "train"]
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    # Each task has its own; none is weighted.
    for record in records:
        own = [record[f"{task}_loss"] for task in ("item", "colour", "stars")]
        assert sum(own) == pytest.approx(record["loss"], rel=1e-5)


def assert_taken_over(model, found, data, tables):
    """Encoder, norm and those tables of a model are what was pre-trained."""
    experiment, rows = found.experiment, data.preprocessor.rows
    source = pretraining_model(experiment.log, experiment.model, experiment.pretrain, rows)
    restore(source, found.pretrained)
    weights = [part.encoder.weights for part in (model.body, source)]
    for own, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(own, other)
    for name in tables:
        own, other = (m.embedder.tables.table(name) for m in (model, source))
        np.testing.assert_array_equal(own, other)


def test_what_was_pre_trained_is_in_the_trained_model_unchanged(run):
    data = stages.open_data(run)
    trained = stages.trained_model(run, data)
    assert_taken_over(trained, run, data, ("item", "colour", "history_stars"))


OTHERS = {
    "electra": ("{name: electra, last_share: 0.5, discriminator_weight: 1.0}", 30, 0.55),
    "s3_rec": ("{name: s3_rec, last_share: 0.5}", 6, 0.45),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_objectives_learn_the_next_item_of_ids_alone(run, workspace, name):
    """A ranking in random order has a mean reciprocal rank of 0.26."""
    objective, epochs, least = OTHERS[name]
    found = workspace(
        f"pretrain.objective={objective}",
        f"pretrain.train.epochs={epochs}",
        "pretrain.train.learning_rate=0.005",
        "model.attributes=[item]",
        "model.encoder.input_norm=true",
    )
    stages.pretrain(found, progress=False)
    assert found.prepared == run.prepared and found.pretrained.name.startswith(name)
    ranks = [r["mrr"] for r in history(found.pretrained) if r["split"] == "validation"]
    assert round(CHANCE, 2) == 0.26 and max(ranks) > least
    data = stages.open_data(found)
    model = stages.initial_model(found, data)
    assert_taken_over(model, found, data, ["item"])
    # Frozen is what the encoder reads alone; what is the candidate's own is not.
    assert {n for n, s in model.embedder.tables.specs.items() if not s.trainable} == {"item"}


@pytest.mark.parametrize("name", OTHERS)
def test_draws_go_on_where_a_run_was_cut_short(run, workspace, name, tmp_path):
    """With other samples, negatives or segments the losses would be others."""
    found = workspace(f"pretrain.objective={OTHERS[name][0]}", "model.attributes=[item]")
    data, experiment = stages.open_data(found, "histories"), found.experiment

    def losses(folder, *stops):
        for stop in stops:
            own = experiment.pretrain.train.model_copy(update={"max_steps": stop, "log_every": 1})
            config = experiment.pretrain.model_copy(update={"train": own})
            pretrain(data, experiment.model, config, folder, progress=False)
        return [r["loss"] for r in history(folder) if r["split"] == "train"]

    whole, parts = losses(tmp_path / "whole", 4), losses(tmp_path / "parts", 2, 4)
    assert len(whole) == 4 and parts == pytest.approx(whole, rel=1e-6)


def go_on(found, folder, dies_at=None):
    """Pre-trains; the process is killed as it records that step."""
    if dies_at:
        write = History.write

        def write_or_die(self, record):
            write(self, record)
            if record["step"] == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

        History.write = write_or_die
    data = stages.open_data(found, "histories")
    pretrain(data, found.experiment.model, found.experiment.pretrain, folder, progress=False)


def test_a_run_that_is_killed_ends_as_an_unbroken_one(run, workspace, tmp_path):
    settings = "{epochs: 4, log_every: 1, checkpoint_every: 5, deterministic: true}"
    found = workspace(
        "pretrain.objective={name: electra, sample_above: 5, samples: 4}",
        "model.attributes=[item]",
        f"pretrain.train={settings}",
    )
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    processes = multiprocessing.get_context("forkserver")
    # Two steps after a checkpoint.
    dying = processes.Process(target=go_on, args=(found, broken, 7))
    dying.start()
    go_on(found, whole)
    dying.join(120)
    assert dying.exitcode == -signal.SIGKILL and history(broken)[-1]["step"] == 7
    go_on(found, broken)
    losses = [
        {r["step"]: r["loss"] for r in history(folder) if r["split"] == "train"}
        for folder in (broken, whole)
    ]
    assert losses[0] == losses[1] and len(losses[0]) > 10
    ends = [history(folder)[-1] for folder in (broken, whole)]
    assert ends[0] == ends[1] and "mrr" in ends[0]


def test_experiments_share_a_pre_training(run, workspace):
    others = [
        workspace("model.uni_attention=none", "model.patch=3", "model.queries=0"),
        workspace("train.seed=3", "model.freeze=false", "input.batch_size=64", "input.prefetch=2"),
    ]
    before = (run.pretrained / "stages" / "pretrain.json").stat().st_mtime_ns
    for other in others:
        assert other.pretrained == run.pretrained and other.run != run.run
        stages.pretrain(other, progress=False)
    assert (run.pretrained / "stages" / "pretrain.json").stat().st_mtime_ns == before
    for override in (
        "pretrain.train.seed=3",
        "model.attributes=[item]",
        "model.encoder.input_norm=true",
        "input.window=1",
        "input.shuffle_buffer=0",
    ):
        assert workspace(override).pretrained != run.pretrained
    data = stages.open_data(others[1])
    model = stages.initial_model(others[1], data)
    assert (
        model.body.encoder.trainable and not stages.initial_model(run, data).body.encoder.trainable
    )


def test_the_trained_model_is_exported(run):
    assert list(run.exported.glob("*/saved_model.pb"))
    page = (run.run / "report.html").read_text()
    assert "<h2>Pre-training</h2>" in page and "<h2>Training</h2>" in page


def test_two_processes_pre_train_one_after_the_other(run, capfd):
    """The second one waits for the first, and finds it done."""
    lock = run.pretrained.with_name(f".{run.pretrained.name}.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    waiting = threading.Thread(target=stages.pretrain, args=(run, False))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    lock.close()
    waiting.join(30)
    assert not waiting.is_alive()
    assert f"{run.pretrained}: another process makes it; waiting" in capfd.readouterr().err


def pretrain_as(task, found):
    os.environ["TF_CONFIG"] = task
    stages.pretrain(found, progress=False)


def test_workers_pre_train_together(run, workspace):
    """None waits for another one to end, which would wait for it to join."""
    found = workspace("pretrain.train={epochs: 1, strategy: multi_worker}")
    processes = multiprocessing.get_context("forkserver")
    workers = [processes.Process(target=pretrain_as, args=(t, found)) for t in worker_tasks(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        worker.kill()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert [r["epoch"] for r in history(found.pretrained) if r["split"] == "validation"] == [1]
    stages.check_pretrained(found)


def test_workers_do_not_train_what_is_not_pre_trained(run, workspace):
    found = workspace("train.strategy=multi_worker", "pretrain.train.seed=9")
    with pytest.raises(StageError, match="not pre-trained; run `ctr-tf pretrain` first"):
        stages.run(found, lambda said: None, progress=False)
