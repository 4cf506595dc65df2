"""Configuration of the embedding tables."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from ctr_tf.config_base import Config


class TableConfig(Config):
    """One embedding table; what is unset follows the embedding's defaults.

    Args:
        width: columns of the table.
        initializer: distribution of the initial values.
        scale: its standard deviation, or half the range of `uniform`.
        l2: weight of the squared norm of the rows that a batch touches, added to the loss.
        dtype: in which the table is stored; the optimiser's state is float32 in any case.
        trainable: whether training changes it.
    """

    width: PositiveInt | None = None
    initializer: Literal["normal", "uniform", "zeros"] | None = None
    scale: NonNegativeFloat | None = None
    l2: NonNegativeFloat | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    trainable: bool | None = Field(None, exclude_if=lambda trainable: trainable is None)


class EmbeddingConfig(Config):
    """Width, initialiser, regulariser and dtype of the tables, by default and by name.

    Args:
        width, initializer, scale, l2, dtype, trainable: see `TableConfig`.
        tables: what differs, by table.
        shard_rows: the most rows of one variable; tables of one kind share a variable, and a
            larger one is cut into several. No bound by default.

    Example:
        >>> config = EmbeddingConfig(width=8, tables={"item_id": {"width": 32}})
        >>> config.table("item_id").width, config.table("genres").width
        (32, 8)
    """

    width: PositiveInt = 16
    initializer: Literal["normal", "uniform", "zeros"] = "normal"
    scale: NonNegativeFloat = 0.01
    l2: NonNegativeFloat = 0.0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    # The default is not written out: it was there before it had a name, and runs keep theirs.
    trainable: bool = Field(True, exclude_if=lambda trainable: trainable)
    tables: dict[str, TableConfig] = {}
    shard_rows: PositiveInt | None = None

    def table(self, name: str, view: TableConfig | int | None = None) -> TableConfig:
        """The configuration of one table with every default filled in.

        Args:
            name: of the table.
            view: what differs in a further table of the same feature, or its width.
        """
        view = TableConfig(width=view) if isinstance(view, int) else view
        found = {key: getattr(self, key) for key in TableConfig.model_fields}
        for own in (self.tables.get(name), view):
            found |= own.model_dump(exclude_none=True) if own else {}
        return TableConfig(**found)
