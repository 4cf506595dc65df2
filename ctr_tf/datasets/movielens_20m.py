"""MovieLens-20M, read as a stream: what is held grows with the films, not with the ratings."""

from collections.abc import Collection
from pathlib import Path

from ctr_tf.datasets.dataset import Dataset, read_csv, write_csv
from ctr_tf.datasets.fetching import Download, open_member
from ctr_tf.datasets.movielens import (
    CITATION,
    ITEM_COLUMNS,
    LICENCE,
    RATING_COLUMNS,
    SITE,
    split_title,
)

RATINGS = frozenset(f"{halves / 2}" for halves in range(1, 11))
NO_GENRE = "(no genres listed)"


def parse_film(row: list[str]) -> tuple[str, ...]:
    """An item of a line of `movies.csv`; a film without genres has an empty value.

    The item id is the film's number: some films share a title and a year.

    Example:
        >>> parse_film(["11", "American President, The (1995)", "Romance|Comedy"])
        ('11', 'American President, The', '1995', 'Comedy|Romance')
    """
    number, title, genres = row
    if not number.isdigit():
        raise ValueError(f"movieId must be a whole number, got {number!r}")
    kinds = "" if genres == NO_GENRE else "|".join(sorted(genres.split("|")))
    return (number, *split_title(title.strip()), kinds)


class RatingCheck:
    """Checks the lines of `ratings.csv` and counts their users and films.

    Users are counted as the file goes from one to the next, so it must be in their order, as its
    README says it is.

    Args:
        films: Numbers of all films.
    """

    def __init__(self, films: Collection[str]):
        self._films = films
        self._last = 0
        self.users = 0
        self.rated: set[str] = set()

    def __call__(self, row: list[str]) -> list[str]:
        """Returns the line.

        Raises:
            ValueError: If a value is none of its kind, the film unknown or the user out of order.
        """
        user, film, rating, time = row
        if not (user.isdigit() and time.isdigit() and rating in RATINGS):
            raise ValueError(
                "userId and timestamp must be whole numbers and rating half stars from 0.5 to 5.0, "
                f"got {(user, rating, time)}"
            )
        if film not in self._films:
            raise ValueError(f"movies.csv lacks the film {film!r}")
        number = int(user)
        if number < self._last:
            raise ValueError(f"users must ascend, got {user} after {self._last}")
        self.users += number > self._last
        self._last = number
        self.rated.add(film)
        return row


def write_tables(archive: Path, folder: Path) -> dict[str, int]:
    """Writes `ratings.csv`, in the order of the archive, and `items.csv`.

    Args:
        archive: `ml-20m.zip`.
        folder: Where the files are written.

    Returns:
        The numbers of users and of rated items.

    Raises:
        DatasetError: If the archive is damaged, lacks a file or holds a malformed line.
    """
    with open_member(archive, "ml-20m/movies.csv") as file:
        header = ("movieId", "title", "genres")
        items = list(read_csv(file, "movies.csv", header, parse_film))
    write_csv(folder / "items.csv", ITEM_COLUMNS, items)
    check = RatingCheck({item[0] for item in items})
    with open_member(archive, "ml-20m/ratings.csv") as file:
        header = ("userId", "movieId", "rating", "timestamp")
        ratings = read_csv(file, "ratings.csv", header, check)
        write_csv(folder / "ratings.csv", RATING_COLUMNS, ratings)
    return {"users": check.users, "rated_items": len(check.rated)}


# Ratings, users and films are as counted in the archive's README, rated films as published analyses
# count them; the MD5 is that of GroupLens's ml-20m.zip.md5, as projects that check it quote it. The
# site was out of reach where this was written, so no checksum of the normal form is known.
MOVIELENS_20M = Dataset(
    name="movielens_20m",
    description="20,000,263 ratings of 26,744 films by 138,493 users, 1995 to 2015, in half stars.",
    citation=CITATION,
    licence=LICENCE,
    tables=("ratings", "items"),
    rows={"ratings": 20_000_263, "items": 27_278, "users": 138_493, "rated_items": 26_744},
    sha256=None,
    sources=(Download(f"{SITE}ml-20m.zip"),),
    write=write_tables,
    md5="cd245b17a1ae2cc31bb14903e1204af3",
)
