"""Training a model: set-up, resume, loop, result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from ctr_tf.data.input import Input
from ctr_tf.data.manifest import ManifestError
from ctr_tf.models.model import CTRModel
from ctr_tf.optimizers.build import build_optimizer
from ctr_tf.training.checkpoints import Checkpoints
from ctr_tf.training.config import TrainConfig, task_metrics
from ctr_tf.training.history import History
from ctr_tf.training.interruption import Interruption
from ctr_tf.training.loop import Loop
from ctr_tf.training.progress import Progress
from ctr_tf.training.progress_bar import ProgressBar
from ctr_tf.training.result import TrainResult
from ctr_tf.training.step import TrainStep
from ctr_tf.training.stopping import BestMetric
from ctr_tf.training.strategy import is_chief, make_strategy
from ctr_tf.training.validation import Validator


def train(
    model_factory: Callable[[], CTRModel],
    data: Input,
    config: TrainConfig,
    folder: Path,
    progress: bool = True,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    strategy: tf.distribute.Strategy | None = None,
    validator: Callable[[CTRModel], Validator | None] | None = None,
    metrics: Mapping[str, str] | None = None,
) -> TrainResult:
    """Trains a model, or goes on where an earlier call with the same folder was cut short.

    `folder` then holds `checkpoints/best` and `checkpoints/last` (see `restore`), `history.jsonl`
    and, on request, `tensorboard/`.

    Args:
        model_factory: makes the model; called once, under the strategy's scope.
        data: the training input, read by its `training_split`; validation reads its `validation`
            split where there is one.
        config: of the run.
        folder: where the run is saved; of several workers, one that all of them see.
        progress: whether a progress bar is shown.
        callbacks: Keras callbacks; validation metrics reach them as `val_<task>_auc` and so on.
        strategy: by default what `config.strategy` names; `multi_worker` has to be made by the
            caller, before `data`.
        validator: makes what validates the model, by default on the `validation` split.
        metrics: what that measures, the first being the default of what is best: name and full
            name; by default `task_metrics`.

    Raises:
        CheckpointError: the folder holds a run of another model or of other settings.
        TrainingDivergedError: the loss or a weight is no longer finite, or the loss exploded.
        ManifestError: the training split is empty.
        ValueError: early stopping without a validation split, or on an undefined metric.
    """
    began = time.monotonic()
    strategy = strategy or make_strategy(config.strategy)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    batches = data.batches(data.training_split)
    keras.utils.set_random_seed(config.seed)
    planned = planned_steps(config, batches)
    optimizers = config.optimizers(planned)
    with strategy.scope(), dtype_policy(config.precision):
        model = model_factory()
        optimizer = build_optimizer(model, optimizers, config.precision == "mixed_float16")
        # Callbacks that read or set the learning rate look for it here.
        model.optimizer = optimizer
    metrics = metrics or task_metrics(model.tasks)
    config.check(model.tasks, metrics)
    best = BestMetric(config.early_stopping, metrics)
    chief = is_chief(strategy)
    settings = {
        "train": {
            "seed": config.seed,
            "precision": config.precision,
            "accumulate_steps": config.accumulate_steps,
            "task_weights": config.task_weights,
            "best_metric": best.name,
            **{name: found.model_dump(mode="json") for name, found in optimizers.items()},
        },
        # In which variables the tables lie does not change the course of training.
        "model": model.config.model_dump(mode="json", exclude={"embedding": {"shard_rows"}}),
        "schema": model.schema.fingerprint,
        "input": {
            **data.config.model_dump(mode="json", exclude={"parallel", "prefetch"}),
            "seed": data.seed,
            "batches": batches,
        },
    }
    with ExitStack() as stack:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints = Checkpoints(folder, model, optimizer, settings, config.keep, chief)
        stack.callback(checkpoints.close)
        position = checkpoints.resume() or Progress()
        history = History(folder, position.step, config.tensorboard, write=chief)
        stack.callback(history.close)
        own = validator(model) if validator else _validator(model, data, config)
        bar = ProgressBar(reasons=lambda: own.reasons if own else {})
        stack.callback(bar.close)
        loop = Loop(
            TrainStep(model, optimizer, strategy, config.task_weights, config.compiles(planned)),
            data,
            config,
            checkpoints,
            history,
            own,
            best,
            keras.callbacks.CallbackList(
                [bar, *callbacks] if progress and chief else list(callbacks),
                model=model,
                epochs=config.epochs,
                steps=math.ceil(batches / config.accumulate_steps),
                verbose=0,
            ),
            position,
            stack.enter_context(Interruption()),
        )
        loop.run()
        return loop.result(time.monotonic() - began)


def planned_steps(config: TrainConfig, batches: int) -> int:
    """The optimiser steps of a run on that many batches an epoch.

    Example:
        >>> planned_steps(TrainConfig(epochs=2, accumulate_steps=4), 10)
        6
    """
    steps = config.epochs * math.ceil(batches / config.accumulate_steps)
    return min(steps, config.max_steps or steps)


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Keras' global dtype policy within it.

    Example:
        >>> with dtype_policy("mixed_bfloat16"):
        ...     keras.layers.Dense(1).compute_dtype
        'bfloat16'
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _validator(model: CTRModel, data: Input, config: TrainConfig) -> Validator | None:
    try:
        data.batches("validation")
    except ManifestError as error:
        if config.early_stopping:
            raise ValueError(f"early_stopping needs a validation split: {error}") from error
        return None
    return Validator(model, data, config.task_weights)
