"""Census-income from constructed archives, prepared by its configs, and from the real files."""

import csv
import dataclasses
import gzip
import io
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from ctr_tf import datasets
from ctr_tf.config import load
from ctr_tf.datasets import DatasetError
from ctr_tf.datasets.census_income import CENSUS_INCOME, COLUMNS, TEST, TRAIN
from ctr_tf.datasets.dataset import inspect
from pipelines.prepare import run
from tests.pipelines.jobs import read_split

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "census_income"
REAL = ROOT.parent / "shared" / "data" / "census_income"

# As the files spell them: a space after each comma, one before it here and there, `?` for missing.
PERSON = (
    "73, Not in universe, 0, 0, High school graduate, 0, Not in universe, Widowed, "
    "Not in universe or children, Not in universe, White, All other, Female, Not in universe, "
    "Not in universe, Not in labor force, 0, 0, 0, Nonfiler, Not in universe, Not in universe, "
    "Nonfamily householder, Householder, 1700.09, ?, ?, ?, Not in universe under 1 year old, ?, "
    "0, Not in universe, United-States, United-States, ?, "
    "Foreign born- Not a citizen of U S , 0, Not in universe, 2, 0, 95, - 50000.\n"
)


def person(age, marital="Widowed", income="- 50000."):
    """A line of the files."""
    line = PERSON.replace("73", str(age), 1).replace("Widowed", marital)
    return line.replace("- 50000.", income)


FILES = {
    TRAIN: person(30, income="50000+.") + person(8, "Never married") + person(41),
    TEST: person(51) + person(52, "Never married", "50000+.") + person(53) + person(54),
}
AGES = {"train": ["30", "8", "41"], "validation": ["51", "53"], "test": ["52", "54"]}


def tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, text in files.items():
            content = text if isinstance(text, bytes) else text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def zipped(path, member="census.tar.gz"):
    """The archive as UCI's download wraps it."""
    wrapped = path.with_name("census.zip")
    with zipfile.ZipFile(wrapped, "w") as archive:
        archive.write(path, member)
    return wrapped


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def small(tmp_path):
    """Census-income, but of seven people; its checksum is that of the files as written by hand."""
    folder = tmp_path / "expected"
    folder.mkdir()
    lines = {"train": [FILES[TRAIN]], "validation": [], "test": []}
    for number, line in enumerate(FILES[TEST].splitlines(keepends=True)):
        lines[("validation", "test")[number % 2]].append(line)
    for table, own in lines.items():
        text = "".join(own).replace(", ", ",").replace(" ,", ",").replace("?", "")
        header = ",".join(COLUMNS) + "\n"
        (folder / f"{table}.csv").write_text(header + text.replace(".\n", "\n"))
    return dataclasses.replace(
        CENSUS_INCOME,
        rows={table: len(ages) for table, ages in AGES.items()},
        sha256=inspect(folder, CENSUS_INCOME.tables)[1],
    )


@pytest.mark.parametrize("wrap", [lambda path: path, zipped], ids=["tar.gz", "zip"])
def test_both_of_ucis_archives_give_the_same_rows(tmp_path, small, wrap):
    archive = wrap(tar(tmp_path / "census.tar.gz", FILES))
    folder = small.fetch(tmp_path / "root", progress=False, source=archive)
    tables = {table: read(folder / f"{table}.csv") for table in small.tables}
    assert {table: [row["age"] for row in rows] for table, rows in tables.items()} == AGES
    first = tables["train"][0]
    assert len(first) == 42 and first["income"] == "50000+"
    assert first["country_of_birth_self"] == first["migration_prev_res_in_sunbelt"] == ""
    assert first["citizenship"] == "Foreign born- Not a citizen of U S"
    assert (first["instance_weight"], first["year"]) == ("1700.09", "95")
    assert tables["test"][0]["marital_stat"] == "Never married"


def second(old, new):
    """The training file with a change in its second line."""
    lines = FILES[TRAIN].splitlines(keepends=True)
    assert old in lines[1]
    lines[1] = lines[1].replace(old, new, 1)
    return FILES | {TRAIN: "".join(lines)}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (second("8, ", ""), "census-income.data line 2: expected 42 fields, got 41"),
        (second("8, ", "8, 8, "), "census-income.data line 2: expected 42 fields, got 43"),
        (second("8, ", "old, "), "census-income.data line 2: age must be a number, got 'old'"),
        (second("1700.09", "?"), "line 2: instance_weight must be a number, got '?'"),
        (second("- 50000.", "50000."), r"line 2: income must be one of \(.*\), got '50000'"),
        (second("White", "Whité"), "census-income.data line 2: 'ascii' codec can't decode"),
        (FILES | {TEST: FILES[TEST] + "\n"}, "census-income.test line 5: expected 42 fields"),
        (FILES | {TEST: FILES[TEST] + person(55)}, "validation: expected 2, got 3"),
        (second("White", "Black"), "expected SHA-256 .*, got [0-9a-f]{64}"),
        ({TRAIN: FILES[TRAIN]}, "the archive lacks census-income.test"),
    ],
)
def test_wrong_contents_are_errors_that_name_the_place(tmp_path, small, files, message):
    archive = tar(tmp_path / "census.tar.gz", files)
    with pytest.raises(DatasetError, match=message):
        small.fetch(tmp_path / "root", progress=False, source=archive)
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("keep", [0, 60, -30])
@pytest.mark.parametrize("wrap", [lambda path: path, zipped], ids=["tar.gz", "zip"])
def test_a_truncated_archive_is_named(tmp_path, small, wrap, keep):
    path = wrap(tar(tmp_path / "census.tar.gz", FILES))
    path.write_bytes(path.read_bytes()[:keep])
    message = f"{path.name} is truncated, damaged or no tar or zip archive"
    with pytest.raises(DatasetError, match=message):
        small.fetch(tmp_path / "root", progress=False, source=path)


def test_a_zip_file_of_something_else_is_named(tmp_path, small):
    path = zipped(tar(tmp_path / "census.tar.gz", FILES), member="adult.tar.gz")
    with pytest.raises(DatasetError, match="census.zip lacks census.tar.gz"):
        small.fetch(tmp_path / "root", progress=False, source=path)


def test_terms_and_sources():
    dataset = datasets.get("census_income")
    assert sum(dataset.rows.values()) == 299_285
    assert dataset.description.startswith("299,285 people")
    assert "Attribution 4.0" in dataset.licence and "10.24432/C5N30T" in dataset.citation
    assert all(str(source).startswith("https://archive.ics.uci.edu/") for source in dataset.sources)


@pytest.mark.parametrize(
    ("config", "positives"),
    [
        ("mmoe", {"income": [1, 0, 1], "never_married": [1, 0, 1]}),
        ("income", {"income": [1, 0, 1]}),
        ("never_married", {"never_married": [1, 0, 1]}),
    ],
)
def test_the_configs_prepare_the_published_split(tmp_path, small, config, positives):
    archive = tar(tmp_path / "census.tar.gz", FILES)
    folder = small.fetch(tmp_path / "root", progress=False, source=archive)
    experiment = load(CONFIGS / f"{config}.yaml")
    manifest = run(experiment.log, experiment.prepare, folder, tmp_path / "out")
    splits = [manifest.splits[name] for name in ("train", "validation", "test")]
    assert [split.requests for split in splits] == [split.candidates for split in splits]
    assert [split.requests for split in splits] == [3, 2, 2]
    assert [split.users for split in splits] == [0, 0, 0]
    assert manifest.rejects == {}
    for task in experiment.log.tasks:
        assert [split.positives[task] for split in splits] == positives[task]
    assert set(experiment.log.tasks) == set(positives)
    found = read_split(tmp_path / "out", "test")
    assert found["test.csv:2"]["features/age"] == [52.0]
    assert found["test.csv:2"]["features/country_of_birth_self"] == [""]


def test_the_labels_are_no_inputs_of_the_configs():
    features = load(CONFIGS / "mmoe.yaml").log.features
    labels = {"income", "marital_stat", "education", "instance_weight"}
    assert set(features) == set(COLUMNS) - labels
    assert all(feature.side == "user" for feature in features.values())


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real census-income files in {REAL}")
def test_real_census_income(tmp_path):
    files = {
        name: gzip.decompress((REAL / f"census_income_1994_1995_{part}.csv.gz").read_bytes())
        for name, part in ((TRAIN, "train"), (TEST, "test"))
    }
    archive = tar(tmp_path / "census.tar", files, "w")
    folder = CENSUS_INCOME.fetch(tmp_path / "root", progress=False, source=archive)
    tables = {}
    for table, rows in CENSUS_INCOME.rows.items():
        with (folder / f"{table}.csv").open(newline="") as file:
            header, *values = csv.reader(file)
        assert len(values) == rows and header == list(COLUMNS)
        tables[table] = dict(zip(header, map(Counter, zip(*values))))
        told = Counter(
            row[COLUMNS.index("marital_stat")]
            for row in values
            if "never marr" in row[COLUMNS.index("detailed_household_and_family_stat")]
        )
        # Of one value alone: the comment of the configs has the share.
        assert list(told) == ["Never married"]
        share = told.total() / tables[table]["marital_stat"]["Never married"]
        assert share == pytest.approx(0.80, abs=0.005)
    # Counted with awk over the published files, the last two over their odd and even lines.
    for column, value, counts in (
        ("income", "50000+", (12_382, 3_131, 3_055)),
        ("marital_stat", "Never married", (86_485, 21_602, 21_541)),
        ("migration_prev_res_in_sunbelt", "", (99_696, 25_006, 24_940)),
    ):
        assert tuple(own[column][value] for own in tables.values()) == counts
    # As census-income.names counts them in the training file.
    for column, distinct in (("age", 91), ("wage_per_hour", 1240), ("education", 17)):
        assert len(tables["train"][column]) == distinct
