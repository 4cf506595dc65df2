"""Logs of repeated users, and the table and the plot of what preparing them took."""

import csv

import pytest

from benchmarks import preparation


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    ratings = [f"{user},film,4,{user}{n}" for user, rows in ((1, 2), (2, 3)) for n in range(rows)]
    write(folder / "ratings.csv", "user_id,item_id,rating,timestamp", *ratings)
    write(folder / "users.csv", "user_id,gender,age,occupation", "1,F,1,10", "2,M,56,16")
    write(folder / "items.csv", "item_id,genres", "film,Drama")
    return folder


@pytest.mark.parametrize(
    ("wanted", "made", "users"),
    [
        (1, 2, ["1,F,1,10"]),
        (3, 5, ["1,F,1,10", "2,M,56,16"]),
        (5, 5, ["1,F,1,10", "2,M,56,16"]),
        (6, 7, ["1,F,1,10", "2,M,56,16", "3,F,1,10"]),
    ],
)
def test_a_log_has_whole_users(source, tmp_path, wanted, made, users):
    log = tmp_path / "log"
    assert preparation.make_log(source, log, wanted) == made
    ratings = (log / "ratings.csv").read_text().splitlines()
    assert len(ratings) == made + 1 and len(set(ratings)) == made + 1
    assert (log / "users.csv").read_text().splitlines() == ["user_id,gender,age,occupation", *users]
    assert (log / "items.csv").read_text() == (source / "items.csv").read_text()


def test_copies_differ_in_the_users_id_alone(source, tmp_path):
    preparation.make_log(source, tmp_path / "log", 10)
    with (tmp_path / "log" / "ratings.csv").open() as file:
        _, *rows = csv.reader(file)
    assert [row[0] for row in rows] == list("1122233444")
    assert [row[1:] for row in rows[5:]] == [row[1:] for row in rows[:5]]


def run(rows, repeat, cpu_seconds, peak_mib):
    return {
        "wanted": rows, "rows": rows + 9, "repeat": repeat, "outcome": "done",
        "requests": rows // 2, "rows_per_core_second": (rows + 9) / cpu_seconds,
        "cpu_seconds": cpu_seconds, "wall_seconds": 2 * cpu_seconds, "peak_mib": peak_mib,
        "machine": "2 cores of X",
    }  # fmt: skip


def test_medians_slope_and_what_took_too_long(tmp_path):
    runs = [run(10**5, n + 1, seconds, 250) for n, seconds in enumerate((5.0, 9.0, 6.0))]
    runs += [run(10**6, 1, 46.5, 500)]
    runs += [{"wanted": 10**7, "rows": 10**7, "repeat": 1, "outcome": "out of time"}]
    page = preparation.write(tmp_path, runs).read_text()
    assert "| 100,009 | 50,000 | 16,668 | 6.0 | 12.0 | 250 | 2,621 |" in page
    assert "| 1,000,009 | 500,000 | 21,506 | 46.5 | 93.0 | 500 | 524 |" in page
    assert "| 10,000,000 | out of time |" in page
    assert "45.0 core seconds more for a million rows, and 291 bytes more memory a row" in page
    assert "Medians of 3 runs" in page
    with (tmp_path / "preparation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["cpu_seconds"] for row in rows] == ["5.0", "9.0", "6.0", "46.5", ""]
    assert "peak memory" in (tmp_path / "preparation.svg").read_text()


def test_a_job_of_its_own_is_measured(source, tmp_path):
    log = tmp_path / "log"
    preparation.make_log(source, log, 200)
    found = preparation.measure(log, tmp_path / "workspace", limit=300)
    assert found["outcome"] == "done" and found["requests"] == 200
    assert 0.1 < found["cpu_seconds"] and found["peak_mib"] > 50
