"""Runs that are cut short, in processes of their own, against one that is not."""

import numpy as np
import pytest

from ctr_tf.training.checkpoints import CheckpointError
from ctr_tf.training.config import TrainConfig
from ctr_tf.training.train import train
from tests.training.memory_input import MemoryInput, dcn
from tests.training.processes import finish, history, result, start, weights

OPTIONS = {
    "config": {
        "epochs": 2,
        "learning_rate": 0.05,
        "dense": {"warmup_steps": 4, "decay": "polynomial"},
        "deterministic": True,
        "checkpoint_every": 4,
        "validate_every": 5,
        "log_every": 3,
    },
    "model": "din",
    "arguments": {"dropout": 0.3},
}


def without_speed(records):
    return [{k: v for k, v in r.items() if k != "examples_per_second"} for r in records]


def test_a_run_cut_short_by_sigterm_and_kill_ends_as_an_unbroken_one(tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    whole = start(unbroken, OPTIONS)
    # Step 3 of 6 in the first epoch; then, resumed, step 3 + 7 = 10, two after a checkpoint.
    finish(start(broken, {**OPTIONS, "signal": ["SIGTERM", 3]}), whole)
    assert result(broken)["interrupted"] and result(broken)["steps"] == 3
    finish(start(broken, {**OPTIONS, "signal": ["SIGKILL", 7]}), code=-9)
    assert history(broken)[-1]["step"] > 8
    finish(start(broken, OPTIONS))
    for a, b in zip(weights(broken), weights(unbroken), strict=True):
        np.testing.assert_array_equal(a, b)
    assert without_speed(history(broken)) == without_speed(history(unbroken))
    ignored = {"seconds", "examples_per_second"}
    broken_result, whole_result = result(broken), result(unbroken)
    for name in whole_result.keys() - ignored:
        assert broken_result[name] == whole_result[name], name
    assert whole_result["steps"] == 12 and not whole_result["interrupted"]


def test_resuming_with_another_config_or_model_is_an_error(tmp_path):
    data, config = MemoryInput(requests=16), TrainConfig(learning_rate=0.1)
    train(dcn, data, config, tmp_path, progress=False)
    with pytest.raises(CheckpointError) as error:
        other = TrainConfig(learning_rate=0.2, seed=18, epochs=2)
        train(dcn, data, other, tmp_path, progress=False)
    message = str(error.value)
    assert "train.dense.learning_rate: 0.1 then, 0.2 now" in message
    assert "train.seed: 17 then, 18 now" in message and "epochs" not in message
    assert "to start anew" in message
    with pytest.raises(CheckpointError, match="best_metric: 'click_auc' then, 'loss' now"):
        other = TrainConfig(learning_rate=0.1, early_stopping={"metric": "loss"})
        train(dcn, data, other, tmp_path, progress=False)
    with pytest.raises(CheckpointError, match=r"model\.embedding\.width: 4 then, 6 now"):
        train(lambda: dcn(width=6), data, config, tmp_path, progress=False)
    with pytest.raises(CheckpointError, match=r"shape \(40, 4\).*\(44, 4\)"):
        train(lambda: dcn(rows=44), data, config, tmp_path, progress=False)


def test_more_epochs_go_on_and_a_finished_run_stays_as_it_is(tmp_path):
    data = MemoryInput(requests=16)
    train(dcn, data, TrainConfig(epochs=1), tmp_path, progress=False)
    again = train(dcn, data, TrainConfig(epochs=1), tmp_path, progress=False)
    assert again.steps == 2 and again.epochs == 1 and again.validation["loss"] > 0
    more = train(dcn, data, TrainConfig(epochs=3), tmp_path, progress=False)
    assert more.steps == 6
    whole = train(dcn, data, TrainConfig(epochs=3), tmp_path / "whole", progress=False)
    assert more.validation == pytest.approx(whole.validation, abs=1e-6)


def test_checkpoints_whose_files_are_gone_are_an_error(tmp_path):
    data = MemoryInput(requests=16, validation=0)
    train(dcn, data, TrainConfig(), tmp_path, progress=False)
    for path in (tmp_path / "checkpoints/last").glob("ckpt-*"):
        path.unlink()
    with pytest.raises(CheckpointError, match="whose files are gone"):
        train(dcn, data, TrainConfig(), tmp_path, progress=False)


def test_what_a_killed_save_leaves_is_removed(tmp_path):
    data = MemoryInput(requests=16, validation=0)
    train(dcn, data, TrainConfig(), tmp_path, progress=False)
    last = tmp_path / "checkpoints/last"
    (last / "ckpt-9.data-00000-of-00001").write_bytes(b"half")
    (last / "ckpt-9_temp").mkdir()
    assert train(dcn, data, TrainConfig(epochs=2), tmp_path, progress=False).steps == 4
    assert not list(last.glob("ckpt-9*"))
