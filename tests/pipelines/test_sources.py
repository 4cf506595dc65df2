"""Every format yields the same rows; what is wrong with a file is said with its name."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_tf.data.config import Source
from pipelines.transforms.errors import PrepareError, RejectError
from pipelines.transforms.sources import available, list_files, read_rows
from pipelines.transforms.values import timestamp
from tests.pipelines.jobs import write_csv

COLUMNS = ["id", "title"]
ROWS = [["1", "plain"], ["2", 'quoted "and", with commas'], ["3", "été"]]


def read(root, **source):
    files = list_files(Source(**source), root, "prepare.impressions")
    return [row for file in files for row in read_rows(file, COLUMNS)]


def test_formats_yield_equal_rows(tmp_path):
    write_csv(tmp_path / "a.csv", COLUMNS, ROWS)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    lines = ["\t".join(row) for row in [COLUMNS, *ROWS]]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n")
    objects = [json.dumps(dict(zip(COLUMNS, row))) for row in ROWS]
    (tmp_path / "a.jsonl").write_text("\n".join(objects))
    pq.write_table(pa.table(dict(zip(COLUMNS, zip(*ROWS)))), tmp_path / "a.parquet")
    expected = [tuple(row) for row in ROWS]
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    positions = {}
    for name in ("a.csv", "a.csv.gz", "a.tsv", "a.jsonl", "a.parquet", "a.parquet.gz"):
        rows = read(tmp_path, path=name)
        assert [row.values for row in rows] == expected, name
        positions[name] = [row.position for row in rows]
    assert positions["a.csv"] == positions["a.csv.gz"] == positions["a.tsv"] == [2, 3, 4]
    assert positions["a.jsonl"] == [1, 2, 3]
    assert positions["a.parquet"] == positions["a.parquet.gz"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("unit", "values", "expected"),
    [
        ("s", [0, None, -1], [0, None, -1_000_000]),
        ("us", [1, 2**62], [1, "beyond"]),
        ("ns", [1577836800000000001, -1], [1577836800000000, -1]),
    ],
)
def test_parquet_timestamps_of_every_unit_and_year(tmp_path, unit, values, expected):
    times = pa.array(values, pa.int64())
    for zone in (None, "Europe/Berlin"):
        table = pa.table({"id": times.cast(pa.timestamp(unit, zone)), "title": times})
        pq.write_table(table, tmp_path / "a.parquet")
        for row, wanted in zip(read(tmp_path, path="a.parquet"), expected, strict=True):
            if wanted == "beyond":
                with pytest.raises(RejectError, match="t: not an ISO 8601 time"):
                    timestamp(row.values[0], "t", "iso")
            elif wanted is None:
                assert row.values[0] is None
            else:
                assert timestamp(row.values[0], "t", "iso") == wanted


def test_a_parquet_column_that_python_cannot_hold_is_named(tmp_path):
    nanoseconds = pa.array([1, 2], pa.int64()).cast(pa.duration("ns"))
    pq.write_table(pa.table({"id": nanoseconds, "title": ["x", "y"]}), tmp_path / "a.parquet")
    message = r"a\.parquet: unreadable file after row 0: column 'id' of type duration\[ns\]: "
    with pytest.raises(PrepareError, match=message):
        read(tmp_path, path="a.parquet")


def test_stated_columns_that_a_parquet_file_lacks(tmp_path):
    pq.write_table(pa.table({"id": [1], "titel": ["x"]}), tmp_path / "a.parquet")
    message = r"impressions\.columns: a\.parquet has no column 'title'; columns: id, titel"
    with pytest.raises(PrepareError, match=message):
        read(tmp_path, path="a.parquet", columns=COLUMNS)


@pytest.mark.parametrize("content", ['[{"id": 1}]', '[\n  {\n    "id": 1\n  }\n]\n'])
@pytest.mark.parametrize("columns", [None, COLUMNS])
def test_a_json_array_is_told_as_such(tmp_path, content, columns):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(PrepareError, match=r"a\.jsonl: a JSON array; JSON lines hold one object"):
        read(tmp_path, path="a.jsonl", columns=columns)


def test_positions_are_lines_even_when_fields_hold_line_breaks(tmp_path):
    write_csv(tmp_path / "a.csv", COLUMNS, [["1", "two\nlines"], ["2", "x"], ["3"], ["4", "y"]])
    rows = read(tmp_path, path="a.csv")
    assert [(row.position, row.problem) for row in rows] == [
        (2, ""),
        (4, ""),
        (5, "expected 2 fields"),
        (6, ""),
    ]
    assert rows[2].raw == ["3"]


def test_stated_columns_mean_no_header(tmp_path):
    (tmp_path / "a.csv").write_text("1,x\n2,y\n")
    rows = read(tmp_path, path="a.csv", columns=COLUMNS)
    assert [(row.position, row.values) for row in rows] == [(1, ("1", "x")), (2, ("2", "y"))]


def test_jsonl_problems_are_of_one_line(tmp_path):
    lines = ['{"id": 1, "title": null}', "not json", "[1]", "", '{"id": 2}', "[" * 10**5]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    rows = read(tmp_path, path="a.jsonl")
    assert [(row.position, row.values, row.problem) for row in rows] == [
        (1, (1, None), ""),
        (2, (), "not JSON"),
        (3, (), "not a JSON object"),
        (5, (2, None), ""),
        (6, (), "not JSON"),
    ]


def test_globs_are_in_order_of_names(tmp_path):
    for name in ("b", "a"):
        write_csv(tmp_path / f"{name}.csv", [*COLUMNS, name], [[name, "x", "y"]])
    files = list_files(Source(path="*.csv"), tmp_path, "prepare.impressions")
    assert [(file.number, file.name) for file in files] == [(0, "a.csv"), (1, "b.csv")]
    assert available(files) == COLUMNS


def test_truncated_gzip_names_file_and_line(tmp_path):
    rows = [[str(n), f"title {n * 7919 % 10007}"] for n in range(50_000)]
    whole = gzip.compress(write_csv(tmp_path / "a.csv", COLUMNS, rows).read_bytes())
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PrepareError, match=r"a\.csv\.gz: truncated gzip file after line \d{4,}"):
        read(tmp_path, path="a.csv.gz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"id,title,id\n", "a.csv: duplicate column in the header: id"),
        ("a.csv", b"", "a.csv: the file is empty"),
        ("a.txt", b"id\n", "ends in none of .csv, .tsv"),
        (
            "a.csv.gz",
            gzip.compress(b"id,title\n1,x\n", mtime=0)[:6],
            "a.csv.gz: unreadable csv file",
        ),
        ("a.parquet", b"PAR1 not really", "a.parquet: unreadable parquet file"),
    ],
)
def test_unusable_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PrepareError, match=message):
        list_files(Source(path=name), tmp_path, "prepare.impressions")


def test_no_file_matches(tmp_path):
    with pytest.raises(PrepareError, match=r"prepare\.users\.path: no file matches"):
        list_files(Source(path="none-*.csv"), tmp_path, "prepare.users")


def test_oversized_field_is_an_error_with_its_place(tmp_path):
    (tmp_path / "a.csv").write_text("id,title\n1,x\n2," + "y" * (csv.field_size_limit() + 1))
    with pytest.raises(PrepareError, match="a.csv: unreadable file after line 2: field larger"):
        read(tmp_path, path="a.csv")


def test_text_after_a_closing_quote_is_of_one_row(tmp_path):
    (tmp_path / "a.csv").write_text('id,title\n1,"a"b\n2,fine "as is"\n')
    rows = read(tmp_path, path="a.csv")
    assert [(row.position, row.values, row.problem) for row in rows] == [
        (2, (), "text after a closing quote"),
        (3, ("2", 'fine "as is"'), ""),
    ]


def test_rows_that_a_stray_quote_swallows_are_told_by_their_lines(tmp_path):
    (tmp_path / "a.csv").write_text('id,title\n1,"stray\n2,x\n3,"y\n4,z\n')
    rows = read(tmp_path, path="a.csv")
    assert [(row.position, row.raw, row.lines) for row in rows] == [
        (2, "lines 2 to 4", 3),
        (5, None, 1),
    ]


def test_a_quote_that_is_never_closed_is_an_error(tmp_path):
    (tmp_path / "a.csv").write_text('id,title\n1,x\n2,"swallows\n3,the\n4,rest\n')
    with pytest.raises(PrepareError, match="a.csv: unreadable file after line 2: unexpected end"):
        read(tmp_path, path="a.csv")


def test_spaces_are_stripped_and_missing_texts_are_empty(tmp_path):
    (tmp_path / "a.csv").write_text("1, plain\n ?,NULL\n3 , ? \n")
    source = {"path": "a.csv", "columns": COLUMNS}
    found = read(tmp_path, **source, strip=True, missing=["?", "NULL"])
    assert [row.values for row in found] == [("1", "plain"), ("", ""), ("3", "")]
    assert [row.values for row in read(tmp_path, **source)] == [
        ("1", " plain"),
        (" ?", "NULL"),
        ("3 ", " ? "),
    ]
