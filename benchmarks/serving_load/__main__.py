"""The local server under mixed load, with a version swap each minute.

    python -m benchmarks.serving_load --workspace workspace

Good calls in several ways, callers that give up or vanish, late, oversized and malformed messages,
to a server in a process of its own, on loopback. Every answer is compared with offline scores of
the version that it names. Judged is that no score is wrong, no good request is lost, every bad one
is refused cleanly, memory stays flat, and that the server counted what the clients saw.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from rich.progress import Progress

from benchmarks.serving_load.caller import Caller, Tally
from benchmarks.serving_load.figures import Load, Sample, verdicts
from benchmarks.serving_load.messages import NAME, prepare
from benchmarks.serving_load.page import write
from benchmarks.serving_load.versions import Versions, served, settled
from benchmarks.training import ROOT


def run(workspace: Path, seconds: float, period: float, clients: int) -> Load:
    """Puts a server under load; whatever ends the run ends the server, too.

    Args:
        workspace: where exports are kept meanwhile.
        seconds: how long the load lasts.
        period: seconds from one swap to the next.
        clients: each with connections of its own.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="serving_load-", dir=workspace.absolute()) as place:
        folder = Path(place)
        exports, prepared = prepare(folder)
        versions = Versions(exports, folder / NAME)
        with served(versions.folder, folder / "log") as (process, port, page_port):
            versions.label(port, versions.newest)
            stop, samples, swaps = threading.Event(), [], []
            callers = [Caller(port, versions, prepared, n, stop) for n in range(clients)]
            with ThreadPoolExecutor(clients + 1) as pool, Progress() as progress:
                task, began = progress.add_task("load", total=seconds), time.monotonic()
                calling = [pool.submit(caller.run, began) for caller in callers]
                try:
                    while (now := time.monotonic() - began) < seconds:
                        if failed(calling, swaps):
                            break
                        due = now >= period * (len(swaps) + 1)
                        if due and all(each.done() for each in swaps):
                            swaps.append(pool.submit(versions.swap, port, now))
                        rss = process.memory_info().rss / 2**20
                        samples.append(Sample(now, rss, versions.newest))
                        lost = sum(len(c.tally.lost) + len(c.tally.wrong) for c in callers)
                        said = f"version {versions.newest}, {rss:,.0f} MiB, {lost} lost or wrong"
                        progress.update(task, completed=now, description=said)
                        stop.wait(1.0)
                finally:
                    stop.set()
            for each in (*calling, *swaps):
                each.result()
            counts = settled(page_port)
        tally = Tally()
        for caller in callers:
            tally.add(caller.tally)
    return Load(seconds, period, tally, samples, versions.swaps, counts, process.returncode)


def failed(calling: Sequence[Future], swaps: Sequence[Future]) -> bool:
    """Whether a client has ended, or a swap by an error."""
    return any(each.done() for each in calling) or any(
        each.done() and each.exception() for each in swaps
    )


def main() -> int:
    """The command line; returns 1 where a rule is not kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving_load", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--swap-seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    # As SIGINT does, so that the server is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        load = run(options.workspace, options.seconds, options.swap_seconds, options.clients)
    except KeyboardInterrupt:
        print("interrupted: nothing is written", file=sys.stderr)
        return 130
    command = (
        "python -m benchmarks.serving_load --workspace workspace "
        f"--seconds {options.seconds:g} --swap-seconds {options.swap_seconds:g} "
        f"--clients {options.clients}"
    )
    print(write(options.output, load, command).read_text(encoding="utf-8"))
    return 0 if all(kept is not False for _, kept, _ in verdicts(load)) else 1


if __name__ == "__main__":
    sys.exit(main())
