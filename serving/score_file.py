"""Scores a file of requests through a running server.

    python -m serving.score_file --target 127.0.0.1:8500 --model films --schema schema.json \
        --input requests.jsonl --output scores.jsonl

A line of the input is `{"values": {...}}`, as `Client.score` takes them, with an `id` of any kind.
The output has a line for each, in order: `{"line", "id", "scores"}`, or `{"line", "id", "error"}`
of a request that is wrong. What was scored before the job was killed is not scored again, unless
another version is served by then: all scores of a file are of one.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import json
import os
import sys
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ctr_tf.schema import Schema
from serving.asking import newest_available
from serving.client import AsyncClient

# What is wrong with one request; anything else is wrong with the server.
_OF_THE_REQUEST = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
# Seconds: RESOURCE_EXHAUSTED is a full queue, or a request that is too large.
_PAUSES = (0.1, 0.3, 1.0, 3.0)

Scores = dict[str, np.ndarray]


async def score_file(
    client: AsyncClient,
    schema: Schema,
    source: Path,
    output: Path,
    origin: str,
    concurrency: int = 8,
    timeout: float = 30.0,
    progress: bool = True,
) -> dict[str, int]:
    """Scores every line by the newest version that is served; the output appears when it is whole.

    Args:
        client: of the model, with its schema.
        schema: of the model.
        source: JSON lines, gzipped where the name ends in `.gz`.
        output: JSON lines.
        origin: the model and where it is served: what was scored of another is not gone on with.
        concurrency: requests at a time.
        timeout: seconds of each.
        progress: whether a bar is shown.

    Returns:
        `scored` and `rejected`, of all lines of the output.

    Raises:
        ValueError: no version is available.
        RuntimeError: the file is cut short.
        grpc.RpcError: the server cannot answer; the next call goes on from there.
    """
    version = newest_available(await client.status())
    fingerprint = _fingerprint(schema, source, origin, version)
    partial = output.with_name(f".{output.name}.{fingerprint}.partial")
    counts = {"scored": 0, "rejected": 0}
    waiting: deque[tuple[int, asyncio.Task]] = deque()
    with partial.open("a+b") as file, _progress(source, progress) as show:
        done = _whole_lines(file, counts)

        async def write_first() -> None:
            at, task = waiting.popleft()
            found = await task
            counts["rejected" if "error" in found else "scored"] += 1
            file.write(json.dumps(found).encode() + b"\n")
            show(at)

        try:
            for number, (at, line) in enumerate(_lines(source), start=1):
                if number <= done:
                    continue
                if len(waiting) == concurrency:
                    await write_first()
                answer = _answer(client, number, line, version, timeout)
                waiting.append((at, asyncio.create_task(answer)))
            while waiting:
                await write_first()
        finally:
            for _, task in waiting:
                task.cancel()
    os.replace(partial, output)
    return counts


async def _answer(
    client: AsyncClient, number: int, line: bytes, version: int, timeout: float
) -> dict[str, Any]:
    found: dict[str, Any] = {"line": number, "id": None}
    try:
        request = json.loads(line)
        if not isinstance(request, dict) or not isinstance(request.get("values"), dict):
            raise ValueError("a line must be an object with an object `values`")
        found["id"] = request.get("id")
        scores = await _patiently(
            lambda: client.score(request["values"], timeout=timeout, version=version)
        )
    except ValueError as error:
        return found | {"error": str(error)}
    except grpc.RpcError as error:
        if error.code() not in _OF_THE_REQUEST:
            raise
        return found | {"error": f"{error.code().name}: {error.details()}"}
    return found | {"scores": {task: own.tolist() for task, own in scores.items()}}


async def _patiently(ask: Callable[[], Awaitable[Scores]]) -> Scores:
    """Asks again after growing pauses where the server's queue is full."""
    for pause in _PAUSES:
        try:
            return await ask()
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
        await asyncio.sleep(pause)
    return await ask()


def _lines(source: Path) -> Iterator[tuple[int, bytes]]:
    """Lines, each with the bytes of the file that are read by then."""
    number = 0
    with source.open("rb") as raw:
        try:
            for line in gzip.open(raw) if source.suffix == ".gz" else raw:
                number += 1
                yield raw.tell(), line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise RuntimeError(f"{source}: damaged behind line {number}: {error}") from error


def _whole_lines(file, counts: dict[str, int]) -> int:
    """Counts what an earlier call wrote, and cuts off a line that was cut short."""
    file.seek(0)
    number = end = 0
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            file.truncate(end)
            number -= 1
            break
        end += len(line)
        counts["rejected" if "error" in json.loads(line) else "scored"] += 1
    return number


def _fingerprint(schema: Schema, source: Path, origin: str, version: int) -> str:
    """Of all that an output depends on."""
    stat = source.stat()
    file = str(source.absolute()), stat.st_size, stat.st_mtime_ns
    parts = [schema.fingerprint, *file, origin, version]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


@contextmanager
def _progress(source: Path, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar over the bytes of the file; gives what moves it."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not shown) as bar:
        task = bar.add_task(source.name, total=source.stat().st_size)
        yield lambda done: bar.update(task, completed=done)


async def _main(given: argparse.Namespace) -> dict[str, int]:
    schema = Schema.from_json(given.schema.read_text(encoding="utf-8"))
    async with AsyncClient(given.target, given.model, schema) as client:
        await client.wait(timeout=10)
        return await score_file(
            client,
            schema,
            given.input,
            given.output,
            f"{given.model} at {given.target}",
            given.concurrency,
            given.timeout,
        )


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; 0 when every line has its answer."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.score_file", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--target", default="127.0.0.1:8500")
    parser.add_argument("--model", required=True)
    parser.add_argument("--schema", required=True, type=Path, help="schema.json of the export")
    parser.add_argument("--input", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--concurrency", type=int, default=8, help="requests at a time")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds of a request")
    given = parser.parse_args(arguments)
    if given.concurrency < 1:
        parser.error(f"--concurrency: must be at least 1, got {given.concurrency}")
    try:
        counts = asyncio.run(_main(given))
    except TimeoutError:
        print(f"error: no server at {given.target}", file=sys.stderr)
        return 1
    except grpc.RpcError as error:
        print(f"error: {error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    except (RuntimeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rejected = f"; {counts['rejected']:,} rejected, `error` says why" * bool(counts["rejected"])
    print(f"{given.output}: {counts['scored']:,} requests scored{rejected}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
