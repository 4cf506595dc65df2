"""What the README says of the repository."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_folder_is_listed():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("| folder | holds |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in table.splitlines()]
    listed = set()
    for first, *others in rows:
        parent = first.rstrip("/").rpartition("/")[0]
        listed |= {first.rstrip("/"), *(f"{parent}/{name}" for name in others)}
    packages = {
        str(path.parent.relative_to(ROOT))
        for pattern in ("*/__init__.py", "ctr_tf/*/__init__.py")
        for path in ROOT.glob(pattern)
    }
    # A library is listed by its parts.
    assert listed == (packages - {"ctr_tf"}) | {"configs", "benchmarks"}
