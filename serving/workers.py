"""The threads that compute, and the calls that wait for one of them."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from serving.batching import batched_bytes, batched_candidates, join, part
from serving.model import SavedModel
from serving.validation import Inputs


@dataclass(eq=False)
class Job:
    """A signature of a model, to be run.

    Args:
        model: a loaded version.
        signature: which of its signatures.
        inputs: checked against the signature's rules.
    """

    model: SavedModel
    signature: str
    inputs: Inputs
    answer: Future = field(default_factory=Future)
    """Becomes the arrays by output name."""


class Workers:
    """Runs jobs in a fixed number of threads, in the order in which they came.

    Jobs that wait are run as one where they are of one signature, and their candidates and inputs,
    padded to the longest, are together at most `batch_candidates` and `batch_bytes`. None waits for
    others to join it.

    Args:
        threads: the jobs, or batches of them, run at the same time.
        batch_candidates: the most candidates of a batch; 0 runs each job alone.
        batch_bytes: the most memory that its inputs may take.
    """

    def __init__(self, threads: int, batch_candidates: int = 0, batch_bytes: int = 2**24):
        self.batch_candidates = batch_candidates
        self.batch_bytes = batch_bytes
        self.computing = 0
        """Jobs that are run now."""
        self._waiting: deque[Job] = deque()
        self._stopped = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    @property
    def waiting(self) -> int:
        """Jobs that no thread has taken yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Queues a job."""
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()

    def give_up(self, job: Job) -> None:
        """Forgets a job, inputs and all, unless it is being run."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job.answer.cancel()

    def stop(self) -> None:
        """Cancels what waits, and returns when the threads have ended what they are at."""
        with self._changed:
            self._stopped = True
            while self._waiting:
                self._waiting.popleft().answer.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while jobs := self._take():
            _run(jobs)
            with self._changed:
                self.computing -= len(jobs)
            # While this thread waits it would keep them, and so a version that is gone.
            del jobs

    def _take(self) -> list[Job]:
        """The job that has waited longest and those that are run with it; none once stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            if self._stopped:
                return []
            jobs = [self._waiting.popleft()]
            for other in list(self._waiting):
                if self._fits(jobs, other):
                    self._waiting.remove(other)
                    jobs.append(other)
            self.computing += len(jobs)
            return jobs

    def _fits(self, jobs: list[Job], other: Job) -> bool:
        if not self.batch_candidates:
            return False
        first = jobs[0]
        calls = [job.inputs for job in (*jobs, other)]
        return (
            (other.model, other.signature) == (first.model, first.signature)
            and first.inputs.candidates is not None
            and batched_candidates(calls) <= self.batch_candidates
            and batched_bytes(calls) <= self.batch_bytes
        )


def _run(jobs: list[Job]) -> None:
    model, signature = jobs[0].model, jobs[0].signature
    calls = [job.inputs for job in jobs]
    try:
        if len(jobs) == 1:
            found = [model.run(signature, calls[0].arrays)]
        else:
            found = part(model.run(signature, join(calls, model.rules[signature])), calls)
    # What a model raises is the caller's to judge.
    except Exception as error:
        if len(jobs) == 1:
            jobs[0].answer.set_exception(error)
        else:
            # The others must not fail for one of them.
            for job in jobs:
                _run([job])
        return
    for job, outputs in zip(jobs, found):
        job.answer.set_result(outputs)
