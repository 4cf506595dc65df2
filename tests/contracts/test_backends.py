"""Architectures import without Keras, and run on a backend other than TensorFlow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ctr_tf import registry
from tests.cases import CASES, batch, build

ROOT = Path(__file__).parents[2]
LIGHT = """
import sys
from ctr_tf import registry
names = sorted(registry.entries())
heavy = {"tensorflow", "keras", "apache_beam"} & set(sys.modules)
assert not heavy, heavy
print(*names)
"""
OTHER = """
import json, sys
import numpy as np
from ctr_tf import registry
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import Schema

folder = sys.argv[1]
for name, saved in json.load(open(f"{folder}/models.json")).items():
    files = np.load(f"{folder}/{name}.npz")
    group = lambda kind: {k.split(":")[1]: files[k] for k in files if k.startswith(kind)}
    config = registry.get(name).config(**saved["model"])
    schema = Schema.from_json(saved["schema"])
    model = CTRModel(schema, config, saved["rows"], group("vectors:"))
    model.set_weights(list(group("weight:").values()))
    outputs = model(group("feature:"))
    np.savez(f"{folder}/{name}_outputs.npz", **{k: np.asarray(v) for k, v in outputs.items()})
assert "tensorflow" not in sys.modules
"""


def run(code, *arguments, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_every_architecture_loads_no_framework():
    assert run(LIGHT).split() == list(registry.entries())


def test_outputs_on_the_numpy_backend_are_those_of_tensorflow(rng, tmp_path):
    saved, expected = {}, {}
    for name in registry.entries():
        model, features = build(name, "full", rng), batch("full", rng)
        saved[name] = model.get_config()
        expected[name] = {task: value.numpy() for task, value in model(features).items()}
        arrays = {f"feature:{key}": value for key, value in features.items()}
        arrays |= {f"vectors:{key}": value for key, value in CASES["full"].vectors.items()}
        arrays |= {f"weight:{i:04d}": value for i, value in enumerate(model.get_weights())}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    (tmp_path / "models.json").write_text(json.dumps(saved))
    run(OTHER, tmp_path, KERAS_BACKEND="numpy")
    for name, outputs in expected.items():
        found = np.load(tmp_path / f"{name}_outputs.npz")
        for task, value in outputs.items():
            assert found[task] == pytest.approx(value, abs=1e-5), (name, task)
