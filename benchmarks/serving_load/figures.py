"""What became of a run, the figures made of it, and the rules that they are judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.serving_load.caller import NO_WORD, Tally
from benchmarks.serving_load.messages import TOLERANCE
from serving.asking import ITEM_TOWER, SERVING, USER_TOWER

TIMED = ("folded", "label", "version")
"""What latencies are of: folded calls of up to 500 candidates, sent at once and waited for."""
MOST_SLOPE = 0.005
"""The share of itself that memory, the least of a period, may grow by in a period."""
MOST_GROWTH = 1.05
"""The most memory of the last fifth by that of the first fifth after the first period."""
LEAST_PERIODS = 5
"""Below it nothing is said of memory."""


@dataclass(frozen=True)
class Sample:
    """The server at one time.

    Args:
        second: since the load began.
        rss_mib: resident memory.
        newest: the version that answers calls that name none.
    """

    second: float
    rss_mib: float
    newest: int


@dataclass(frozen=True)
class Load:
    """What became of a run.

    Args:
        seconds: it took.
        period: seconds from swap to swap.
        tally: of all clients.
        samples: one a second.
        swaps: when each began.
        counts: of the server's own page, by metric, signature and code.
        exit_status: of the server.
    """

    seconds: float
    period: float
    tally: Tally
    samples: list[Sample]
    swaps: list[float]
    counts: Counter
    exit_status: int


def by_period(load: Load) -> list[dict]:
    """Rate, latencies and memory of each whole period."""
    rows = []
    for first in np.arange(int(load.seconds // load.period)) * load.period:
        last = first + load.period
        answers = [each for each in load.tally.answers if first <= each[1] < last]
        own = [each for each in load.samples if first <= each.second < last]
        rows.append({
            "first": first,
            "answered": len(answers),
            **percentiles(answers),
            "newest": sorted({each.newest for each in own}),
            "least_mib": min(each.rss_mib for each in own),
            "most_mib": max(each.rss_mib for each in own),
        })  # fmt: skip
    return rows


def by_second(load: Load) -> list[dict]:
    """The samples, each with the answers since the one before it."""
    rows, before = [], 0.0
    for sample in load.samples:
        own = [each for each in load.tally.answers if before <= each[1] < sample.second]
        rows.append(vars(sample) | {"answered": len(own)} | percentiles(own))
        before = sample.second
    return rows


def percentiles(answers: Sequence[tuple[str, float, float]]) -> dict[str, float | None]:
    """Of the milliseconds of those that are timed; None without one.

    Example:
        >>> percentiles([("folded", 0.0, n / 1000) for n in range(101)] + [("late", 0.0, 9.0)])
        {'p50_ms': 50.0, 'p99_ms': 99.0}
    """
    found = [1000 * seconds for kind, _, seconds in answers if kind in TIMED]
    if not found:
        return {"p50_ms": None, "p99_ms": None}
    p50, p99 = np.percentile(found, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def slope(values: Sequence[float]) -> float:
    """Of the line of least squares through equally spaced values, from one to the next.

    Example:
        >>> round(slope([1.0, 4.0, 4.0, 7.0]), 6)
        1.8
    """
    return float(np.polyfit(np.arange(len(values)), values, 1)[0])


def memory(load: Load) -> tuple[float, float, float] | None:
    """What is judged of the memory; None with fewer than `LEAST_PERIODS`.

    The least of a period is compared with that of others: more is held during a swap.

    Returns:
        The slope through the least of each period of the second half, MiB a period; its share of
        their mean; and the most of the last fifth by that of the first fifth after the first
        period.
    """
    least = [row["least_mib"] for row in by_period(load)]
    if len(least) < LEAST_PERIODS:
        return None
    half = least[len(least) // 2 :]
    grown = slope(half)
    warm = [each for each in load.samples if each.second >= load.period]
    fifth = (load.seconds - load.period) / 5
    early = [each.rss_mib for each in warm if each.second < load.period + fifth]
    late = [each.rss_mib for each in warm if each.second >= load.seconds - fifth]
    return grown, grown / float(np.mean(half)), max(late) / max(early)


def agreement(statuses: Counter, counts: Counter) -> list[tuple[str, int, int, int]]:
    """What the clients saw beside what the server counted.

    Args:
        statuses: by kind and status.
        counts: by metric, signature and code.

    Returns:
        For each kind of end: its name, the least and the most that the server may have counted by
        what the clients saw, and what it did. The two differ by the calls whose callers did not
        wait for the answer.
    """
    unseen = sum(n for (_, code), n in statuses.items() if code in NO_WORD)
    # Refused by their size, before the server's own code.
    oversized = statuses["oversized", "RESOURCE_EXHAUSTED"]
    towers = {USER_TOWER: "user state", ITEM_TOWER: "its items"}
    ended = Counter()
    for (metric, signature, code), count in counts.items():
        if metric == "ctr_tf_calls_total":
            ended["OK, " + signature if code == "OK" else code] += round(count)
    seen = Counter()
    for (_, code), count in statuses.items():
        seen[code] += count
    ok = {f"OK, {signature}": statuses[kind, "OK"] for signature, kind in towers.items()}
    rest = seen["OK"] - sum(ok.values())
    full = seen["RESOURCE_EXHAUSTED"] - oversized
    known = {
        **{name: (count, count) for name, count in ok.items()},
        f"OK, {SERVING}": (rest, rest + unseen),
        "INVALID_ARGUMENT": (seen["INVALID_ARGUMENT"],) * 2,
        "NOT_FOUND": (seen["NOT_FOUND"],) * 2,
        "RESOURCE_EXHAUSTED": (full, full + unseen),
        "CANCELLED": (0, unseen),
        "DEADLINE_EXCEEDED": (0, unseen),
    }
    rows = [(name, *known.get(name, (0, 0)), ended[name]) for name in sorted({*known, *ended})]
    all_seen = sum(least for least, _ in known.values())
    rows.append(("all that ended", all_seen, all_seen + unseen, ended.total()))
    received = round(counts["ctr_tf_received_calls_total", "", ""])
    least, most = ended.total(), all_seen + unseen + oversized
    return [*rows, ("all that began", least, most, received)]


def verdicts(load: Load) -> list[tuple[str, bool | None, str]]:
    """Each rule, whether it is kept, None where that is not judged, and its figures."""
    tally = load.tally
    told = ("ctr_tf_swaps_total", "ctr_tf_load_failures_total")
    swaps, load_failures = (round(load.counts[name, "", ""]) for name in told)
    rows = agreement(tally.statuses, load.counts)
    off = [name for name, least, most, counted in rows if not least <= counted <= most]
    bad = sum(n for (kind, _), n in tally.statuses.items() if kind in ("oversized", "malformed"))
    found = memory(load)
    flat, figures = None, f"not judged of fewer than {LEAST_PERIODS} periods"
    if found is not None:
        grown, share, growth = found
        flat = share <= MOST_SLOPE and growth <= MOST_GROWTH
        figures = (
            f"the least of a period grows by {grown:+.2f} MiB a period over the second half "
            f"({share:+.2%}, at most {MOST_SLOPE:.1%}); the most of the last fifth is "
            f"{growth:.3f} of that of the first fifth after the first period (at most "
            f"{MOST_GROWTH:g})"
        )
    return [
        (
            "no wrong score", not tally.wrong,
            f"{len(tally.answers):,} answers within {tally.worst:.1e} of offline scores "
            f"(at most {TOLERANCE:g}), of a version that may answer; {len(tally.wrong)} others",
        ),
        ("no lost good request", not tally.lost, f"{len(tally.lost)} lost"),
        (
            "bad requests refused cleanly", not tally.unclean,
            f"{bad:,} oversized and malformed ones; {len(tally.unclean)} ended otherwise",
        ),
        ("memory flat", flat, figures),
        (
            "swaps", swaps == len(load.swaps) and not load_failures,
            f"{swaps} by the server's count, {len(load.swaps)} made; {load_failures} did not load",
        ),
        ("the server's counts are the clients'", not off, f"apart: {', '.join(off) or 'none'}"),
        (
            "the server ends as it should", load.exit_status == 0,
            f"exit status {load.exit_status}",
        ),
    ]  # fmt: skip
