"""The bodies under Keras's JAX backend, on the CPU: TensorFlow's scores; the benchmark's page."""

import csv
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.folding_cases import model_of, request
from benchmarks.training import environment

ROOT = Path(__file__).parents[2]
MODELS = ("srp4ctr", "din", "bst", "dcn_v2", "can")
# An environment of its own, which has no TensorFlow.
pytestmark = pytest.mark.long
SCORES = """
import sys
import numpy as np
from benchmarks.folding_cases import model_of, request
assert "tensorflow" not in sys.modules
found = np.load(sys.argv[1])
for name in sys.argv[2:]:
    model = model_of(name, 6)
    model.set_weights([found[f"{name}/{i}"] for i in range(len(model.weights))])
    scores = np.asarray(model(request(model, 6, 5))["like"])
    np.testing.assert_allclose(scores, found[name], rtol=1e-4, atol=1e-6)
    print(name, scores.shape)
"""


def run(*arguments):
    variables = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [environment("jax"), *map(str, arguments)],
        env=variables | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_bodies_score_alike_under_jax(tmp_path):
    arrays = {}
    for name in MODELS:
        model = model_of(name, 6)
        arrays |= {f"{name}/{i}": weight for i, weight in enumerate(model.get_weights())}
        arrays[name] = np.asarray(model(request(model, 6, 5))["like"])
        assert len(np.unique(arrays[name].round(4))) == 5
    np.savez(tmp_path / "weights.npz", **arrays)
    found = run("-c", SCORES, tmp_path / "weights.npz", *MODELS)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split("\n")[:-1] == [f"{name} (1, 5)" for name in MODELS]


def test_the_table_and_the_plot(tmp_path):
    sizes = "--lengths 2 6 --candidates 5 --repeats 2 --seconds 0".split()
    output = ["--output", tmp_path]
    script = ROOT / "benchmarks" / "folding_gpu.py"
    found = run(script, "--models", "dcn_v2", *sizes, *output)
    assert found.returncode == 0, found.stderr
    with (tmp_path / "folding_gpu.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["length"], row["repeat"]) for row in rows] == [
        ("2", "1"), ("2", "2"), ("6", "1"), ("6", "2"),
    ]  # fmt: skip
    assert all(float(row["difference"]) < 1e-4 and row["row_wise_calls"] == "1" for row in rows)
    page = (tmp_path / "folding_gpu.md").read_text(encoding="utf-8")
    assert "cpu, JAX " in page and "| dcn_v2 | 6 | 5 | " in page
    assert "<!-- dcn_v2 -->" in (tmp_path / "folding_gpu.svg").read_text(encoding="utf-8")
