"""Scores of a server beside offline ones, request by request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import grpc
import numpy as np

from ctr_tf.data.raw_inputs import Arrays
from serving.asking import ITEM_TOWER, SERVING
from serving.parity.logged import Logged
from serving.parity.offline import Reference

Score = Callable[[Logged], Arrays]

_SCORING = (SERVING, ITEM_TOWER)
_CHUNK = 500
"""Requests held at once."""
_CALLS = 4
"""Calls at a time: a server computes as many by default."""


def differences(online: np.ndarray, offline: np.ndarray) -> np.ndarray:
    """The differences of scores; that of a score which is not finite is 1.

    Example:
        >>> differences(np.array([0.5, np.nan]), np.array([0.25, 0.5])).tolist()
        [0.25, 1.0]
    """
    found = np.abs(online.astype("float64") - offline)
    return np.where(np.isfinite(found), found, 1.0)


def largest_difference(online: Arrays, offline: Arrays) -> float:
    """The largest difference between the scores of one request, over its tasks."""
    return max(float(differences(online[t], offline[t]).max(initial=0.0)) for t in offline)


@dataclass
class TaskDifferences:
    """The differences of one task's scores.

    Args:
        scores: how many were compared.
        beyond: how many differ by more than the tolerance.
        total: the sum of the differences.
        largest: of them.
    """

    scores: int = 0
    beyond: int = 0
    total: float = 0.0
    largest: float = 0.0

    def add(self, found: np.ndarray, tolerance: float) -> None:
        """Counts the differences of one request."""
        self.scores += found.size
        self.beyond += int((found > tolerance).sum())
        self.total += float(found.sum())
        self.largest = max(self.largest, float(found.max(initial=0.0)))


@dataclass(frozen=True)
class Outlier:
    """The largest difference within a request.

    Args:
        request: which one.
        task: whose score.
        index: of the score in the request, (request of the call, candidate).
        online, offline: the two scores.
        difference: between them.
    """

    request: Logged
    task: str
    index: tuple[int, int]
    online: float
    offline: float
    difference: float


@dataclass
class Refused:
    """Requests that the server refused with one status.

    Args:
        requests: how many.
        first: where the first one is.
        details: what the server said of it.
    """

    requests: int
    first: str
    details: str


@dataclass
class Comparison:
    """What a replay found.

    Args:
        tolerance: the largest difference that counts as none.
        most: outliers that are kept.
        requests: how many were compared.
        tasks: differences by task.
        worst: outliers, the largest difference first, one a request.
        refused: by status.
        skipped: calls that are not compared, by signature: most answer with no scores.
    """

    tolerance: float
    most: int
    requests: int = 0
    tasks: dict[str, TaskDifferences] = field(default_factory=dict)
    worst: list[Outlier] = field(default_factory=list)
    refused: dict[str, Refused] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def agrees(self) -> bool:
        """Whether every request was answered, with scores within the tolerance."""
        return not self.refused and not any(task.beyond for task in self.tasks.values())

    def add(self, request: Logged, online: Arrays, offline: Arrays) -> None:
        """Counts a request.

        Raises:
            ValueError: the two sides have other tasks or numbers of candidates.
        """
        shapes = [
            {task: scores.shape for task, scores in sorted(side.items())}
            for side in (online, offline)
        ]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{request.place}: the server answers with scores {shapes[0]}, the reference with "
                f"{shapes[1]}; is it another model, or of another schema?"
            )
        self.requests += 1
        outliers = []
        for task, scores in online.items():
            found = differences(scores, offline[task])
            self.tasks.setdefault(task, TaskDifferences()).add(found, self.tolerance)
            if not found.size:
                continue
            index = np.unravel_index(found.argmax(), found.shape)
            sides = float(scores[index]), float(offline[task][index])
            place = tuple(int(part) for part in index)
            outliers.append(Outlier(request, task, place, *sides, float(found[index])))
        self.worst += sorted(outliers, key=lambda outlier: outlier.difference)[-1:]
        self.worst.sort(key=lambda outlier: outlier.difference, reverse=True)
        del self.worst[self.most :]

    def refuse(self, request: Logged, error: grpc.RpcError) -> None:
        """Counts a request that the server refused."""
        found = Refused(0, request.place, error.details())
        self.refused.setdefault(error.code().name, found).requests += 1


def compare(
    online: Score, reference: Reference, requests: Iterator[Logged], tolerance: float, most: int
) -> Comparison:
    """Scores every request on both sides, in memory for some hundred requests.

    Args:
        online: asks the server.
        reference: the offline side.
        requests: what is asked.
        tolerance: the largest difference that counts as none.
        most: outliers that are kept.

    Raises:
        grpc.RpcError: there is no server any more.
        ValueError: the two sides do not fit each other.
    """
    comparison = Comparison(tolerance, most)

    def answer(request: Logged) -> Arrays | grpc.RpcError:
        try:
            return online(request)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise
            return error

    with ThreadPoolExecutor(_CALLS) as pool:
        while chunk := list(islice(requests, _CHUNK)):
            scored = [each for each in chunk if each.signature in _SCORING]
            comparison.skipped.update(
                each.signature for each in chunk if each.signature not in _SCORING
            )
            # Closed, calls that wait are given up where one fails.
            with closing(pool.map(answer, scored)) as answers:
                for request, offline in zip(scored, reference.scores(scored), strict=True):
                    found = next(answers)
                    if isinstance(found, grpc.RpcError):
                        comparison.refuse(request, found)
                    else:
                        comparison.add(request, found, offline)
    return comparison
