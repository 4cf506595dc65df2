"""The table and the plot of step time over the rows of the tables."""

import csv

from benchmarks import table_size


def run(millions, side, repeat, rate=None, outcome="done"):
    found = {
        "workload": f"rows_{millions}m", "side": side, "repeat": repeat, "outcome": outcome,
        "machine": "2 cores of X",
    }  # fmt: skip
    return found | ({"samples_per_second": rate, "peak_mib": 1024 * millions} if rate else {})


def test_medians_ratio_and_what_does_not_fit(tmp_path):
    runs = [run(1, "ours", i + 1, rate) for i, rate in enumerate((20480.0, 40960.0, 40960.0))]
    runs += [run(10, "ours", 1, 40960.0), run(50, "ours", 1, 32768.0)]
    runs += [run(1, "keras", 1, 4096.0), run(50, "keras", 1, outcome="out of memory")]
    page = table_size.write(tmp_path, runs).read_text()
    assert (
        "| ctr_tf, lazy Adam | 100 ms, 1.0 GiB | 100 ms, 10.0 GiB | 125 ms, 50.0 GiB | 1.25 |"
        in page
    )
    assert "| Keras `fit`, Adam | 1,000 ms, 1.0 GiB | not run | out of memory |  |" in page
    assert "Medians of 3 runs" in page
    with (tmp_path / "table_size.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["step_ms"] for r in rows][:2] == ["200.0", "100.0"] and len(rows) == 7
    assert "does not fit" in (tmp_path / "table_size.svg").read_text()
