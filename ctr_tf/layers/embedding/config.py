"""Configuration of the embedding tables."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from ctr_tf.config_base import Config


class TableConfig(Config):
    """One embedding table; what is unset follows the embedding's defaults.

    Args:
        width: columns of the table.
        initializer: distribution of the initial values.
        scale: its standard deviation, or half the range of `uniform`.
        l2: weight of the squared norm added to the loss.
    """

    width: PositiveInt | None = None
    initializer: Literal["normal", "uniform", "zeros"] | None = None
    scale: NonNegativeFloat | None = None
    l2: NonNegativeFloat | None = None


class EmbeddingConfig(Config):
    """Width, initialiser and regulariser of the tables, by default and by name.

    Example:
        >>> config = EmbeddingConfig(width=8, tables={"item_id": {"width": 32}})
        >>> config.table("item_id").width, config.table("genres").width
        (32, 8)
    """

    width: PositiveInt = 16
    initializer: Literal["normal", "uniform", "zeros"] = "normal"
    scale: NonNegativeFloat = 0.01
    l2: NonNegativeFloat = 0.0
    tables: dict[str, TableConfig] = {}

    def table(self, name: str) -> TableConfig:
        """The configuration of one table with every default filled in."""
        own = self.tables.get(name, TableConfig())
        given = own.model_dump(exclude_none=True)
        defaults = {key: getattr(self, key) for key in TableConfig.model_fields}
        return TableConfig(**{**defaults, **given})
