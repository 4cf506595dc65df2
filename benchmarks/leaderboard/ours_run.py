"""Trains one experiment by the stages of the command line and keeps its scores.

python -m benchmarks.leaderboard.ours_run SPEC.json
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.leaderboard.scores import save
from benchmarks.training import machine
from ctr_tf import stages
from ctr_tf.config import load
from ctr_tf.data.manifest import ITEM_FREQUENCY
from ctr_tf.evaluation.predictions import Predictions
from ctr_tf.workspace import Workspace


def main(spec: dict) -> None:
    """Trains and scores as `spec` says; see `runs.py`."""
    workspace = Workspace(Path(spec["workspace"]), load(spec["config"], spec["overrides"]))
    if workspace.experiment.pretrain:
        stages.pretrain(workspace, progress=False)
    stages.train(workspace, progress=False)
    data = stages.open_data(workspace)
    # TensorFlow is there from here on.
    import keras
    import tensorflow as tf

    from ctr_tf.analysis.cost import model_cost
    from ctr_tf.analysis.sizes import Sizes
    from ctr_tf.evaluation.predict import predict

    model = stages.trained_model(workspace, data)
    arrays = {}
    for split in spec["splits"]:
        with tempfile.TemporaryDirectory() as folder:
            found = Predictions.read(predict(model, data, split, Path(folder) / split, False))
        for name in found.tasks:
            task = found.task(name)
            counted = task.weights > 0
            columns = {
                "score": task.scores,
                "label": task.labels,
                "user": found.users,
                "item": found.items,
                "frequency": found.item_frequencies,
            }
            arrays |= {f"{split}/{name}/{key}": own[counted] for key, own in columns.items()}
    if (frequency := data.folder / ITEM_FREQUENCY).exists():
        arrays["trained_items"] = pq.read_table(frequency)["count"].to_numpy()
    trained = json.loads((workspace.run / "stages" / "train.json").read_text(encoding="utf-8"))
    facts = {
        "parameters": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        "samples_per_second": trained["examples_per_second"],
        "steps": trained["steps"],
        "best_step": trained["best_step"],
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        "machine": machine(),
    }
    if spec["candidates"]:
        cost = model_cost(model, Sizes(candidates=spec["candidates"]))
        facts["cost"] = {
            name: getattr(cost, name).total / spec["candidates"] for name in ("folded", "row_wise")
        }
    save(Path(spec["output"]), arrays, facts)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
