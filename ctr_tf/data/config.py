"""Configuration of the preparation job and of the training input."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from ctr_tf.config_base import Config


class Source(Config):
    """Files of rows.

    Args:
        path: a path or glob, or several; relative to the dataset's folder where the experiment
            names a dataset, else to the working directory. A `.gz` name is read decompressed,
            Parquet by way of a temporary file.
        format: by default what the file name says (`.csv`, `.tsv`, `.jsonl`, `.parquet`).
        columns: the column names of a file without a header; of Parquet and JSON lines, those
            that are read.
        strip: whether white space around a text value is dropped, and around each of several
            that a text or list holds.
        missing: texts that stand for a missing value, besides the empty one, such as `?`; among
            several values such a one is left out.
    """

    path: str | list[str]
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet"] = "auto"
    columns: list[str] | None = None
    strip: bool = False
    missing: list[str] = []


class Attributes(Source):
    """Files of user or item attributes, joined to the impressions.

    Args:
        key: the id column, in these files and in the impressions.
        required: whether impressions of a user without a row here are rejected; with `false`
            the user's attributes are missing ones. Items are always required.
    """

    key: str
    required: bool = True


class Split(Config):
    """How requests are divided into training, validation and test.

    Args:
        by: `time` (by share of requests in the order of their last row's time, or at stated
            times), `last` (walking back from each user's end, whole requests go to test until it
            has at least `interactions` rows, the next ones to validation likewise), `files` (as
            the log comes divided), `random` (by a hash of user and request id, for logs without
            times: what a user did later may then be training) or `none` (everything is training).
        fractions: shares of training, validation and test, by time or at random.
        boundaries: instead of fractions, the Unix seconds at which validation and test begin.
        interactions: rows of each user in test, and again in validation, at least.
        validation: by files, a glob on the names of the log's files that are validation.
        test: by files, a glob on the names of those that are test. Names are without folders.
    """

    by: Literal["time", "last", "files", "random", "none"] = "time"
    # YAML has lists alone: a strict tuple would refuse them.
    fractions: tuple[float, float, float] = Field((0.8, 0.1, 0.1), strict=False)
    boundaries: tuple[int, int] | None = Field(None, strict=False)
    interactions: PositiveInt = 10
    validation: str | None = None
    test: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "Split":
        if (self.by == "files") != bool(self.validation or self.test):
            raise ValueError("by: files, and no other, names the files of validation or test")
        fair = all(share >= 0 for share in self.fractions)  # False for NaN, too
        if not (fair and abs(sum(self.fractions) - 1) <= 1e-9):
            raise ValueError(f"fractions must be >= 0 and sum to 1, not {self.fractions}")
        if self.boundaries and self.boundaries[0] > self.boundaries[1]:
            raise ValueError(f"boundaries must ascend, not {self.boundaries}")
        return self


class Negatives(Config):
    """Sampling of negatives for a log that holds positives alone.

    Args:
        per_positive: negatives for each positive of a request.
        popularity: the exponent on an item's training count; 0 is uniform, 0.75 is usual.
        exclude_seen: items that the user met before the request are not negatives of it. Items
            of the user's future always stay eligible.
    """

    per_positive: PositiveInt = 4
    popularity: NonNegativeFloat = 0.0
    exclude_seen: bool = True


class PrepareConfig(Config):
    """From raw logs to request-shaped TFRecords.

    Args:
        impressions: the log, a row an impression.
        users: user attributes.
        items: item attributes.
        behaviours: the log of what users did, a row a behaviour, that sequences are built from;
            without it they are built from the impressions. It has the columns `keys.user` and
            `keys.time`, and sequences hold what it says from strictly before a request. Attributes
            are columns of it, or of items where it has their key. Values that training requests
            see in it are learned as those of candidates are. Negatives go by impressions alone.
        most_active_users: the share of users that is kept, those with the most rows in
            `behaviours`, else in the log; whoever has as many as the last of them is kept, too.
            The whole period counts, test included. Requests without a user are all kept.
        histories: whether two further splits are written for pre-training on behaviours (see
            `pipelines/transforms/histories.py`): `histories`, what each user did in the training
            period, in windows, and `next`, each user's first validation request once more.
        split: how requests are divided.
        negatives: sampling of negatives, for positive-only logs.
        max_bad_share: the share of rejected rows above which the job fails; a rejected row of
            several lines counts as so many.
        shards: TFRecord files per split.
        compression: of the TFRecord files.
        seed: of negative sampling.
        runner: a Beam runner, by name or class path.
        runner_options: options passed to Beam, such as `--direct_num_workers=2`.
    """

    impressions: Source | None = None
    users: Attributes | None = None
    items: Attributes | None = None
    # Defaults are not written out: what was prepared before there were these keys stays valid.
    behaviours: Source | None = Field(None, exclude_if=lambda source: source is None)
    most_active_users: float = Field(1.0, gt=0, le=1, exclude_if=lambda share: share == 1)
    histories: bool = Field(False, exclude_if=lambda written: not written)
    split: Split = Split()
    negatives: Negatives | None = None
    max_bad_share: float = Field(0.001, ge=0, le=1)
    shards: PositiveInt = 8
    compression: Literal["gzip", "none"] = "gzip"
    seed: int = 17
    runner: str = "FnApiRunner"
    runner_options: list[str] = []

    @model_validator(mode="after")
    def _check(self) -> "PrepareConfig":
        if self.negatives and not self.items:
            raise ValueError("negatives needs items: the catalogue that negatives are drawn from")
        if self.items and not self.items.required:
            raise ValueError("items.required: false is for users alone")
        return self


class InputConfig(Config):
    """From TFRecords to batches.

    Args:
        batch_size: impressions a batch, over all replicas: a batch holds whole requests with
            about so many valid candidates. Of the split `histories`, records a batch.
        shuffle_buffer: requests that are permuted at a time, rounded up to whole windows; 0 reads
            in the order of the files.
        window: batches that are cut together. Within a window requests are sorted by their number
            of candidates and length of behaviours, so that a batch is padded little; its batches
            hold equal shares of the window's impressions and come in random order. 1 sorts
            nothing.
        corrupt: `error` on a truncated or corrupt shard, or `skip` and count it from its first
            unreadable record on; what is readable of it is copied to a temporary folder.
        parallel: parallel calls of parsing; -1 lets tf.data choose.
        prefetch: batches made ahead; -1 lets tf.data choose.
    """

    batch_size: PositiveInt = 2048
    shuffle_buffer: NonNegativeInt = 50_000
    window: PositiveInt = 32
    corrupt: Literal["error", "skip"] = "error"
    parallel: int = Field(-1, ge=-1)
    prefetch: int = Field(-1, ge=-1)
