"""The training loop: one for every strategy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import keras
import numpy as np

from ctr_tf.data.input import Input
from ctr_tf.optimizers.build import grouped
from ctr_tf.training.checkpoints import Checkpoints
from ctr_tf.training.config import TrainConfig
from ctr_tf.training.history import History
from ctr_tf.training.interruption import Interruption
from ctr_tf.training.progress import Mean, Progress
from ctr_tf.training.result import TrainingDivergedError, TrainResult
from ctr_tf.training.step import StepStats, TrainStep
from ctr_tf.training.stopping import BestMetric
from ctr_tf.training.strategy import training_batches
from ctr_tf.training.validation import Validator

SHOWN_REQUESTS = 5


class Loop:
    """Runs the steps of a training run, and between them validates, records and saves.

    Args:
        step: the compiled step, with model, optimiser and strategy.
        data: the training input.
        config: of the run.
        checkpoints: where the run is saved.
        history: where it is recorded.
        validator: None where there is no validation split.
        best: which validation is the best.
        callbacks: Keras callbacks.
        progress: where the run begins.
        interruption: a wish to stop.
    """

    def __init__(
        self,
        step: TrainStep,
        data: Input,
        config: TrainConfig,
        checkpoints: Checkpoints,
        history: History,
        validator: Validator | None,
        best: BestMetric,
        callbacks: keras.callbacks.CallbackList,
        progress: Progress,
        interruption: Interruption,
    ):
        self.step = step
        self.data = data
        self.config = config
        self.checkpoints = checkpoints
        self.history = history
        self.validator = validator
        self.best = best
        self.callbacks = callbacks
        self.progress = progress
        self.interruption = interruption
        self.batches = data.batches(data.training_split)
        self.interrupted = False
        self._saved_step = progress.step
        # Epoch, batch and number of batches of the latest step.
        self._latest = (progress.epoch, 0, 1)
        # Of the calls that traced nothing: impressions and seconds.
        self._timed = (0.0, 0.0)
        self._recent = (0.0, 0.0)

    def run(self) -> None:
        """Trains to the end of the run, or until it is stopped."""
        progress = self.progress
        self.step.model.stop_training = False
        self.callbacks.on_train_begin()
        while not self._finished():
            self.callbacks.on_epoch_begin(
                progress.epoch, {"done": progress.batch // self.config.accumulate_steps}
            )
            self._epoch()
            if self.interrupted:
                break
            if progress.batch >= self.batches:
                self._end_epoch()
        stopped = self.step.model.stop_training and not progress.stopped_early
        progress.stopped_early = progress.stopped_early or stopped
        if not self.interrupted:
            if self.validator and progress.validated_step != progress.step:
                self._validate()
            if not self.validator:
                self._keep(self.checkpoints.save_best)
        if stopped or self._saved_step != progress.step or self.checkpoints.last is None:
            self._save()
        self.callbacks.on_train_end(_defined(progress.validation))

    def result(self, seconds: float) -> TrainResult:
        """How the run stands."""
        progress = self.progress
        return TrainResult(
            steps=progress.step,
            epochs=progress.epoch,
            metric=self.best.name,
            best_value=progress.best_value,
            best_step=progress.best_step if self.validator else progress.step,
            validation=progress.validation,
            interrupted=self.interrupted,
            stopped_early=progress.stopped_early,
            seconds=seconds,
            examples_per_second=_rate(self._timed),
        )

    def _finished(self) -> bool:
        progress = self.progress
        return (
            progress.stopped_early
            or self.step.model.stop_training
            or progress.epoch >= self.config.epochs
            or progress.step >= (self.config.max_steps or float("inf"))
        )

    def _epoch(self) -> None:
        """The rest of an epoch."""
        progress = self.progress
        batches = training_batches(self.data, self.step.strategy, progress.epoch, progress.batch)
        if 0 < progress.batch < self.batches and progress.validated_step != progress.step:
            # Resumed where SIGTERM came before a validation.
            self._events()
        while progress.batch < self.batches and not self._finished():
            self._call(batches)
            if self._due(self.config.log_every):
                self._record()
            if self.interrupted:
                return
            # At the end of an epoch its events come once the epoch is counted as done.
            if progress.batch < self.batches:
                self._events()
                alone = self.step.strategy.num_replicas_in_sync == 1
                if alone and self.interruption.requested:
                    # It came during a validation; another step would only delay it.
                    self.interrupted = True
                    return

    def _call(self, iterator: Iterator) -> None:
        """One call of the compiled step, up to the next event at most."""
        progress, accumulated = self.progress, self.config.accumulate_steps
        left = self.batches - progress.batch
        per_step = min(accumulated, left)
        steps = min(self.config.steps_per_call, max(1, left // accumulated), self._until_event())
        first = progress.batch // accumulated
        self.callbacks.on_train_batch_begin(first)
        traces, began = self.step.traces, time.perf_counter()
        stats = self.step(iterator, steps, per_step, stop=self.interruption.requested)
        if self.step.traces == traces:
            spent = (float(stats.impressions.sum()), time.perf_counter() - began)
            self._timed = tuple(np.add(self._timed, spent))
            self._recent = tuple(np.add(self._recent, spent))
        self._latest = (progress.epoch, progress.batch + (steps - 1) * per_step, per_step)
        self._check(stats, per_step)
        recorded = {"loss": stats.losses}
        if len(stats.task_losses) > 1:
            recorded |= {f"{task}_loss": own for task, own in stats.task_losses.items()}
        for name, losses in recorded.items():
            progress.recent.setdefault(name, Mean()).add(float(losses.mean()), steps)
        progress.epoch_loss.add(float(stats.losses.mean()), steps)
        progress.step += steps
        progress.batch += steps * per_step
        shown = {"loss": float(stats.losses[-1])}
        rate = _rate(self._timed)
        if rate is not None:
            shown["examples_per_second"] = rate
        self.callbacks.on_train_batch_end(first + steps - 1, shown)
        alone = self.step.strategy.num_replicas_in_sync == 1
        self.interrupted = stats.stop or (alone and self.interruption.requested)

    def _until_event(self) -> int:
        """Steps until something happens between two calls."""
        every = [self.config.log_every, self.config.checkpoint_every]
        if self.validator and self.config.validate_every:
            every.append(self.config.validate_every)
        left = [period - self.progress.step % period for period in every]
        if self.config.max_steps:
            left.append(self.config.max_steps - self.progress.step)
        return min(left)

    def _due(self, period: int | None) -> bool:
        return period is not None and self.progress.step % period == 0

    def _events(self, epoch_ended: bool = False) -> None:
        """Validation and checkpoint, where they are due."""
        validate = self._due(self.config.validate_every)
        validate = validate or (epoch_ended and self.config.validate_every is None)
        if self.validator and validate:
            self._validate()
        if validate or epoch_ended or self._due(self.config.checkpoint_every):
            self._save()

    def _end_epoch(self) -> None:
        progress = self.progress
        if progress.recent:
            self._record()
        loss = progress.epoch_loss.value
        epoch, progress.epoch_loss = progress.epoch, Mean()
        progress.epoch, progress.batch = epoch + 1, 0
        self._events(epoch_ended=True)
        validation = {f"val_{k}": v for k, v in _defined(progress.validation).items()}
        self.callbacks.on_epoch_end(epoch, {"loss": loss, **validation})

    def _record(self) -> None:
        """Writes the training losses since the last such record."""
        progress = self.progress
        rates = grouped(self.step.optimizer).learning_rates()
        record = {
            "step": progress.step,
            "epoch": progress.epoch,
            "split": "train",
            **{name: mean.value for name, mean in progress.recent.items()},
            "learning_rate": rates.pop("dense"),
            **{f"{name}_learning_rate": rate for name, rate in rates.items()},
            "examples_per_second": _rate(self._recent),
        }
        self.history.write(record)
        progress.recent, self._recent = {}, (0.0, 0.0)

    def _validate(self) -> None:
        progress = self.progress
        self._check_weights()
        self.callbacks.on_test_begin()
        try:
            validation = self.validator()
        except FloatingPointError as error:
            self._diverged(str(error), progress.step)
        progress.validation, progress.validated_step = validation.values, progress.step
        place = {"step": progress.step, "epoch": progress.epoch, "split": "validation"}
        undefined = {"undefined": validation.reasons} if validation.reasons else {}
        self.history.write({**place, **validation.values, **undefined})
        if self.best.update(progress, validation):
            self._keep(self.checkpoints.save_best)
        progress.stopped_early = progress.stopped_early or self.best.exhausted(progress)
        self.callbacks.on_test_end(_defined(validation.values))

    def _save(self) -> None:
        self._keep(self.checkpoints.save)
        self._saved_step = self.progress.step

    def _keep(self, save: Callable[[Progress], None]) -> None:
        try:
            save(self.progress)
        except FloatingPointError as error:
            self._diverged(str(error), self.progress.step)

    def _check(self, stats: StepStats, per_step: int) -> None:
        """Stops at the first step whose loss or gradient is not finite, or its loss too large."""
        losses, norms = stats.losses + stats.regularisation, stats.gradient_norms
        bad = np.flatnonzero(~(losses <= self.config.max_loss) | ~np.isfinite(norms))
        if len(bad):
            loss, first = losses[bad[0]], int(bad[0])
            what = f"the loss {loss:g} is not finite"
            if loss > self.config.max_loss:
                what = f"the loss {loss:g} exceeds max_loss {self.config.max_loss:g}"
            elif np.isfinite(loss):
                what = f"the gradient is not finite, at a loss of {loss:g}"
            batch = self.progress.batch + first * per_step
            self._latest = (self.progress.epoch, batch, per_step)
            self._diverged(what, self.progress.step + first + 1)

    def _check_weights(self) -> None:
        try:
            self.checkpoints.check_finite()
        except FloatingPointError as error:
            self._diverged(str(error), self.progress.step)

    def _diverged(self, reason: str, step: int) -> None:
        """Raises the error; the order of batches is fixed, so the latest ones are read again."""
        epoch, batch, count = self._latest
        requests: list[str] = []
        for found in self.data.training(epoch, skip=batch).take(count):
            requests += [name.decode() for name in found["ids"]["request"].numpy()]
        raise TrainingDivergedError(reason, step, requests[:SHOWN_REQUESTS], self.checkpoints.last)


def _rate(spent: tuple[float, float]) -> float | None:
    impressions, seconds = spent
    return float(impressions / seconds) if seconds else None


def _defined(metrics: dict[str, float | None]) -> dict[str, float]:
    """What callbacks are told: they know no undefined metric."""
    return {name: value for name, value in metrics.items() if value is not None}
