"""CONTRIBUTING's five steps, followed as they stand, make a model that passes every contract."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_model_is_added_in_five_steps(tmp_path):
    for name in ("ctr_tf", "tests", "configs", "serving", "pipelines", "pyproject.toml"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.pyc"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w+ (append )?(\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    for append, name, block in blocks:
        path = tmp_path / name
        assert path.exists() == bool(append)
        with path.open("a", encoding="utf-8") as file:
            file.write(block)
    tests = ["tests/contracts/test_models.py", "tests/models/test_mean_mlp.py"]
    tests += ["tests/test_config.py", "ctr_tf/models/interaction/mean_mlp.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "mean_mlp or MeanMLP", *tests],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    passed = int(re.search(r"(\d+) passed", done.stdout).group(1))
    # Over three kinds of log, plus its own test, its config and its doctest.
    assert passed > 30
    assert "failed" not in done.stdout
