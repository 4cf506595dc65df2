"""Architectures are read without any framework."""

import os
import subprocess
import sys
from pathlib import Path

from ctr_tf import registry

ROOT = Path(__file__).parents[2]
LIGHT = """
import sys
from ctr_tf import registry
names = sorted(registry.entries())
heavy = {"tensorflow", "keras", "apache_beam"} & set(sys.modules)
assert not heavy, heavy
print(*names)
"""


def test_importing_every_architecture_loads_no_framework():
    result = subprocess.run(
        [sys.executable, "-c", LIGHT],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == list(registry.entries())
