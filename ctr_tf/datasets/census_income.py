"""Census-income (KDD): people of the 1994 and 1995 current population surveys."""

import io
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from ctr_tf.datasets.dataset import Dataset, write_csv
from ctr_tf.datasets.fetching import DatasetError, Download, open_tar, read_members, tar_member

TRAIN, TEST = "census-income.data", "census-income.test"

# The attributes of census-income.names in the order of the files, spaces and dashes as `_`.
COLUMNS = (
    "age",
    "class_of_worker",
    "detailed_industry_recode",
    "detailed_occupation_recode",
    "education",
    "wage_per_hour",
    "enroll_in_edu_inst_last_wk",
    "marital_stat",
    "major_industry_code",
    "major_occupation_code",
    "race",
    "hispanic_origin",
    "sex",
    "member_of_a_labor_union",
    "reason_for_unemployment",
    "full_or_part_time_employment_stat",
    "capital_gains",
    "capital_losses",
    "dividends_from_stocks",
    "tax_filer_stat",
    "region_of_previous_residence",
    "state_of_previous_residence",
    "detailed_household_and_family_stat",
    "detailed_household_summary_in_household",
    "instance_weight",
    "migration_code_change_in_msa",
    "migration_code_change_in_reg",
    "migration_code_move_within_reg",
    "live_in_this_house_1_year_ago",
    "migration_prev_res_in_sunbelt",
    "num_persons_worked_for_employer",
    "family_members_under_18",
    "country_of_birth_father",
    "country_of_birth_mother",
    "country_of_birth_self",
    "citizenship",
    "own_business_or_self_employed",
    "fill_inc_questionnaire_for_veterans_admin",
    "veterans_benefits",
    "weeks_worked_in_year",
    "year",
    "income",
)
# Those that census-income.names calls continuous.
NUMBERS = (
    "age",
    "wage_per_hour",
    "capital_gains",
    "capital_losses",
    "dividends_from_stocks",
    "instance_weight",
    "num_persons_worked_for_employer",
    "weeks_worked_in_year",
)
INCOMES = ("- 50000", "50000+")


def parse(line: str) -> list[str]:
    """Splits a line of the published files to values in the order of `COLUMNS`.

    White space around a value is dropped, and so is the full stop after the income; `?`, a missing
    value, becomes an empty one.

    Raises:
        ValueError: If there are not 42 fields, one that must be a number is none, or the income is
            not one of `INCOMES`.

    Example:
        >>> parse("73, Not in universe")
        Traceback (most recent call last):
        ...
        ValueError: expected 42 fields, got 2
    """
    # No value holds a comma: in the published files they are spaces.
    values = [value.strip() for value in line.split(",")]
    if len(values) != len(COLUMNS):
        raise ValueError(f"expected {len(COLUMNS)} fields, got {len(values)}")
    for column in NUMBERS:
        value = values[COLUMNS.index(column)]
        if not value.replace(".", "", 1).isdigit():
            raise ValueError(f"{column} must be a number, got {value!r}")
    values = ["" if value == "?" else value for value in values]
    values[-1] = values[-1].removesuffix(".")
    if values[-1] not in INCOMES:
        raise ValueError(f"income must be one of {INCOMES}, got {values[-1]!r}")
    return values


@contextmanager
def open_archive(archive: Path) -> Iterator[tarfile.TarFile]:
    """Opens UCI's `census.tar.gz`, or the zip file that UCI wraps around it.

    Raises:
        DatasetError: If the archive is truncated, damaged or another one; also while it is read.
    """
    if zipfile.is_zipfile(archive):
        found = read_members(archive, ["census.tar.gz"])
        if found is None:
            raise DatasetError(f"{archive} lacks census.tar.gz")
        file = io.BytesIO(found[0])
    else:
        file = archive.open("rb")
    with open_tar(file, archive) as opened:
        yield opened


def read_people(archive: tarfile.TarFile, name: str) -> Iterator[list[str]]:
    """Reads one of the published files, a row a person.

    Args:
        archive: What `open_archive` opened.
        name: `TRAIN` or `TEST`.

    Raises:
        DatasetError: If the archive lacks the file, or a line does not parse; gives its number.
    """
    for number, line in enumerate(tar_member(archive, name), start=1):
        try:
            yield parse(line.decode("ascii"))
        except ValueError as error:  # of which a UnicodeDecodeError is one
            raise DatasetError(f"{name} line {number}: {error}") from error


def write_people(archive: Path, folder: Path) -> dict[str, int]:
    """Writes `train.csv`, the published training file, and `validation.csv` and `test.csv`.

    Ma et al. 2018, KDD (MMoE), section 6.3.1, divide the published test file 1:1 into validation
    and test, at random. Here its odd lines are validation and its even ones test, so that everyone
    has the same halves.

    Args:
        archive: See `open_archive`.
        folder: Where the files are written.

    Returns:
        No counts but those of the files.

    Raises:
        DatasetError: If the archive is damaged, lacks a file or holds a malformed line.
    """
    with open_archive(archive) as opened:
        write_csv(folder / "train.csv", COLUMNS, read_people(opened, TRAIN))
        for first, table in enumerate(("validation", "test")):
            half = islice(read_people(opened, TEST), first, None, 2)
            write_csv(folder / f"{table}.csv", COLUMNS, half)
    return {}


_UCI = "https://archive.ics.uci.edu"

CENSUS_INCOME = Dataset(
    name="census_income",
    description="299,285 people of the US, 1994 and 1995: income above 50,000 dollars, and more.",
    citation=(
        "Census-Income (KDD). 2000. UCI Machine Learning Repository. "
        "https://doi.org/10.24432/C5N30T"
    ),
    licence="Creative Commons Attribution 4.0, the terms of the UCI repository.",
    tables=("train", "validation", "test"),
    rows={"train": 199_523, "validation": 49_881, "test": 49_881},
    sha256="19bf744d1f3351035eed0920aa847fa3bc148d7af20690903b39bb356fa32daa",
    sources=(
        Download(f"{_UCI}/static/public/117/census+income+kdd.zip"),
        Download(f"{_UCI}/ml/machine-learning-databases/census-income-mld/census.tar.gz"),
    ),
    write=write_people,
)
