"""Whether a SavedModel, reloaded without this package, scores as the model in memory does."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from ctr_tf.export.loading import op_modules
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import CANDIDATES_MASK, Schema

Request = dict[str, np.ndarray]
Scores = dict[str, np.ndarray]

_SCRIPT = Path(__file__).with_name("reload_script.py")


class ExportError(RuntimeError):
    """An export that failed its self-check; nothing was left behind."""


def score_in_process(model: CTRModel, preprocessor: tf.Module, request: Request) -> Scores:
    """Probabilities of the model in memory, (B, N) per task; 0 for masked candidates.

    On the CPU, where the reloaded model runs: a GPU's products may be of lower precision.
    """
    with tf.device("cpu"):
        features = preprocessor({name: tf.constant(value) for name, value in request.items()})
        scores = model.scores(model(features, training=False))
    mask = request[CANDIDATES_MASK]
    return {task: np.where(mask, np.asarray(s, "float32"), 0) for task, s in scores.items()}


def reload_and_score(folder: Path, schema: Schema, requests: list[Request]) -> list[dict]:
    """Scores of each request, by way, from a fresh process that imports TensorFlow alone.

    Args:
        folder: the SavedModel.
        schema: what the requests are made of.
        requests: raw inputs by name.

    Returns:
        For each request: way (`folded`, `towers`, `rows`) to task to (B, N) probabilities.

    Raises:
        ExportError: the process failed; the message ends with its last lines.
    """
    candidates = [spec.name for spec in schema.inputs if spec.side == "candidate"]
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered = Path(scratch, "requests"), Path(scratch, "scores")
        asked.write_bytes(pickle.dumps({"requests": requests, "candidates": candidates}))
        # Isolated (-I), so that neither the working directory nor PYTHONPATH can help it.
        command = [sys.executable, "-I", str(_SCRIPT), str(folder), str(asked), str(answered)]
        done = subprocess.run(
            [*command, *op_modules(schema)],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise ExportError(
                f"self-check: the SavedModel could not be reloaded and scored:\n{last}"
            )
        return pickle.loads(answered.read_bytes())


def compare(expected: list[Scores], found: list[dict], tolerance: float) -> float:
    """The largest difference between scores.

    Args:
        expected: in-process scores of each request.
        found: what `reload_and_score` returned.
        tolerance: the largest difference allowed.

    Raises:
        ExportError: a difference is larger, or a score is not finite.

    Example:
        >>> scores = {"click": np.array([[0.25, 0.5]])}
        >>> compare([scores], [{"folded": scores}], 1e-5)
        0.0
    """
    worst, where = 0.0, ""
    for index, (scores, ways) in enumerate(zip(expected, found, strict=True)):
        for way, others in ways.items():
            for task, score in scores.items():
                difference = np.abs(score - others[task])
                largest = float(np.max(difference, initial=0.0))
                if not np.isfinite(difference).all():
                    raise ExportError(f"self-check: request {index}, task {task!r}: not finite")
                if largest > worst:
                    worst, where = largest, f"request {index}, task {task!r}, {way} scores"
    if worst > tolerance:
        raise ExportError(
            f"self-check: the reloaded model differs from the one in memory by up to {worst:.3g} "
            f"({where}); the tolerance is {tolerance:g}"
        )
    return worst
