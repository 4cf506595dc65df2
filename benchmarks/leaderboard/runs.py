"""Trainings of both sides, one process each, of which a finished one is not repeated."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path

from benchmarks.files import write_arrays, write_text
from benchmarks.leaderboard import rows
from benchmarks.leaderboard.board import OURS, PEER, Board, Entry
from benchmarks.leaderboard.scores import measure, read_facts
from benchmarks.leaderboard.translate import peer_arguments, peer_training
from benchmarks.training import environment
from ctr_tf import stages
from ctr_tf.config import fingerprint, load
from ctr_tf.workspace import Workspace

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
VALIDATION, TEST = "validation", "test"
MOST_RATES = 5
RATE_STEPS = 150
"""Of the trainings that measure the speed."""
CANDIDATES = 100
"""Of the request whose FLOPs are counted; SRP4CTR, section 3.1.5, has as many."""


@dataclass(frozen=True)
class Run:
    """A finished training.

    Args:
        stack: `OURS` or `PEER`.
        entry: its name on the board.
        point: of the grid, as overrides.
        seed: of it.
        key: of its configuration, data and seed.
        facts: what it said of itself.
        validation: metrics of the validation split, by task.
        measure_test: gives those of the test split; none where it is recorded and was not chosen.
        path: its scores; None where it is no more than recorded.
    """

    stack: str
    entry: str
    point: tuple[str, ...]
    seed: int
    key: str
    facts: dict
    validation: dict[str, dict]
    measure_test: Callable[[], dict[str, dict]] = field(repr=False, compare=False)
    path: Path | None = None

    @cached_property
    def test(self) -> dict[str, dict]:
        """Metrics of the test split, by task: for the chosen point alone."""
        return self.measure_test()

    @property
    def value(self) -> float:
        """What tuning compares: the mean AUC of the tasks on the validation split."""
        return sum(task["auc"] for task in self.validation.values()) / len(self.validation)


def best_point(trials: Sequence[Run]) -> tuple[str, ...]:
    """The point of the best trial; of equal ones, the first."""
    return max(trials, key=lambda run: run.value).point


@dataclass(frozen=True)
class _Job:
    """A training, finished or not: a run's names, its configuration, the splits it scores."""

    stack: str
    entry: str
    point: tuple[str, ...]
    seed: int
    config: Path
    overrides: list[str]
    splits: list[str]


class Trainer:
    """Trains what is not there yet; everything is kept below `<workspace>/leaderboard`.

    Args:
        root: the workspace.
        jobs: trainings at a time, which share the cores; those that measure the speed have all.
        max_steps: a bound on each training, for a trial of a board.
        trust: whether a training that is recorded counts as finished where it is asked for.
    """

    def __init__(
        self, root: Path, jobs: int = 1, max_steps: int | None = None, trust: bool = False
    ):
        self.root = root.absolute()
        self.folder = self.root / "leaderboard"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.bound = [f"train.max_steps={max_steps}"] if max_steps else []
        threads = str(max(1, len(os.sched_getaffinity(0)) // jobs))
        names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
        self.shared = dict.fromkeys(names, threads) if jobs > 1 else {}
        self.trust = trust
        self._recorded: dict[str, Run] = {}
        self._rows = threading.Lock()
        self._children: list[subprocess.Popen] = []
        self._stopped = False

    def workspace(self, board: Board, entry: Entry, overrides: Sequence[str]) -> Workspace:
        """The workspace of one training."""
        return Workspace(self.root, load(*self._experiment(board, entry, overrides)))

    def _experiment(
        self, board: Board, entry: Entry, overrides: Sequence[str]
    ) -> tuple[Path, list[str]]:
        """The configuration of one training, and all that differs from it."""
        config = ROOT / board.configs / f"{entry.config}.yaml"
        return config, [*board.set, *entry.set, *overrides, *self.bound]

    def prepare(self, board: Board, peer: bool) -> None:
        """Fetches and prepares the data of all entries.

        Args:
            board: of the entries.
            peer: whether the other library's environment is made too.
        """
        workspaces = [self.workspace(board, entry, []) for entry in board.entries]
        # A dataset that is there is hashed: once, not for every entry.
        for workspace in {own.experiment.dataset: own for own in workspaces}.values():
            stages.fetch(workspace)
        for workspace in workspaces:
            stages.prepare(workspace)
        if peer:
            # Before trainings run beside each other.
            _environment()

    def remember(self, recorded: Mapping[str, Run]) -> None:
        """Adds trainings, by key, of which there is no more than a record.

        One that is there already stays, unless it alone has no metrics of the test split.
        """
        for key, run in recorded.items():
            if not self._recorded.setdefault(key, run).test:
                self._recorded[key] = run

    def train(
        self,
        board: Board,
        entry: Entry,
        stack: str,
        point: Sequence[str],
        seed: int,
        start: bool = True,
        tested: bool = False,
    ) -> Run | None:
        """The run of an entry at a point of the grid: trained, or of its file or record.

        Args:
            board: of the entry.
            entry: what is trained.
            stack: whose model.
            point: of the grid, as overrides.
            seed: of it.
            start: whether it is trained now where it is not there; None is returned otherwise.
            tested: whether a record counts only with metrics of the test split.

        Raises:
            RuntimeError: the training failed; names its log.
        """
        overrides = [*point, *self.seeded(board, entry, seed)]
        config, everything = self._experiment(board, entry, overrides)
        splits = [VALIDATION, TEST]
        job = _Job(stack, entry.name, tuple(point), seed, config, everything, splits)
        return self._run(job, start, tested)

    def kept_rates(self, board: Board, entry: Entry, stack: str) -> list[Run]:
        """The runs of `rate` that are there."""
        found = (self.rate(board, entry, stack, n, start=False) for n in range(1, MOST_RATES + 1))
        return [run for run in found if run]

    def rate(
        self, board: Board, entry: Entry, stack: str, repeat: int, start: bool = True
    ) -> Run | None:
        """A short training that nothing runs beside, for its speed and the cost of its model."""
        overrides = [*self.seeded(board, entry, repeat), f"train.max_steps={RATE_STEPS}"]
        config, everything = self._experiment(board, entry, overrides)
        return self._run(_Job(stack, entry.name, (), repeat, config, everything, []), start)

    def seeded(self, board: Board, entry: Entry, seed: int) -> list[str]:
        """Overrides that seed an entry's training, and its pre-training where it has one."""
        pretrained = self.workspace(board, entry, []).experiment.pretrain is not None
        return [f"{section}.seed={seed}" for section in ("train", *["pretrain.train"] * pretrained)]

    def _run(self, job: _Job, start: bool, tested: bool = False) -> Run | None:
        workspace = Workspace(self.root, load(job.config, job.overrides))
        spec = {"stack": job.stack, "splits": job.splits}
        if job.stack == PEER:
            spec |= self._peer_spec(workspace)
        key = fingerprint([spec, workspace.run_fingerprint])[:12]
        name = f"{workspace.experiment.name}-{job.stack}-{key}"
        path = self.folder / f"{name}.npz"
        if not path.exists():
            recorded = self._recorded.get(key)
            if recorded and (self.trust or not start) and (recorded.test or not tested):
                # Another board may have it by other names.
                return replace(recorded, entry=job.entry, point=job.point, seed=job.seed)
            if not start:
                return None
            if job.stack == OURS:
                spec |= {
                    "workspace": str(self.root),
                    "config": str(job.config),
                    "overrides": job.overrides,
                    "candidates": 0 if job.splits else CANDIDATES,
                }
            else:
                spec["rows"] = str(self._peer_rows(workspace))
            shared = self.shared if job.splits else {}
            self._start(name, job.stack, spec | {"output": str(path)}, shared)
        validation, test = _measure(path, VALIDATION), partial(_measure, path, TEST)
        names = job.stack, job.entry, job.point, job.seed, key
        return Run(*names, read_facts(path), validation, test, path)

    def _peer_spec(self, workspace: Workspace) -> dict:
        experiment = workspace.experiment
        (task,) = experiment.log.tasks
        return {
            "model": experiment.model.name,
            "task": task,
            "batch_size": experiment.input.batch_size,
            "arguments": peer_arguments(experiment),
            **peer_training(experiment.train),
        }

    def _peer_rows(self, workspace: Workspace) -> Path:
        path = self.folder / "rows" / f"{workspace.prepared.name}.npz"
        with self._rows:
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                write_arrays(path, rows.convert(workspace.prepared))
        return path

    def _start(self, name: str, stack: str, spec: dict, variables: dict[str, str]) -> None:
        file = write_text(self.folder / f"{name}.spec.json", json.dumps(spec, indent=2))
        command = [sys.executable, "-m", "benchmarks.leaderboard.ours_run", str(file)]
        if stack == PEER:
            command = [str(_environment()), str(Path(__file__).with_name("fuxictr_run.py"))]
            command.append(str(file))
        log = self.folder / f"{name}.log"
        with log.open("a", encoding="utf-8") as said:
            try:
                # The child has it too, by its output, and keeps it where this process is killed.
                fcntl.flock(said, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(f"{name}: another process trains it; see {log}") from None
            if self._stopped:
                raise RuntimeError(f"{name}: not started: trainings are being stopped")
            said.truncate(0)
            start = time.monotonic()
            own = os.environ | {"PYTHONPATH": str(ROOT)} | variables
            child = subprocess.Popen(command, env=own, stdout=said, stderr=said)
            self._children.append(child)
            if self._stopped:
                child.terminate()
            code = child.wait()
            self._children.remove(child)
            said.write(f"{time.monotonic() - start:.1f} s\n")
        if code:
            raise RuntimeError(f"{name}: failed with exit code {code}; see {log}")

    def stop(self) -> None:
        """Ends the trainings under way, which are saved, and starts no more."""
        self._stopped = True
        for child in list(self._children):
            child.terminate()


@cache
def _measure(path: Path, split: str) -> dict[str, dict]:
    return measure(path, split)


@cache
def _environment() -> Path:
    return environment(PEER)
