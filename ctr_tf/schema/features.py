"""The kinds of feature that a log row can hold, and the side that each belongs to."""

from __future__ import annotations

from typing import Annotated, Literal, Union

from pydantic import Field, PositiveInt, model_validator

from ctr_tf.config_base import Config

Side = Literal["user", "context", "candidate"]

MISSING_INT = -(2**63)
"""Stands for a missing integer id, as the empty string does for a missing string."""


class Feature(Config):
    """What all kinds of feature share.

    Args:
        side: `user` and `context` features have one value a request, `candidate` ones one a
            candidate.
        column: the log column the values come from; the feature's own name by default.
    """

    side: Side = "candidate"
    column: str | None = None


class Categorical(Feature):
    """Ids or strings, one or several, each mapped to a row of an embedding table.

    Args:
        dtype: `string`, or `int` for 64-bit integers.
        encoding: `vocabulary` (learned from training rows), `hashed` (into `size` buckets) or
            `identity` (the integer itself, from 0 to `size` - 1).
        size: buckets, ids, or the most vocabulary entries kept.
        oov: rows for values outside the vocabulary or the identity range, chosen by hash.
        min_count: training occurrences a value needs to enter the vocabulary.
        multi: several values; in text files joined by `separator`.
        combiner: how the embeddings of several values are pooled.
        max_values: the most values kept (the first ones).
        share: the feature whose encoder and embedding table this one uses; its encoding, size,
            oov and min_count hold, not the ones here.

    Example:
        >>> Categorical(encoding="hashed", size=1000).size
        1000
    """

    kind: Literal["categorical"] = "categorical"
    dtype: Literal["string", "int"] = "string"
    encoding: Literal["vocabulary", "hashed", "identity"] = "vocabulary"
    size: PositiveInt | None = None
    oov: PositiveInt = 1
    min_count: PositiveInt = 1
    multi: bool = False
    separator: str = Field("|", min_length=1)
    combiner: Literal["mean", "sum", "sqrtn"] = "mean"
    max_values: PositiveInt | None = None
    share: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "Categorical":
        if self.encoding != "vocabulary" and self.size is None and self.share is None:
            raise ValueError(f"encoding: {self.encoding} needs a size")
        if self.encoding == "identity" and self.dtype != "int":
            raise ValueError("encoding: identity needs dtype: int")
        return self


class Numeric(Feature):
    """A real number, normalised in the graph with statistics of the training rows.

    Args:
        normalise: `standard` (zero mean, unit variance), `minmax` (to 0..1), `log` (signed
            log(1 + |x|), then standard) or `none`.
        default: the value that stands for a missing one; without it a missing value is an error.
    """

    kind: Literal["numeric"] = "numeric"
    normalise: Literal["standard", "minmax", "log", "none"] = "standard"
    default: float | None = None


class Vector(Feature):
    """A row of a cached table (for example a poster's embedding), found by an id.

    Args:
        table: path of an `.npz` file with `ids` (R,) and `vectors` (R, width).
        width: length of a vector.
        dtype: type of the ids.
        trainable: whether training changes the table.
    """

    kind: Literal["vector"] = "vector"
    table: str
    width: PositiveInt
    dtype: Literal["string", "int"] = "string"
    trainable: bool = False


class Text(Feature):
    """Free text, split into words in the graph, embedded and pooled.

    Args:
        encoding: `hashed` into `size` buckets, or `vocabulary` of the training rows' words.
        size: buckets, or the most words kept.
        max_tokens: the words kept, the first ones.
        combiner: how the embeddings of the words are pooled.
    """

    kind: Literal["text"] = "text"
    encoding: Literal["vocabulary", "hashed"] = "vocabulary"
    size: PositiveInt = 20_000
    oov: PositiveInt = 1
    min_count: PositiveInt = 1
    max_tokens: PositiveInt = 64
    combiner: Literal["mean", "sum", "sqrtn"] = "mean"


AnyFeature = Annotated[Union[Categorical, Numeric, Vector, Text], Field(discriminator="kind")]


class SequenceAttribute(Config):
    """One attribute of a behaviour sequence.

    Args:
        column: the column of the earlier event (or, with the sequence's `separator`, of the row).
        like: the categorical feature whose encoder and table it shares; the feature of its own
            name where there is one.
        encoder: an encoder of its own, where it is like no feature.
    """

    column: str | None = None
    like: str | None = None
    encoder: Categorical | None = None


class Sequence(Config):
    """The user's behaviours before the request, oldest first, cut to the newest `max_length`.

    Args:
        max_length: the most behaviours kept.
        attributes: what is known of each behaviour.
        positive: only events whose label for this task is 1 are behaviours; all events otherwise.
        separator: where the log itself holds the sequence as a joined column, what joins it; the
            sequence is then taken as it stands, oldest first.
        timestamps: whether models see when each behaviour happened.
    """

    max_length: PositiveInt = 50
    attributes: dict[str, SequenceAttribute] = Field(min_length=1)
    positive: str | None = None
    separator: str | None = None
    timestamps: bool = False


class Task(Config):
    """A binary label.

    Args:
        column: where it is read; an empty or missing value masks the label. With
            `prepare.negatives` it may be left out: every row of the log is then a positive.
        above: label 1 where the column's number is greater; the number itself (0 or 1) otherwise.
        equals: label 1 where the column's text is equal.
        mask: a 0/1 column; where it is 0 the label does not count.
        weight: a column of sample weights.
    """

    column: str | None = None
    above: float | None = None
    equals: str | None = None
    mask: str | None = None
    weight: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "Task":
        if self.above is not None and self.equals is not None:
            raise ValueError("above and equals exclude each other")
        if self.column is None and (self.above, self.equals) != (None, None):
            raise ValueError("above and equals need a column")
        return self


class Keys(Config):
    """The log columns that say whose request a row is, when, and for which item.

    Args:
        user: user id; without it no sequences and no GAUC.
        request: request id; without it rows of one user and time are one request, and a row
            without a user is its own request.
        time: Unix time; its `time_unit` is seconds or milliseconds, or `iso` for ISO 8601 text.
        item: item id, for negatives, item frequency and reports.
    """

    user: str | None = None
    request: str | None = None
    time: str | None = None
    time_unit: Literal["s", "ms", "iso"] = "s"
    item: str | None = None
