"""What an architecture's file defines: a body with a user tower and an item tower."""

from __future__ import annotations

from typing import ClassVar

from ctr_tf.config_base import SettingError
from ctr_tf.layers.embedding.config import EmbeddingConfig, TableConfig
from ctr_tf.models.config import ModelConfig
from ctr_tf.models.multitask.network import TaskNetworkConfig
from ctr_tf.schema import Schema
from ctr_tf.types import (
    CandidateSide,
    ContextSide,
    Fields,
    Representation,
    State,
    Tensor,
    UserSide,
    Widths,
)

Views = dict[str, int | dict[str, int | TableConfig]]


class Body:
    """The base of every architecture's body; `CTRModel` embeds for it and puts heads on it.

    A body makes its layers in `__init__`, as attributes that are Keras layers or lists of them, and
    implements the two towers. What depends on the user alone belongs in `user_tower`.

    Attributes:
        views: extra embeddings it wants of every feature: view name to width.
        one_width: whether every field must have the embedding's default width, numbers included
            (they are then multiplied by a learned vector); otherwise a number is a field of
            width 1.
        needs_sequence: whether it is defined over behaviour sequences alone.
        needs_user: whether it is defined over features or behaviours of the user alone.
        needs_candidate: whether it is defined over a candidate's features alone.
        logit_alone: whether its representation is a logit alone; heads then add a bias to it.
        factorised: whether its logit is the product of `query`, of the request, and of one vector
            that is all it makes of a candidate.
        split: its attributes that are layers, or lists of them, split between the sides, whose part
            `candidate` is all of the candidate's fields: what they make of it is in
            `CandidateSide.products`.

    Args:
        config: of the architecture.
        widths: of the embedded features.

    Raises:
        SettingError: see `check`.
    """

    views: ClassVar[dict[str, int]] = {}
    one_width: ClassVar[bool] = False
    needs_sequence: ClassVar[bool] = False
    needs_user: ClassVar[bool] = False
    needs_candidate: ClassVar[bool] = False
    logit_alone: ClassVar[bool] = False
    factorised: ClassVar[bool] = False
    split: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: ModelConfig, widths: Widths):
        self.check(config, widths)
        self.config = config
        self.widths = widths

    @classmethod
    def views_of(cls, config: ModelConfig, widths: Widths) -> Views:
        """`views`, or where they follow from the config, the width of each feature that has one.

        In place of the width, all in which its table differs from the feature's own. Behaviour
        attributes are named `sequence.attribute`.
        """
        return dict(cls.views)

    @classmethod
    def check(cls, config: ModelConfig, widths: Widths) -> None:
        """Checks that the architecture is defined over features of these widths.

        It needs no Keras: a config that does not fit is told when it is read.

        Raises:
            SettingError: it needs a behaviour sequence, or a feature of the user or the candidate,
                and there is none, or heads that read a representation and it has a logit alone.
        """
        if cls.logit_alone and isinstance(config.heads, TaskNetworkConfig):
            raise SettingError(
                ("model", "heads", "kind"),
                f"{config.name} has a logit alone, which {config.heads.kind!r} cannot read; "
                "use 'binary'",
            )
        if cls.needs_sequence and not widths.sequences:
            raise SettingError(
                ("model", "name"), f"{config.name} needs a behaviour sequence; the schema has none"
            )
        if cls.needs_user and not (widths.user or widths.sequences):
            raise SettingError(
                ("model", "name"), f"{config.name} needs a user feature; the schema has none"
            )
        if cls.needs_candidate and not widths.candidate:
            raise SettingError(
                ("model", "name"), f"{config.name} needs a candidate feature; the schema has none"
            )

    @classmethod
    def embedding(cls, config: ModelConfig, schema: Schema) -> EmbeddingConfig:
        """The tables that it needs over a schema: the configured ones, where it says no more."""
        return config.embedding

    def candidate_products(self, fields: Fields, training: bool) -> dict[str, Tensor]:
        """What layers make of the candidates' fields alone: those that are `split`.

        Args:
            fields: of the candidates.
            training: whether dropout is of training.

        Returns:
            (B, N, units) by the layer's name.
        """
        from ctr_tf import layers

        own = layers.concat(fields.values.values())
        found = {}
        for value in (getattr(self, name) for name in self.split):
            for layer in value if isinstance(value, list) else [value]:
                if layer is not None and layer.part_widths.get("candidate"):
                    found[layer.name] = layer.part("candidate", own)
        return found

    def user_tower(self, user: UserSide, training: bool) -> State:
        """All that depends on the user alone: flat, dense, first axis B; None for an absent part.

        A body without a user side returns an empty state.
        """
        return {}

    def item_tower(
        self,
        state: State,
        context: ContextSide,
        candidates: CandidateSide,
        training: bool,
    ) -> Representation:
        """What it says of each candidate, (B, N, H), from the user tower's state."""
        raise TypeError(f"{type(self).__name__} defines no item_tower")

    def query(self, state: State, context: ContextSide, training: bool) -> Tensor:
        """What a factorised body multiplies each candidate's vector with: (B, E)."""
        raise TypeError(f"{type(self).__name__} is not factorised")


def layers_of(owner: object) -> list:
    """The Keras layers among an object's attributes and in lists of them, in order."""
    import keras

    return [
        layer
        for value in vars(owner).values()
        for layer in (value if isinstance(value, list) else [value])
        if isinstance(layer, keras.Layer)
    ]


def pooled_history(user: UserSide, without: str | None = None) -> list[Tensor]:
    """The mean of each behaviour attribute, for bodies without attention: (B, D) each.

    Args:
        user: with sequences.
        without: one that is left out.
    """
    from ctr_tf import layers

    return [
        layers.pool(value, sequence.mask, "mean")
        for name, sequence in user.sequences.items()
        if name != without
        for value in sequence.values.values()
    ]


def pooled_widths(widths: Widths, without: str | None = None) -> list[int]:
    """The widths of what `pooled_history` returns."""
    return [
        width
        for name, sequence in widths.sequences.items()
        if name != without
        for width in sequence.values()
    ]
