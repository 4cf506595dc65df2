import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ctr_tf.training.config import TrainConfig
from ctr_tf.training.train import train
from tests.training.memory_input import MemoryInput, din

ROOT = Path(__file__).parents[2]
# Two batches of four in three steps; the last batch of an epoch leaves one worker without any.
DATA = {"requests": 25, "batch_size": 8}
CONFIG = {
    "epochs": 1,
    "learning_rate": 0.5,
    "dense": {"name": "sgd", "clip_norm": 0.5},
    "log_every": 1,
    "steps_per_call": 2,
}


def start(folder, options, **environment):
    variables = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
        **environment,
    }
    command = [sys.executable, "-m", "tests.training.run_training", str(folder), json.dumps(options)]
    return subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(*processes, code=0):
    try:
        for process in processes:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == code, output[-4000:]
    finally:
        for process in processes:
            process.kill()


def losses(folder):
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [(record["split"], record["step"], record["loss"]) for record in records]


def weights(folder, index=0):
    with np.load(folder / f"weights_{index}.npz") as found:
        return [found[name] for name in sorted(found.files)]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


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
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    options = {"config": {**CONFIG, "strategy": "multi_worker"}, "model": "din", "data": DATA}
    finish(
        *(
            start(
                tmp_path,
                options,
                TF_CONFIG=json.dumps(
                    {"cluster": cluster, "task": {"type": "worker", "index": index}}
                ),
            )
            for index in range(2)
        )
    )
    for a, b in zip(weights(tmp_path, 0), weights(tmp_path, 1), strict=True):
        np.testing.assert_array_equal(a, b)
    check_equal(tmp_path, 1, one_device)
    # The worker that is not the chief leaves no file behind.
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoints", "history.jsonl", "result_0.json", "result_1.json", "weights_0.npz",
        "weights_1.npz",
    ]  # fmt: skip


def test_two_mirrored_replicas_equal_one_device(tmp_path, one_device):
    options = {"config": CONFIG, "model": "din", "data": DATA, "replicas": 2}
    finish(start(tmp_path, options))
    check_equal(tmp_path, 0, one_device)
