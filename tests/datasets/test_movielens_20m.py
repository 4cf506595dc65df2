"""MovieLens-20M from a constructed archive: read, checked, and prepared by its config."""

import csv
import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from ctr_tf import datasets
from ctr_tf.config import load
from ctr_tf.datasets import DatasetError
from ctr_tf.datasets.movielens_20m import MOVIELENS_20M
from pipelines.prepare import run
from tests.pipelines.jobs import read_split

CONFIGS = Path(__file__).parents[2] / "configs" / "movielens_20m"
RATINGS = "ml-20m/ratings.csv"
MOVIES = "ml-20m/movies.csv"
FILES = {
    "ml-20m/README.txt": "Summary\n",
    MOVIES: (
        "movieId,title,genres\n"
        "1,Toy Story (1995),Animation|Adventure\n"
        '11,"American President, The (1995) ",Romance\n'
        "90,Les Misérables (2012),(no genres listed)\n"
        "26958,Emma (1996),Romance\n"
        "838,Emma (1996),Romance\n"
    ),
    RATINGS: (
        "userId,movieId,rating,timestamp\n"
        "1,1,3.5,300\n"
        "1,11,3.0,100\n"
        "1,90,0.5,200\n"
        "4,838,5.0,400\n"
        "4,1,4.0,150\n"
    ),
}
EXPECTED = {
    "ratings": [
        ["user_id", "item_id", "rating", "timestamp"],
        ["1", "1", "3.5", "300"],
        ["1", "11", "3.0", "100"],
        ["1", "90", "0.5", "200"],
        ["4", "838", "5.0", "400"],
        ["4", "1", "4.0", "150"],
    ],
    "items": [
        ["item_id", "title", "year", "genres"],
        ["1", "Toy Story", "1995", "Adventure|Animation"],
        ["11", "American President, The", "1995", "Romance"],
        ["90", "Les Misérables", "2012", ""],
        ["26958", "Emma", "1996", "Romance"],
        ["838", "Emma", "1996", "Romance"],
    ],
}


def site_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content if isinstance(content, bytes) else content.encode())
    return path


def small(archive):
    """MovieLens-20M, but of five ratings."""
    return dataclasses.replace(
        MOVIELENS_20M,
        rows={"ratings": 5, "items": 5, "users": 2, "rated_items": 4},
        md5=hashlib.md5(archive.read_bytes()).hexdigest(),
    )


def fetch(tmp_path, members=FILES):
    archive = site_zip(tmp_path / "ml-20m.zip", members)
    return small(archive).fetch(tmp_path / "root", progress=False, source=archive)


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_archive_becomes_two_tables_in_its_order(tmp_path):
    folder = fetch(tmp_path)
    assert {table: read(folder / f"{table}.csv") for table in EXPECTED} == EXPECTED
    described = json.loads((folder / "dataset.json").read_text())
    assert described["rows"] == {"ratings": 5, "items": 5, "users": 2, "rated_items": 4}
    content = b"".join((folder / f"{table}.csv").read_bytes() for table in EXPECTED)
    assert described["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_folder_whose_checksum_nobody_published_is_held_to_its_own(tmp_path, caplog):
    folder = fetch(tmp_path)
    path = folder / "ratings.csv"
    written = path.stat().st_ino
    fetch(tmp_path)
    assert path.stat().st_ino == written and caplog.text == ""
    path.write_text(path.read_text().replace("3.5", "4.5"))
    again = fetch(tmp_path)
    assert "is fetched again" in caplog.text and "expected SHA-256" in caplog.text
    assert read(again / "ratings.csv") == EXPECTED["ratings"]


def changed(member, old, new):
    assert old in FILES[member]
    return FILES | {member: FILES[member].replace(old, new)}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (changed(RATINGS, "3.5,300", "3.5"), "ratings.csv line 2: expected 4 fields, got 3"),
        (changed(RATINGS, "0.5,", "0.7,"), "ratings.csv line 4: .* rating half stars .* got .*0.7"),
        (changed(RATINGS, "1,90", "x,90"), "ratings.csv line 4: userId .* whole numbers.*'x'"),
        (changed(RATINGS, "4,838", "4,8"), "ratings.csv line 5: movies.csv lacks the film '8'"),
        (changed(RATINGS, "4,1,", "3,1,"), "line 6: users must ascend, got 3 after 4"),
        (changed(RATINGS, "4,1,4.0,150\n", ""), "ratings: expected 5, got 4"),
        (changed(RATINGS, "4,838", "4,1"), "rated_items: expected 4, got 3"),
        (changed(RATINGS, "userId", "user"), "line 1: expected the columns userId,.* got user,"),
        (changed(MOVIES, "838,", "?,"), "movies.csv line 6: movieId must be a whole number"),
        (FILES | {MOVIES: FILES[MOVIES].encode("latin-1")}, "movies.csv line 4: 'utf-8' codec"),
        ({MOVIES: FILES[MOVIES]}, "ml-20m.zip lacks ml-20m/ratings.csv"),
    ],
)
def test_wrong_contents_are_errors_that_name_the_place(tmp_path, members, message):
    with pytest.raises(DatasetError, match=message):
        fetch(tmp_path, members)
    assert list((tmp_path / "root").iterdir()) == []


def test_another_archive_than_the_published_one_is_refused(tmp_path):
    archive = site_zip(tmp_path / "ml-20m.zip", FILES)
    found = hashlib.md5(archive.read_bytes()).hexdigest()
    message = f"expected MD5 cd245b17a1ae2cc31bb14903e1204af3, got {found}"
    with pytest.raises(DatasetError, match=message):
        MOVIELENS_20M.fetch(tmp_path / "root", progress=False, source=archive)


def test_a_damaged_member_is_found_while_it_is_read(tmp_path):
    path = site_zip(tmp_path / "ml-20m.zip", FILES)
    content = path.read_bytes()
    at = content.index(RATINGS.encode()) + len(RATINGS) + 5
    path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    with pytest.raises(DatasetError, match="ml-20m.zip is truncated, damaged or no zip archive"):
        small(path).fetch(tmp_path / "root", progress=False, source=path)


def test_terms_and_source():
    dataset = datasets.get("movielens_20m")
    assert dataset.description.startswith(f"{dataset.rows['ratings']:,} ratings")
    assert f"{dataset.rows['users']:,} users" in dataset.description
    assert "redistribution" in dataset.licence and "Harper" in dataset.citation
    (source,) = dataset.sources
    assert str(source) == "https://files.grouplens.org/datasets/movielens/ml-20m.zip"


def test_the_config_prepares_requests_with_half_stars(tmp_path):
    folder = fetch(tmp_path)
    experiment = load(CONFIGS / "din.yaml", ["prepare.split={by: none}"])
    manifest = run(experiment.log, experiment.prepare, folder, tmp_path / "out")
    assert manifest.rejects == {}
    # Above 3 are 3.5, 5.0 and 4.0.
    assert manifest.splits["train"].positives == {"like": 3}
    found = read_split(tmp_path / "out", "train")
    assert found["1:300"]["features/history_item_id"] == ["11", "90"]
    assert found["1:300"]["features/history_rating"] == ["3.0", "0.5"]
    assert found["1:300"]["features/history_genres/lengths"] == [1, 0]
    assert found["4:400"]["features/history_rating"] == ["4.0"]


def test_the_pre_trained_config_reads_histories_with_one_genre_value_a_film(tmp_path):
    folder = fetch(tmp_path)
    split = "prepare.split={by: time, boundaries: [350, 450]}"
    experiment = load(CONFIGS / "srp4ctr.yaml", [split])
    manifest = run(experiment.log, experiment.prepare, folder, tmp_path / "out")
    assert manifest.rejects == {} and experiment.model.freeze
    # The other user has one behaviour, and a window has two at least.
    (own,) = read_split(tmp_path / "out", "histories").values()
    assert own["features/history_item_id"] == ["11", "90", "1"]
    assert own["features/history_genres"] == ["Romance", "", "Adventure|Animation"]
    assert own["features/history_rating"] == ["3.0", "0.5", "3.5"]
