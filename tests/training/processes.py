"""Training runs in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def start(folder: Path, options: dict, **environment: str) -> subprocess.Popen:
    """Starts `run_training.py`; see there for the options."""
    variables = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
        **environment,
    }
    command = [
        sys.executable, "-m", "tests.training.run_training", str(folder), json.dumps(options),
    ]  # fmt: skip
    return subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(*processes: subprocess.Popen, code: int = 0) -> None:
    """Waits for the exit code, within a bounded time."""
    try:
        for process in processes:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == code, output[-4000:]
    finally:
        for process in processes:
            process.kill()


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
