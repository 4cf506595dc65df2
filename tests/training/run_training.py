"""What the tests of several workers and of killed runs start, each in a process of its own."""

import json
import os
import signal
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ctr_tf.training.config import TrainConfig
from ctr_tf.training.strategy import make_strategy
from ctr_tf.training.train import train
from tests.training import memory_input


class SignalAt(keras.callbacks.Callback):
    """Sends this process a signal after a number of batches."""

    def __init__(self, name, step):
        super().__init__()
        self.number = getattr(signal, name)
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


def main(folder: str, options: dict) -> None:
    """Trains; writes `weights_<index>.npz` and `result_<index>.json`.

    Args:
        folder: of the run.
        options: `config` (TrainConfig), `data` (MemoryInput), `model` (din or dcn), `arguments` of
            the model, `replicas` (logical devices of a mirrored strategy) and `signal` ([name,
            step] to send to itself).
    """
    config = TrainConfig(**options["config"])
    replicas = options.get("replicas")
    if replicas:
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * replicas
        tf.config.set_logical_device_configuration(cpu, logical)
        strategy = tf.distribute.MirroredStrategy([f"cpu:{i}" for i in range(replicas)])
    else:
        strategy = make_strategy(config.strategy)
    data = memory_input.MemoryInput(**options.get("data", {}))
    model = None

    def factory():
        nonlocal model
        model = getattr(memory_input, options["model"])(**options.get("arguments", {}))
        return model

    callbacks = [SignalAt(*options["signal"])] if "signal" in options else []
    result = train(factory, data, config, folder, False, callbacks, strategy)
    index = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {}).get("index", 0)
    weights = {f"{i:03d}": v.numpy() for i, v in enumerate(model.variables)}
    np.savez(Path(folder) / f"weights_{index}.npz", **weights)
    (Path(folder) / f"result_{index}.json").write_text(json.dumps(asdict(result)))
