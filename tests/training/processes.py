"""Training runs in processes of their own."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import socket
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

# Processes are forked from one that has done nothing but import TensorFlow, which takes seconds.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tensorflow", "keras"])
_SECONDS = 120
_NUMBER = itertools.count()


def start(folder: Path, options: dict, **environment: str) -> BaseProcess:
    """Starts `run_training.main`; see there for the options."""
    log = str(folder.parent / f"{folder.name}_{next(_NUMBER)}.log")
    process = _CONTEXT.Process(
        target=_run, name=log, args=(str(folder), options, log, environment), daemon=True
    )
    process.start()
    return process


def _run(folder: str, options: dict, log: str, environment: dict[str, str]) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(environment)
    from tests.training.run_training import main

    main(folder, options)


def finish(*processes: BaseProcess, code: int = 0) -> None:
    """Waits for the exit code, within a bounded time."""
    try:
        for process in processes:
            process.join(_SECONDS)
            assert process.exitcode == code, Path(process.name).read_text()[-4000:]
    finally:
        for process in processes:
            process.kill()


def worker_tasks(count: int) -> list[str]:
    """TF_CONFIG of each of several workers, on ports that are free."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    cluster = {"worker": [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]}
    for each in sockets:
        each.close()
    tasks = [{"type": "worker", "index": index} for index in range(count)]
    return [json.dumps({"cluster": cluster, "task": task}) for task in tasks]


def weights(folder: Path, index: int = 0) -> list[np.ndarray]:
    """The final weights of worker `index`."""
    with np.load(folder / f"weights_{index}.npz") as found:
        return [found[name] for name in sorted(found.files)]


def result(folder: Path) -> dict:
    """The result of the first worker."""
    return json.loads((folder / "result_0.json").read_text())


def history(folder: Path) -> list[dict]:
    """The records of a run."""
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
