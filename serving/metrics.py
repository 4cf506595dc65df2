"""What a server did and what it holds, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.request_log import RequestLog
from serving.versions import Versions
from serving.workers import Workers

UNKNOWN = "unknown"
"""Stands for every signature that the model has not: names of callers must not make labels grow."""

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_CANDIDATES = (1, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


@dataclass
class Facts:
    """What is known of a call; no value of its inputs.

    Args:
        signature: one that the model has, else `UNKNOWN`.
        version: that answers it.
        requests: B.
        candidates: N.
        unknown_items: of them, items that a bound table has not.
    """

    signature: str = UNKNOWN
    version: int | None = None
    requests: int | None = None
    candidates: int | None = None
    unknown_items: int | None = None


class CallMetrics:
    """Counters and histograms of the calls of Predict.

    Args:
        registry: what they are read from.

    Example:
        >>> registry = CollectorRegistry()
        >>> CallMetrics(registry).ended(Facts("item_tower", 3, 2, 50), "OK", seconds=0.004)
        >>> registry.get_sample_value(
        ...     "ctr_tf_call_candidates_sum", {"signature": "item_tower"}
        ... )
        100.0
    """

    def __init__(self, registry: CollectorRegistry):
        self.received = Counter(
            "ctr_tf_received_calls",
            "Calls as they came in. Those that are never counted as ended were refused by gRPC, "
            "which had no thread for them.",
            registry=registry,
        )
        self._ended = Counter(
            "ctr_tf_calls",
            "Calls that ended, by status code.",
            ["signature", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "ctr_tf_call_seconds",
            "From a call's being read to its answer, waiting included; answered calls alone.",
            ["signature"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._candidates = Histogram(
            "ctr_tf_call_candidates",
            "Candidates of an answered call, over its requests.",
            ["signature"],
            buckets=_CANDIDATES,
            registry=registry,
        )
        self._unknown_items = Counter(
            "ctr_tf_unknown_items",
            "Candidates of answered calls whose keys a bound table of items has not.",
            ["signature"],
            registry=registry,
        )

    def ended(self, facts: Facts, code: str, seconds: float) -> None:
        """Counts a call."""
        self._ended.labels(facts.signature, code).inc()
        if code == "OK":
            self._seconds.labels(facts.signature).observe(seconds)
            if facts.candidates is not None:
                self._candidates.labels(facts.signature).observe(facts.requests * facts.candidates)
            if facts.unknown_items is not None:
                self._unknown_items.labels(facts.signature).inc(facts.unknown_items)


class ServerState(Collector):
    """What a server holds when it is asked.

    Args:
        versions: of its model.
        workers: that compute.
        request_log: where it has one.
    """

    def __init__(self, versions: Versions, workers: Workers, request_log: RequestLog | None):
        self.versions = versions
        self.workers = workers
        self.request_log = request_log

    def collect(self) -> Iterator[Metric]:
        """The metrics, as prometheus_client asks for them."""
        yield GaugeMetricFamily(
            "ctr_tf_waiting_calls", "Calls that wait for a worker.", self.workers.waiting
        )
        yield GaugeMetricFamily(
            "ctr_tf_computing_calls", "Calls that are computed.", self.workers.computing
        )
        states = GaugeMetricFamily(
            "ctr_tf_version_state", "1 for the state of each version.", labels=["version", "state"]
        )
        for version, (state, _) in self.versions.statuses().items():
            states.add_metric([str(version), state], 1)
        yield states
        yield CounterMetricFamily(
            "ctr_tf_swaps", "How often another version took over.", self.versions.swaps
        )
        yield CounterMetricFamily(
            "ctr_tf_load_failures",
            "How often a version did not load.",
            self.versions.load_failures,
        )
        if self.request_log is not None:
            yield CounterMetricFamily(
                "ctr_tf_logged_calls", "Calls in the request log.", self.request_log.written
            )
            yield CounterMetricFamily(
                "ctr_tf_lost_calls",
                "Sampled calls that the request log could not take.",
                self.request_log.lost,
            )
