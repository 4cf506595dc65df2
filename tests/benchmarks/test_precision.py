"""Sizes of one table in each type, and the page."""

import csv
import doctest

from benchmarks import precision


def row(tables, dense="float32", **given):
    found = {
        "model": "din", "tables": tables, "dense": dense, "tables_bytes": 18_000,
        "tables_float32_bytes": 64_000, "bytes": 30_000, "float32_bytes": 76_000, "call_ms": 1.5,
        "environment": "2 cores of X",
    }  # fmt: skip
    return found | given


def test_examples():
    found = doctest.testmod(precision)
    assert found.attempted and not found.failed


def test_bytes_of_a_table_of_hashed_ids_and_of_a_vocabulary():
    rows = 50_000
    for hashed in (True, False):
        found = list(precision.large_table(rows, 16, hashed))
        assert [each["tables"] for each in found] == ["float32", "float16", "int8"]
        assert [each["tables_bytes"] for each in found] == [rows * 64, rows * 32, rows * 18]
        # Ids of eight digits, a line each.
        assert found[0]["vocabulary_bytes"] == (0 if hashed else (rows - 2) * 9)
        whole, int8 = found[0]["bytes"], found[2]["bytes"]
        assert found[2]["times_smaller"] == whole / int8 and whole - int8 > rows * 45


def test_the_page_and_its_verdicts(tmp_path):
    changes = {
        "rows": 10, "auc_before": 0.75, "auc_change": -0.0004, "auc_low": -0.0006,
        "auc_high": -0.0001, "log_loss_change": 0.00001, "score_largest": 0.01,
        "score_mean": 0.001,
    }  # fmt: skip
    rows = [row("float32"), row("int8", **changes), row("int8", "bfloat16", **changes)]
    large = [
        {"ids": "hashed", "rows": 5_000_000, "width": width, "tables": "int8",
         "tables_bytes": 90_000_000, "vocabulary_bytes": 0, "bytes": 100_000_000,
         "times_smaller": times}
        for width, times in ((16, 2.9), (32, 3.0))
    ]  # fmt: skip
    said = precision.write(tmp_path, rows, large).read_text()
    assert "| din | float32 | float32 | 18 | 3.56 | 30 |  |  |  |  | 1.50 |" in said
    assert (
        "| din | int8 | float32 | 18 | 3.56 | 30 | 0.749600 | -0.000400 [-0.000600, -0.000100] "
        "| +0.000010 | 0.01000 | 1.50 |"
    ) in said
    assert "int8 tables: AUC within 0.000400, bar 0.0005: PASS." in said
    assert "int8, hashed ids, width 16: 2.90 times smaller, bar 3: MISS." in said
    assert "int8, hashed ids, width 32: 3.00 times smaller, bar 3: PASS." in said
    with (tmp_path / "precision.csv").open() as file:
        assert [each["auc_change"] for each in csv.DictReader(file)] == ["", "-0.0004", "-0.0004"]
    worse = [row("int8", **changes | {"auc_change": 0.0005})]
    assert "AUC within 0.000500, bar 0.0005: MISS." in "\n".join(precision.page(worse, large))
