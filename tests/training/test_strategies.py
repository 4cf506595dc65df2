import numpy as np
import pytest

from ctr_tf.training.config import TrainConfig
from ctr_tf.training.strategy import make_strategy
from ctr_tf.training.train import train
from tests.training.memory_input import MemoryInput, din, two_tower
from tests.training.processes import finish, history, start, weights, worker_tasks

# The last batch of the epoch holds one request: one of two replicas gets none.
DATA = {"requests": 25, "batch_size": 8}
CONFIG = {
    "epochs": 1,
    "learning_rate": 0.5,
    "dense": {"name": "sgd", "clip_norm": 0.5},
    "log_every": 1,
    "steps_per_call": 2,
}


def losses(folder):
    return [(record["split"], record["step"], record["loss"]) for record in history(folder)]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    models = []
    train(
        lambda: models.append(din()) or models[0],
        MemoryInput(**DATA),
        TrainConfig(**CONFIG),
        folder,
        progress=False,
    )
    return losses(folder), [variable.numpy() for variable in models[0].variables]


def check_equal(folder, index, one_device):
    expected_losses, expected_weights = one_device
    found = losses(folder)
    assert [place[:2] for place in found] == [place[:2] for place in expected_losses]
    assert found[0][:2] == ("train", 1) and found[-1][:2] == ("validation", 4)
    np.testing.assert_allclose(
        [loss for *_, loss in found], [loss for *_, loss in expected_losses], rtol=0, atol=1e-6
    )
    for a, b in zip(weights(folder, index), expected_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)


def test_two_worker_processes_equal_one_device_on_the_same_global_batch(tmp_path, one_device):
    options = {"config": {**CONFIG, "strategy": "multi_worker"}, "model": "din", "data": DATA}
    finish(*(start(tmp_path, options, TF_CONFIG=task) for task in worker_tasks(2)))
    for a, b in zip(weights(tmp_path, 0), weights(tmp_path, 1), strict=True):
        np.testing.assert_array_equal(a, b)
    check_equal(tmp_path, 1, one_device)
    # The worker that is not the chief leaves nothing behind but what the test asks for.
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoints", "history.jsonl",
        "result_0.json", "result_1.json", "weights_0.npz", "weights_1.npz",
    }  # fmt: skip


def test_two_mirrored_replicas_equal_one_device(tmp_path, one_device):
    finish(start(tmp_path, {"config": CONFIG, "model": "din", "data": DATA, "replicas": 2}))
    check_equal(tmp_path, 0, one_device)


def test_in_batch_softmax_on_two_replicas(tmp_path):
    finish(start(tmp_path, {"config": CONFIG, "model": "two_tower", "data": DATA, "replicas": 2}))
    found = dict(zip([v.path for v in two_tower().variables], weights(tmp_path, 0), strict=True))
    assert all(np.isfinite(value).all() for value in found.values())
    # Four batches, of each of which the first replica counts its share.
    assert found["two_tower/frequency/batch"] == 4
    gaps, last = found["two_tower/frequency/gaps"], found["two_tower/frequency/last"]
    assert 0 < gaps.sum() <= 25 * 4 and last.max() in (3, 4)
    assert (found["two_tower/frequency/mean_gap"][gaps > 0] >= 1).all()
    assert [loss for split, _, loss in losses(tmp_path) if split == "train"][0] > 0


def test_unknown_strategy():
    with pytest.raises(ValueError, match="one, mirrored or multi_worker, not 'tpu'"):
        make_strategy("tpu")
