"""Workloads as prepared folders; the table of the input's rates and of the bytes."""

import csv
import doctest
import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import input as input_benchmark
from benchmarks.speed import records
from benchmarks.speed.ours import schema_of
from benchmarks.speed.workloads import W1, W2, make
from ctr_tf.data.config import InputConfig
from ctr_tf.data.input import Input


def small(workload, **given):
    return replace(workload, rows=64, batch=16, fields=dict.fromkeys(workload.fields, 20), **given)


def test_examples():
    found = doctest.testmod(records)
    assert found.attempted and not found.failed


@pytest.mark.parametrize("workload", [small(W1), small(W2, length=5)], ids=lambda w: w.name)
def test_records_hold_the_rows(tmp_path, workload):
    arrays, schema = make(workload), schema_of(workload)
    records.write(tmp_path, workload, schema, arrays, np.arange(64)[:, None])
    data = Input(tmp_path, schema, InputConfig(batch_size=workload.batch))
    lines = (tmp_path / "vocabularies" / f"{next(iter(workload.fields))}.txt").read_text().split()
    read = {name: [] for name in ("label", "first", "length")}
    for batch in data.evaluation("train"):
        first = batch["features"][next(iter(workload.fields))].numpy().ravel()
        read["first"] += [int(lines[row - 1]) for row in first]
        read["label"] += batch["labels"]["click"].numpy().ravel().tolist()
        if workload.length:
            read["length"] += batch["features"]["history_mask"].numpy().sum(axis=1).tolist()
    assert sorted(read["first"]) == sorted(arrays[next(iter(workload.fields))].tolist())
    assert sum(read["label"]) == arrays["label"].sum()
    assert sorted(read["length"]) == sorted(arrays.get("length", np.array([])).tolist())


def test_requests_take_a_quarter_of_the_bytes(tmp_path):
    workload = small(replace(W2, rows=64), length=200)
    workload = replace(workload, fields=dict.fromkeys(W2.fields, 5_000))
    arrays = make(workload)
    long = np.flatnonzero(arrays["length"] > 150)
    rows = np.random.default_rng(0).integers(0, 64, (20, 8))
    rows[:, 0] = np.resize(long, 20)
    table = input_benchmark.sizes_of(tmp_path / "x", workload, schema_of(workload), arrays, rows)
    found = {(each["compression"], each["form"]): each["bytes"] for each in table}
    assert found["none", "requests"] < 0.25 * found["none", "row-wise"]
    assert found["gzip", "requests"] < 0.35 * found["gzip", "row-wise"]
    assert {each["impressions"] for each in table} == {160}


def test_tables(tmp_path):
    rates = {"memory": 100.0, "records": 95.0, "alone": 400.0}
    runs = [
        dict.fromkeys(input_benchmark.COLUMNS, 1)
        | {"workload": "w1", "model": "deepfm", "source": source, "samples_per_second": rate}
        | {"cpu_us_per_sample": 2.5, "machine": "2 cores"}
        for source, rate in rates.items()
    ]
    table = [
        dict.fromkeys(input_benchmark.SIZE_COLUMNS, 1)
        | {"compression": compression, "form": form, "bytes_per_impression": size}
        for compression in ("none", "gzip")
        for form, size in (("row-wise", 800.0), ("requests", 120.0))
    ]
    page = input_benchmark.write(tmp_path, runs, table).read_text()
    assert "| W1, DeepFM | 100 | 95 | 95.0% | 400 | 4.0 | 2.5 |" in page
    assert "| plain | 800 | 120 | 0.150 |" in page
    with open(tmp_path / "input.csv", newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == list(rates)


def test_a_finished_run_is_not_repeated(tmp_path, monkeypatch):
    arguments = ["--workspace", str(tmp_path)]
    calls = []

    def done(command, **_):
        calls.append(command)
        line = json.dumps({"samples_per_second": 1.0})
        return type("Done", (), {"stdout": f"noise\n{line}\n"})

    monkeypatch.setattr(input_benchmark.subprocess, "run", done)
    monkeypatch.setattr(input_benchmark, "path", lambda folder, workload: folder)
    options = input_benchmark.parser().parse_args(arguments)
    runs = [input_benchmark.run(options, "w1", "deepfm", "alone", 1) for _ in range(2)]
    assert len(calls) == 1 and runs[0] == runs[1]
