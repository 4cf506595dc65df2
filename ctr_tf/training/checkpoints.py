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
from ctr_tf.optimizers.build import Optimizer, grouped
from ctr_tf.training.progress import Progress
from ctr_tf.training.table_files import TableFiles, delete

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


class _Kept:
    """Checkpoints of one kind: variables in TensorFlow's files, tables in files beside them.

    Args:
        folder: of the files.
        keep: how many are kept.
        variables: by kind; no table among them.
        tables: the tables' own files; None for a model without.
        state: the JSON part.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        variables: dict[str, list[keras.Variable]],
        tables: TableFiles | None,
        state: _State,
    ):
        self.folder, self.variables, self.tables, self.state = folder, variables, tables, state
        self.checkpoint = tf.train.Checkpoint(
            state=state, **{kind: _values(own) for kind, own in variables.items()}
        )
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(folder), max_to_keep=keep)
        # A run that was killed while it wrote leaves files that no index names.
        named = {Path(path).name for path in self.manager.checkpoints}
        for path in folder.iterdir() if folder.exists() else ():
            if path.name != "checkpoint" and path.name.split(".")[0] not in named:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def save(self, content: dict[str, Any]) -> None:
        """Writes a checkpoint; it counts once TensorFlow's index of checkpoints names it."""
        before = list(self.manager.checkpoints)
        # Numbers rise over resumed runs, so that a file named by the index is never rewritten.
        number = int(before[-1].rsplit("-")[-1]) + 1 if before else 1
        self.state.content = {**content, **self.described()}
        if self.tables:
            self.tables.write(_tables_of(f"{self.folder}/ckpt-{number}"))
        self.manager.save(checkpoint_number=number)
        for path in set(before) - set(self.manager.checkpoints):
            delete(_tables_of(path))

    def restore(self, path: str, content: dict[str, Any], advice: str) -> None:
        """Sets everything from a checkpoint of the same variables and tables."""
        for kind, own in self.variables.items():
            _check_variables(path, content[kind], own, advice)
        _check_tables(path, content["tables"], self.tables, advice)
        self.checkpoint.restore(path).assert_consumed()
        if self.tables:
            self.tables.read(_tables_of(path))

    def described(self) -> dict[str, Any]:
        """What each variable and each table is."""
        found: dict[str, Any] = {
            kind: [[v.path, list(v.shape), str(v.dtype)] for v in own]
            for kind, own in self.variables.items()
        }
        return found | {"tables": self.tables.described() if self.tables else {}}


class Checkpoints:
    """The checkpoints of one run: `checkpoints/last` and `checkpoints/best`.

    Embedding tables are saved by their names, so that a run may go on with another layout.

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
        self.settings = settings
        self._own = None if chief else tempfile.mkdtemp(prefix="ctr_tf_worker_")
        written = self.folder if chief else Path(self._own)
        tables = model.embedder.tables
        slots = grouped(optimizer).table_slots(tables.trainable_variables) if tables else {}
        aside = {id(variable) for own in slots.values() for variable in own}
        self.variables = {
            "model": dense_variables(model),
            "optimizer": [v for v in optimizer.variables if id(v) not in aside],
        }
        self.tables = TableFiles(tables, {}) if tables else None
        with_slots = TableFiles(tables, slots) if tables else None
        self._last = _Kept(written / "last", keep, self.variables, with_slots, _State())
        own = {"model": self.variables["model"]}
        self._best = _Kept(written / "best", 1, own, self.tables, _State())

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
        self._last.restore(path, content, anew)
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
        self._check_dense()
        if self.tables:
            self.tables.check_finite()

    def _check_dense(self) -> None:
        for variable in self.variables["model"]:
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

    def _write(self, kept: _Kept, progress: Progress) -> None:
        self._check_dense()
        kept.save({"progress": progress.to_json(), "settings": self.settings})


def dense_variables(model: CTRModel) -> list[keras.Variable]:
    """All variables of a model but its embedding tables."""
    tables = model.embedder.tables
    aside = {id(variable) for variable in tables.weights} if tables else set()
    return [variable for variable in model.variables if id(variable) not in aside]


def _tables_of(path: str) -> str:
    """The prefix of the tables' files that belong to a checkpoint."""
    return f"{path}.tables"


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
    tables = TableFiles(model.embedder.tables, {}) if model.embedder.tables else None
    advice = "build the model as it was trained"
    _check_variables(path, content["model"], dense_variables(model), advice)
    _check_tables(path, content["tables"], tables, advice)
    checkpoint = tf.train.Checkpoint(model=_values(dense_variables(model)))
    checkpoint.restore(path).expect_partial().assert_existing_objects_matched()
    if tables:
        tables.read(_tables_of(path))
    return Progress.from_json(content["progress"]).step


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


def _check_tables(
    path: str, saved: dict[str, list[int]], tables: TableFiles | None, advice: str
) -> None:
    """Whether a checkpoint has every table and slot, of the same shape; it may have more slots."""
    for name, shape in (tables.described() if tables else {}).items():
        if saved.get(name) != shape:
            found = f"the shape {tuple(saved[name])}" if name in saved else "no such table"
            raise CheckpointError(
                f"{path}: table {name} has {found}, the model's {tuple(shape)}; {advice}"
            )
