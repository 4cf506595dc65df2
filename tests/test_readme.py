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


def test_measured_rows_are_those_of_the_result_pages():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    measured = text.partition("\n## Measured\n")[2].partition("\n## ")[0]
    rows = {line for line in measured.splitlines() if line.startswith("| `")}
    pages = (ROOT / "benchmarks" / "results").glob("*.md")
    found = {line for page in pages for line in page.read_text(encoding="utf-8").splitlines()}
    # Of every baseline, on two datasets, and of those of the other library.
    assert len(rows) > 40 and rows <= found
