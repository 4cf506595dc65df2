"""Command line, clock and result of every side of the speed comparison; NumPy alone."""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.speed.workloads import WORKLOADS


class Clock:
    """Times steps after a warm-up, until both a number of steps and a time are reached.

    Args:
        warm_up: steps not timed.
        steps: the least steps timed.
        seconds: the least time.
        now, cpu: clocks, in seconds.

    Attributes:
        timed: steps timed so far.
        seconds_taken, cpu_seconds: by them.

    Example:
        >>> clock = Clock(warm_up=1, steps=2)
        >>> [clock.more() for _ in range(3)]
        [True, True, False]
        >>> clock.timed
        2
    """

    def __init__(
        self,
        warm_up: int,
        steps: int,
        seconds: float = 0.0,
        now: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.process_time,
    ):
        self.warm_up, self.steps, self.seconds = warm_up, steps, seconds
        self._now, self._cpu = now, cpu
        self._warmed = 0
        self.timed = 0
        self.seconds_taken = self.cpu_seconds = 0.0
        self._start()

    def _start(self) -> None:
        self._began, self._cpu_began = self._now(), self._cpu()

    @property
    def warm(self) -> bool:
        """Whether the warm-up is over."""
        return self._warmed >= self.warm_up

    def more(self, steps: int = 1) -> bool:
        """Counts steps just done; whether another is wanted."""
        if not self.warm:
            self._warmed += steps
            self._start()
            return True
        self.timed += steps
        self.seconds_taken = self._now() - self._began
        self.cpu_seconds = self._cpu() - self._cpu_began
        return self.timed < self.steps or self.seconds_taken < self.seconds


def options(models: Iterable[str]) -> argparse.ArgumentParser:
    """The command line of a side that has these models."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("model", choices=list(models))
    parser.add_argument("arrays", type=Path)
    parser.add_argument("--steps", type=int, default=60, help="the least steps timed")
    parser.add_argument("--seconds", type=float, default=0.0, help="the least time")
    parser.add_argument("--warm-up", type=int, default=20, help="steps not timed")
    parser.add_argument(
        "--steps-per-call", type=int, default=10, help="of a compiled function, where there is one"
    )
    return parser


def load(path: Path) -> dict[str, np.ndarray]:
    """A workload's arrays, in memory."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def shuffled(rows: int, batch: int, seed: int = 1) -> Iterator[np.ndarray]:
    """Row numbers of batches without end, in another order each epoch; the rest is left out.

    Example:
        >>> found = shuffled(4, 2)
        >>> sorted(int(row) for _ in range(2) for row in next(found))
        [0, 1, 2, 3]
    """
    order = np.random.default_rng(seed)
    while True:
        numbers = order.permutation(rows)
        for start in range(0, rows - batch + 1, batch):
            yield numbers[start : start + batch]


def peak_mib() -> int:
    """The most memory that this process has held; that of what started it does not count."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def report(
    clock: Clock, batch: int, loss: float | None, parameters: int, versions: dict, **more
) -> None:
    """Prints the result, one line of JSON, with whatever more there is to say."""
    samples = clock.timed * batch
    found = {
        "samples_per_second": samples / clock.seconds_taken,
        "peak_mib": peak_mib(),
        "cpu_us_per_sample": 1e6 * clock.cpu_seconds / samples,
        "loss": loss,
        "parameters": parameters,
        "versions": versions,
        "steps": clock.timed,
        "seconds": clock.seconds_taken,
        "cores": len(os.sched_getaffinity(0)),
        **more,
    }
    print(json.dumps(found), flush=True)
