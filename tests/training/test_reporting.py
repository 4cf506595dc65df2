"""The history, TensorBoard summaries and the progress bar."""

import io
import json
import signal

import keras
import tensorflow as tf
from rich.console import Console

from ctr_tf.training.config import TrainConfig
from ctr_tf.training.history import History
from ctr_tf.training.interruption import Interruption
from ctr_tf.training.progress_bar import ProgressBar
from ctr_tf.training.train import train
from tests.training.memory_input import MemoryInput, dcn
from tests.training.processes import history


def test_resuming_drops_later_records_and_a_line_cut_short(tmp_path):
    written = History(tmp_path, 0)
    for step in (1, 2, 3):
        written.write({"step": step, "epoch": 0, "split": "train", "loss": 0.5})
    written.close()
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 2, "spl')
    History(tmp_path, 2).close()
    assert [record["step"] for record in history(tmp_path)] == [1, 2]
    History(tmp_path, 0).close()
    assert history(tmp_path) == []


def scalars(folder):
    """(split, step, name) to the value that TensorBoard shows."""
    found = {}
    for path in folder.glob("*/*"):
        for raw in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(raw.numpy())
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    number = float(tf.make_ndarray(value.tensor))
                    found[path.parent.name, event.step, value.tag] = number
    return found


def test_tensorboard_has_the_records_and_what_keras_callback_writes(tmp_path):
    config = TrainConfig(tensorboard=True, log_every=1)
    keras_callback = keras.callbacks.TensorBoard(tmp_path / "keras", update_freq=1)
    train(dcn, MemoryInput(16), config, tmp_path, progress=False, callbacks=[keras_callback])
    found, of_keras = scalars(tmp_path / "tensorboard"), scalars(tmp_path / "keras")
    *trained, validated = history(tmp_path)
    assert [record["step"] for record in trained] == [1, 2] and validated["step"] == 2
    for record in (*trained, validated):
        place = record["split"], record["step"]
        assert abs(found[*place, "loss"] - record["loss"]) < 1e-6
    assert abs(found["validation", 2, "click_auc"] - validated["click_auc"]) < 1e-6
    assert ("train", 1, "learning_rate") in found
    mean = sum(record["loss"] for record in trained) / 2
    assert abs(of_keras["train", 0, "epoch_loss"] - mean) < 1e-6
    for step, record in enumerate(trained, 1):
        assert abs(of_keras["train", step, "batch_loss"] - record["loss"]) < 1e-6
    for metric in ("loss", "click_auc", "click_gauc"):
        assert abs(of_keras["validation", 0, f"epoch_{metric}"] - validated[metric]) < 1e-6


def shown(terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=150)
    bar = ProgressBar(console, seconds=0.0)
    bar.set_params({"epochs": 2, "steps": 4})
    bar.on_train_begin()
    bar.on_epoch_begin(1, {"done": 2})
    bar.on_train_batch_end(2, {"loss": 0.5, "examples_per_second": 1000.0})
    bar.on_train_batch_end(3, {"loss": 0.25})
    bar.on_test_end({"click_auc": 0.75, "click_gauc": 0.7, "loss": 0.6})
    bar.on_train_end()
    return console.file.getvalue()


def test_a_plain_log_has_lines_and_no_control_characters():
    assert shown(terminal=False).splitlines() == [
        "epoch 2/2  step 3/4  loss 0.5000  1,000 examples/s",
        "epoch 2/2  step 4/4  loss 0.2500",
        "epoch 2/2  validation  loss 0.6000  click_auc 0.7500  click_gauc 0.7000",
    ]


def test_a_terminal_has_a_bar():
    text = shown(terminal=True)
    assert "4/4" in text and "━" in text and "loss 0.2500" in text
    assert "validation  loss 0.6000  click_auc 0.7500" in text


def test_the_handler_of_sigterm_is_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with Interruption() as interruption:
        assert signal.getsignal(signal.SIGTERM) != before
        signal.raise_signal(signal.SIGTERM)
        assert interruption.requested
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_undefined_metric_is_told_with_its_reason(tmp_path, capfd):
    train(dcn, MemoryInput(8, users=False), TrainConfig(tensorboard=True), tmp_path)
    last = json.loads((tmp_path / "history.jsonl").read_text().splitlines()[-1])
    assert last["click_gauc"] is None and last["undefined"] == {"click_gauc": "no user id"}
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "validation  loss" in line]
    assert line.endswith("  click_gauc undefined (no user id)")
