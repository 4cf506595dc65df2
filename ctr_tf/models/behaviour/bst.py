"""Behavior Sequence Transformer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import SettingError
from ctr_tf.models.architecture import Body
from ctr_tf.models.behaviour.compared import (
    behaviour_rows,
    check_compared,
    compared,
    target_row,
)
from ctr_tf.models.config import InterestFields, ModelConfig
from ctr_tf.models.sides import interest_network, side_products
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class BSTConfig(InterestFields, ModelConfig):
    """Configuration of BST.

    Args:
        attention_heads: of attention, a divisor of the joint width of item and position.
        blocks: of the transformer.
        feed_forward: hidden width of a block's feed-forward part; four times its width by default.
        positions: rows of the table of positions; what lies behind shares the last one.
        position_width: width of a position beside the item; 0 adds a position of the item's width.
        time_unit: seconds; a time difference is in row floor(log2(1 + difference / time_unit)).
        pool: what the MLP sees of the rows: all of them (`flatten`), their `mean`, or the
            candidate's (`target`), which with one block needs no other row per candidate.
        length: of `flatten`, the latest behaviours that have a place.
        encoder_dropout: rate of what each part of a block adds.
        units, activation, dropout: of the MLP.
    """

    name: str = "bst"
    attention_heads: PositiveInt = 8
    blocks: PositiveInt = 1
    feed_forward: PositiveInt | None = None
    positions: int = Field(32, ge=2)
    position_width: int = Field(16, ge=0)
    time_unit: PositiveInt = 1
    pool: Literal["flatten", "mean", "target"] = "flatten"
    length: PositiveInt = 20
    encoder_dropout: NonNegativeFloat = Field(0.0, lt=1)
    units: list[PositiveInt] = Field([1024, 512, 256], min_length=1)
    activation: layers.names.Activation = "leaky_relu"


@register("bst", paper="Chen et al. 2019, arXiv:1905.06874, eq. 1-8, fig. 1", config=BSTConfig)
class BST(Body):
    """Behavior Sequence Transformer: the candidate as last item of the sequence.

    Chen et al. 2019, arXiv:1905.06874, section 2: behaviours and candidate, each with its position,
    through transformer blocks (equations 2-8), whose rows enter an MLP with user, context and
    candidate fields. A position is the time from the behaviour to the request, in buckets of powers
    of two, where the schema has `timestamps`, else how many rows follow. A behaviour's attributes
    that a candidate has none of (a rating, say) are zeros in the candidate's row.

    Every row attends to the candidate. What does not depend on it, the projections of the first
    block and what behaviours attend to of each other, is computed once a user, or with times once a
    request; the rest has its exact form for each candidate, O(L W^2) of it, and O(L^2 W) in each
    further block: see `layers.TargetTransformer`. One block with `pool: target` folds wholly.

    Args:
        config: see `BSTConfig`.
        widths: of the embedded features; every sequence shares an attribute with the candidate.

    Shapes:
        state: `user` (B, units[0]), and for each sequence s `s_rows` (B, L, W), `s_projected`
        (B, L, 3 W), `s_mask` (B, L), and `s_times` (B, L) or what is computed without them;
        representation (B, N, units[-1]).

    Raises:
        SettingError: no sequence, one that has no attribute of the candidate's or of another width,
            or heads that do not divide the width of a row.

    Example:
        >>> widths = Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 4}})
        >>> BST(BSTConfig(attention_heads=2, pool="mean"), widths).mlp.split.part_widths
        {'user': 0, 'interest': 20, 'context': 0, 'candidate': 4}
    """

    needs_sequence = True
    split = ("mlp",)

    def __init__(self, config: BSTConfig, widths: Widths):
        super().__init__(config, widths)
        self.compared = compared(widths)
        self.transformers = [
            layers.TargetTransformer(
                sum(attributes.values()),
                config.attention_heads,
                config.blocks,
                config.feed_forward,
                "leaky_relu",
                config.encoder_dropout,
                config.positions,
                config.position_width,
                config.time_unit,
                config.pool,
                config.length,
                name=f"{sequence}_transformer",
            )
            for sequence, attributes in widths.sequences.items()
        ]
        interest = sum(layer.output_width for layer in self.transformers)
        self.mlp = interest_network(config, widths, interest)

    @classmethod
    def check(cls, config: BSTConfig, widths: Widths) -> None:
        super().check(config, widths)
        check_compared(config.name, widths)
        for sequence, attributes in widths.sequences.items():
            width = sum(attributes.values()) + config.position_width
            if width % config.attention_heads:
                raise SettingError(
                    ("model", "attention_heads"),
                    f"must divide the width of a row of {sequence!r}, {width} with its position; "
                    f"got {config.attention_heads}",
                )

    def user_tower(self, user: UserSide, training: bool) -> State:
        state = {"user": self.mlp.part("user", layers.concat(user.fields.values.values()))}
        for (name, own), transformer in zip(self.compared.items(), self.transformers):
            sequence = user.sequences[name]
            packing = layers.Packing.of(sequence.mask)
            rows = behaviour_rows(sequence, own, packing)
            parts = transformer.of_user(rows, sequence.mask, sequence.times)
            state.update({f"{name}_{part}": value for part, value in parts.items()})
        return state

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        found = []
        for (name, own), transformer in zip(self.compared.items(), self.transformers):
            parts = {
                part: state[f"{name}_{part}"]
                for part in transformer.parts
                if f"{name}_{part}" in state
            }
            found.append(
                transformer(
                    parts,
                    target_row(candidates, own),
                    candidates.mask,
                    now=context.time if "times" in parts else None,
                    training=training,
                )
            )
        mask = candidates.mask
        products = side_products(self.mlp, state.get("user"), context, candidates)
        products.append(self.mlp.part("interest", layers.concat(found)))
        return Representation(self.mlp(products, mask, training=training))
