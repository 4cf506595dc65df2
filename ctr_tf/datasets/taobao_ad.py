"""Taobao's display ads: impressions and clicks of eight days, and what their users did before."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ctr_tf.datasets.dataset import Dataset
from ctr_tf.datasets.fetching import ByHand, DatasetError, open_member, open_tar, tar_member

# The columns as published, and as they are here: one name for one thing.
COLUMNS = {
    "raw_sample": "user,time_stamp,adgroup_id,pid,nonclk,clk",
    "behavior_log": "user,time_stamp,btag,cate,brand",
    "ad_feature": "adgroup_id,cate_id,campaign_id,customer,brand,price",
    "user_profile": (
        "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,"
        "occupation,new_user_class_level"
    ),
}
NAMES = {"user": "user_id", "userid": "user_id", "cate": "cate_id"}


@contextmanager
def open_table(source: Path, table: str) -> Iterator[BinaryIO]:
    """Opens a published file, to be read as a stream.

    Args:
        source: A folder with `<table>.csv` or, as Tianchi gives it, `<table>.csv.tar.gz`; or a zip
            file of the four CSV files.
        table: Its name.

    Raises:
        DatasetError: If it is missing or damaged; also while it is read.
    """
    name = f"{table}.csv"
    if not source.is_dir():
        with open_member(source, name) as file:
            yield file
    elif (source / name).is_file():
        with (source / name).open("rb") as file:
            yield file
    elif (packed := source / f"{name}.tar.gz").is_file():
        with open_tar(packed.open("rb"), packed) as archive:
            yield tar_member(archive, name)
    else:
        raise DatasetError(f"{source} lacks {name}, and {name}.tar.gz as well")


def write_tables(source: Path, folder: Path) -> dict[str, int]:
    """Writes the four tables with the columns' names made one; rows stay as they were published.

    No row is looked at: what is wrong with one is found by whoever reads it, who counts it.

    Args:
        source: See `open_table`.
        folder: Where the files are written.

    Returns:
        No counts but those of the files.

    Raises:
        DatasetError: If a file is missing or damaged, or has other columns.
    """
    for table, columns in COLUMNS.items():
        with open_table(source, table) as file, (folder / f"{table}.csv").open("w+b") as copy:
            header = file.readline().decode("utf-8", "backslashreplace").strip()
            found = ",".join(column.strip() for column in header.split(","))
            if found != columns:
                raise DatasetError(f"{table}.csv: expected the columns {columns}, got {found}")
            names = [NAMES.get(column, column) for column in columns.split(",")]
            copy.write(",".join(names).encode() + b"\n")
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.seek(-1, 2)
            if copy.read() != b"\n":  # rows are counted by their line ends
                copy.write(b"\n")
    return {}


_PAGE = "https://tianchi.aliyun.com/dataset/56"

# Rows as published analyses of the files count them. The page asks for an account: no checksum is
# known.
TAOBAO_AD = Dataset(
    name="taobao_ad",
    description="26,557,961 ad impressions on Taobao in May 2017, and 22 days of user behaviour.",
    citation=f"Ad Display/Click Data on Taobao.com. 2018. Alibaba, Tianchi. {_PAGE}",
    licence="The terms that its page on Tianchi states.",
    tables=tuple(COLUMNS),
    rows={
        "raw_sample": 26_557_961,
        "behavior_log": 723_268_134,
        "ad_feature": 846_811,
        "user_profile": 1_061_768,
    },
    sha256=None,
    sources=(
        ByHand(
            _PAGE,
            "download raw_sample, behavior_log, ad_feature and user_profile (.csv.tar.gz, or "
            "unpacked) into one folder, then: ctr-tf datasets fetch taobao_ad --source FOLDER",
        ),
    ),
    write=write_tables,
    folder=True,
)
