"""Trains one experiment by the stages of the command line and scores the test rows."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from ctr_tf import stages
from ctr_tf.config import load
from ctr_tf.evaluation.predictions import Predictions
from ctr_tf.workspace import Workspace


def main(spec: dict) -> None:
    """Trains and scores as `spec` says; see `compare.py`."""
    workspace = Workspace(Path(spec["workspace"]), load(spec["config"], spec["overrides"]))
    stages.train(workspace, progress=False)
    data = stages.open_data(workspace)
    # TensorFlow is there from here on.
    import keras
    import tensorflow as tf

    from ctr_tf.evaluation.predict import predict

    model = stages.trained_model(workspace, data)
    with tempfile.TemporaryDirectory() as folder:
        found = Predictions.read(predict(model, data, "test", Path(folder) / "test", False))
    task = found.task(found.tasks[0])
    output = Path(spec["output"])
    partial = output.with_name(f".{output.name}")
    counted = task.weights > 0
    np.savez(
        partial,
        **{
            "test/score": task.scores[counted],
            "test/label": task.labels[counted],
            "test/user": found.users[counted],
        },
        parameters=sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        versions=json.dumps({"tensorflow": tf.__version__, "keras": keras.__version__}),
    )
    os.replace(partial, output)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
