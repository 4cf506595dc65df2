"""Which attributes of behaviours are pre-trained on; needs no Keras."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ctr_tf.config_base import SettingError
from ctr_tf.models.srp4ctr.transfer import SRP4CTRConfig
from ctr_tf.schema import Schema


class Attributes(NamedTuple):
    """What of a sequence is pre-trained on, in the order of the schema.

    Args:
        sequence: its name.
        read: what the encoder reads.
        items: those of the item; the first is what the next item is told by.
        behaviours: the others.
        of_item: of the item, whether the encoder reads them or not.
    """

    sequence: str
    read: list[str]
    items: list[str]
    behaviours: list[str]
    of_item: list[str]


def pretrained_attributes(schema: Schema, config: SRP4CTRConfig) -> Attributes:
    """What a model's encoder is pre-trained on; an item's attribute has the candidate's name.

    Args:
        schema: of the log.
        config: of the model.

    Raises:
        SettingError: a sequence that the log states, no item attribute, a first one of several
            values, one with another table than the candidate's, or a feature of candidates by
            another name.
    """
    sequence = config.sequence or next(iter(schema.sequences))
    spec = schema.sequences[sequence]
    if spec.separator is not None:
        rule = (
            "the log states the sequence, and pre-training reads those that are built: set "
            "model.sequence to one, or pretrain to null"
        )
        raise SettingError(("schema", "sequences", sequence, "separator"), rule)
    at = ("schema", "sequences", sequence, "attributes")
    known = spec.attributes
    candidate = schema.side("candidate")
    renamed = {schema.encoder(name): name for name in candidate if name not in known}
    for name in known:
        own = renamed.get(schema.encoder(name, sequence))
        if own and name not in candidate:
            rule = (
                f"pre-training would mask the item without it: give it the candidate's name, {own}"
            )
            raise SettingError((*at, name), rule)
    read = [name for name in known if name in (config.attributes or known)]
    items = [name for name in read if name in candidate]
    if not items:
        rule = f"pre-training masks items: {read} has no attribute of the candidate's"
        raise SettingError(at, rule)
    for name in items:
        if schema.encoder(name, sequence) != schema.encoder(name):
            rule = (
                "candidates would read a table that is not pre-trained: give it the feature's, "
                "without an encoder of its own"
            )
            raise SettingError((*at, name), rule)
    if schema.attribute(sequence, items[0]).multi:
        rule = "pre-training tells the next item by it: the item's first attribute has one value"
        raise SettingError((*at, items[0]), rule)
    return Attributes(
        sequence,
        read,
        items,
        behaviours=[name for name in read if name not in candidate],
        of_item=[name for name in known if name in candidate],
    )


def attribute_values(
    schema: Schema, sequence: str, names: Iterable[str], rows: dict[str, int]
) -> dict[str, int]:
    """How many values of each attribute have a row of their own, from row 1 on.

    Args:
        schema, sequence: of the attributes.
        names: of them.
        rows: rows of each encoder's embedding table.
    """
    found = {}
    for name in names:
        spec = schema.attribute(sequence, name)
        others = 0 if spec.encoding == "hashed" else spec.oov
        found[name] = rows[schema.encoder(name, sequence)] - 1 - others
    return found


def told_attributes(schema: Schema, config: SRP4CTRConfig) -> list[str]:
    """What S3-Rec tells of items: their attributes besides the first.

    Args:
        schema, config: see `pretrained_attributes`.

    Raises:
        SettingError: see `pretrained_attributes`; there is none, or the table of one is not as wide
            as the encoder.
    """
    found = pretrained_attributes(schema, config)
    told = [name for name in found.of_item if name != found.items[0]]
    if not told:
        raise SettingError(
            ("schema", "sequences", found.sequence, "attributes"),
            f"s3_rec tells attributes of items: there is none besides {found.items[0]}",
        )
    for name in told:
        table = schema.encoder(name, found.sequence)
        given = config.embedding.tables.get(table)
        if given and given.width not in (None, config.encoder.width):
            raise SettingError(
                ("model", "embedding", "tables", table, "width"),
                f"s3_rec needs the encoder's, {config.encoder.width}; got {given.width}",
            )
    return told
