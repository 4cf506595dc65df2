"""Checkpoints: the last ones and the best one, written whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Sequence

import keras
import tensorflow as tf

from ctr_tf.models.model import CTRModel
from ctr_tf.optimizers.build import Optimizer
from ctr_tf.training.progress import Progress

CHECKPOINTS = "checkpoints"
_STATE = "state/.ATTRIBUTES/py_state"


class CheckpointError(ValueError):
    """A checkpoint is missing, or is of another model or configuration."""


class _State(tf.train.experimental.PythonState):
    """The JSON part of a checkpoint: progress, settings, and what each variable is."""

    def __init__(self):
        self.content: dict[str, Any] = {}

    def serialize(self) -> str:
        return json.dumps(self.content)

    def deserialize(self, string_value: bytes | str) -> None:
        self.content = json.loads(string_value)


class Checkpoints:
    """The checkpoints of one run: `checkpoints/last` and `checkpoints/best`.

    Args:
        folder: of the run.
        model: whose weights are saved and restored.
        optimizer: whose state is saved and restored with the last ones.
        settings: what decides the course of training; a resumed run must have the same.
        keep: last checkpoints kept.
        chief: whether this process's files are kept. The others have to take part in saving
            too, and write to a temporary folder.
    """

    def __init__(
        self,
        folder: Path,
        model: CTRModel,
        optimizer: Optimizer,
        settings: dict[str, Any],
        keep: int = 2,
        chief: bool = True,
    ):
        self.folder = Path(folder) / CHECKPOINTS
        self.model = model
        self.optimizer = optimizer
        self.settings = settings
        self._own = None if chief else tempfile.mkdtemp(prefix="ctr_tf_worker_")
        self._state = _State()
        written = self.folder if chief else Path(self._own)
        self._last = _manager(
            tf.train.Checkpoint(
                model=_values(model.variables),
                optimizer=_values(optimizer.variables),
                state=self._state,
            ),
            written / "last",
            keep,
        )
        self._best = _manager(
            tf.train.Checkpoint(model=_values(model.variables), state=self._state),
            written / "best",
            1,
        )

    def resume(self) -> Progress | None:
        """Restores the last checkpoint; None where there is none yet.

        Raises:
            CheckpointError: it is of other settings or of another model, or its files are gone.
        """
        path = latest(self.folder / "last")
        if path is None:
            return None
        content = _content(path)
        anew = f"to start anew, choose another folder or delete {self.folder}"
        ours, theirs = _flat(self.settings), _flat(content["settings"])
        differing = [
            f"{key}: {theirs.get(key)!r} then, {ours.get(key)!r} now"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key)
        ]
        if differing:
            raise CheckpointError(
                f"{path}: trained with other settings: {'; '.join(differing)}; {anew}"
            )
        for kind, variables in self._variables().items():
            _check_variables(path, content[kind], variables, anew)
        self._last.checkpoint.restore(path).assert_consumed()
        return Progress.from_json(content["progress"])

    def save(self, progress: Progress) -> None:
        """Writes a last checkpoint.

        Raises:
            FloatingPointError: a weight is not finite.
        """
        self._write(self._last, progress)

    def save_best(self, progress: Progress) -> None:
        """Writes the best checkpoint: weights alone.

        Raises:
            FloatingPointError: a weight is not finite.
        """
        self._write(self._best, progress)

    def check_finite(self) -> None:
        """Checks every weight.

        Raises:
            FloatingPointError: one is not finite; names it.
        """
        for variable in self.model.variables:
            if variable.dtype.startswith(("float", "bfloat")):
                if not bool(tf.reduce_all(tf.math.is_finite(variable.value))):
                    raise FloatingPointError(f"weight {variable.path} is not finite")

    @property
    def last(self) -> str | None:
        """Path of the newest of the last checkpoints."""
        return latest(self.folder / "last")

    @property
    def has_best(self) -> bool:
        """Whether a best checkpoint was written."""
        return latest(self.folder / "best") is not None

    def close(self) -> None:
        """Deletes what a process other than the chief wrote."""
        if self._own:
            shutil.rmtree(self._own, ignore_errors=True)

    def _variables(self) -> dict[str, list[keras.Variable]]:
        return {"model": self.model.variables, "optimizer": self.optimizer.variables}

    def _write(self, manager: tf.train.CheckpointManager, progress: Progress) -> None:
        self.check_finite()
        described = {
            kind: [[v.path, list(v.shape), str(v.dtype)] for v in variables]
            for kind, variables in self._variables().items()
        }
        self._state.content = {
            "progress": progress.to_json(),
            "settings": self.settings,
            **described,
        }
        # Numbers rise over resumed runs, so that a file named by the index is never rewritten.
        number = int(manager.latest_checkpoint.rsplit("-")[-1]) if manager.latest_checkpoint else 0
        manager.save(checkpoint_number=number + 1)


def latest(folder: Path) -> str | None:
    """The newest checkpoint of a folder; None where none was written.

    Raises:
        CheckpointError: one was written but its files are gone.
    """
    state = tf.train.get_checkpoint_state(str(folder))
    if state is None:
        return None
    path = state.model_checkpoint_path
    if not Path(f"{path}.index").exists():
        raise CheckpointError(f"{folder}: names checkpoint {path}, whose files are gone")
    return path


def restore(model: CTRModel, folder: Path, which: str = "best") -> int:
    """Loads the weights of a run's checkpoint into a model.

    Args:
        model: of the architecture, schema and vocabularies of the run.
        folder: of the run.
        which: `best` or `last`.

    Returns:
        The step at which they were saved.

    Raises:
        CheckpointError: no such checkpoint, or it is of another model.
    """
    if which not in ("best", "last"):
        raise ValueError(f"which must be best or last, not {which!r}")
    path = latest(Path(folder) / CHECKPOINTS / which)
    if path is None:
        raise CheckpointError(f"{folder}: no {which} checkpoint; train first")
    content = _content(path)
    _check_variables(path, content["model"], model.variables, "build the model as it was trained")
    checkpoint = tf.train.Checkpoint(model=_values(model.variables))
    checkpoint.restore(path).expect_partial().assert_existing_objects_matched()
    return Progress.from_json(content["progress"]).step


def _manager(
    checkpoint: tf.train.Checkpoint, folder: Path, keep: int
) -> tf.train.CheckpointManager:
    manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=keep)
    # A run that was killed while it wrote leaves files that no index names.
    named = {Path(path).name for path in manager.checkpoints}
    for path in folder.iterdir() if folder.exists() else ():
        if path.name != "checkpoint" and path.stem not in named:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return manager


def _values(variables: Sequence[keras.Variable]) -> list[tf.Variable]:
    return [variable.value for variable in variables]


def _content(path: str) -> dict[str, Any]:
    return json.loads(tf.train.load_checkpoint(path).get_tensor(_STATE))


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name, through JSON so that tuples are lists.

    Example:
        >>> _flat({"train": {"seed": 1}, "a": (2,)})
        {'train.seed': 1, 'a': [2]}
    """
    flat: dict[str, Any] = {}
    for key, value in json.loads(json.dumps(settings)).items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _check_variables(
    path: str, saved: list[list], variables: Sequence[keras.Variable], advice: str
) -> None:
    if len(saved) != len(variables):
        raise CheckpointError(
            f"{path}: holds {len(saved)} variables, the model has {len(variables)}; {advice}"
        )
    for (name, shape, dtype), variable in zip(saved, variables):
        if shape != list(variable.shape) or dtype != str(variable.dtype):
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(shape)} and dtype {dtype}, the model's "
                f"{variable.path} {tuple(variable.shape)} and {variable.dtype}; {advice}"
            )
