"""Co-Action Network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import SettingError, check_known
from ctr_tf.models.architecture import Body, pooled_history, pooled_widths
from ctr_tf.models.behaviour.compared import (
    AttentionFields,
    attention_units,
    check_compared,
    compared,
    interests_of,
    keys_of,
)
from ctr_tf.models.config import InterestFields, ModelConfig
from ctr_tf.models.sides import side_products
from ctr_tf.registry import register
from ctr_tf.types import (
    CandidateSide,
    ContextSide,
    Representation,
    State,
    Tensor,
    UserSide,
    Widths,
)


class CANConfig(AttentionFields, InterestFields, ModelConfig):
    """Configuration of CAN.

    Args:
        induction: the candidate features whose embeddings are micro-MLPs; by default those that
            behaviours have too.
        feeds: what passes through them, user fields by name and behaviour attributes as
            `sequence.attribute`; all by default.
        feed_width: of a feed's embedding.
        micro_units: widths of the micro-MLP's layers.
        orders: the highest power of a feed.
        order_independent: whether each order has a micro-MLP of its own.
        pair_independent: whether each pair has embeddings of its own (combination independence).
        biases: whether the micro-MLP's layers have biases.
        last_activation: whether its last layer has an activation.
        combine: whether orders are added up or stand side by side.
        pool: whether the co-actions of behaviours are added up (`outputs`), or the behaviours
            before them (`inputs`), which is of the user alone.
        base: what else the MLP sees of behaviours: DIN's interest, or their mean (`mlp`).
        attention_units, attention_activation, softmax, folded, folded_units: of the base `din`,
            see `AttentionFields`.
        units, activation, dropout: of the MLP.
    """

    name: str = "can"
    induction: list[str] | None = Field(None, min_length=1)
    feeds: list[str] | None = Field(None, min_length=1)
    feed_width: PositiveInt = 16
    micro_units: list[PositiveInt] = Field([8, 4], min_length=1)
    orders: PositiveInt = 2
    order_independent: bool = False
    pair_independent: bool = False
    biases: bool = True
    last_activation: bool = True
    combine: Literal["sum", "concat"] = "sum"
    pool: Literal["outputs", "inputs"] = "outputs"
    base: Literal["din", "mlp"] = "din"
    folded_units: list[PositiveInt] = Field([160, 40], min_length=1)
    activation: layers.names.Activation = "dice"


@register("can", paper="Bian et al. 2022, arXiv:2011.05625, eq. 3-13", config=CANConfig)
class CAN(Body):
    """Co-Action Network: pairs of features crossed by micro-MLPs that candidates carry.

    Bian et al. 2022, arXiv:2011.05625, section 4: an embedding of each induction feature of the
    candidate holds the weights of a micro-MLP, through which embeddings of user fields and of
    behaviours pass (equations 5-11, see `layers.interaction.co_action.CoAction`); the results of
    all pairs (equations 12 and 13 with `pair_independent`) join DIN's input or that of a plain MLP
    (equation 3). Embeddings of the co-action are tables of their own, `TABLE/induction` and
    `TABLE/feed` (parameter independence, section 4.4).

    With `folded` and `pool: inputs` it is our reading of CAN-dagger of SRP4CTR (Han et al. 2024),
    section 3.1.5, which the paper names but does not define: the base attends by dot products over
    what is of the user alone (see `DIN`), and so is what is fed, one sum a sequence: a candidate
    has one micro-MLP's pass a pair. The default `folded_units` make up for the passes it has not.

    Args:
        config: see `CANConfig`.
        widths: of the embedded features; at least one sequence.

    Shapes:
        state: `user` (B, units[0]), of each feed i `feed_i` (B, L, d) or (B, d), of each sequence
        s `s_mask` (B, L), and what DIN has; representation (B, N, units[-1]).

    Raises:
        SettingError: no sequence, no induction feature, a name that is none, or see `DIN`.

    Example:
        >>> widths = Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 4}})
        >>> CAN.views_of(CANConfig(), widths)
        {'induction': {'item_id': 172}, 'feed': {'history.item_id': 16}}
    """

    needs_sequence = True
    split = ("mlp",)

    def __init__(self, config: CANConfig, widths: Widths):
        super().__init__(config, widths)
        self.induction, self.feeds = _inductions(config, widths), _feeds(config, widths)
        self.unit = _unit(config)
        self.compared, self.attention = {}, []
        interest, user = 0, widths.total("user") + sum(pooled_widths(widths))
        if config.base == "din":
            self.compared = compared(widths)
            self.attention = attention_units(config, widths)
            interest, user = sum(pooled_widths(widths)), widths.total("user")
        pairs = len(self.induction) * len(self.feeds)
        self.mlp = layers.SplitMLP(
            {
                "user": user,
                "interest": interest,
                "context": widths.total("context"),
                "candidate": widths.total("candidate"),
                "co-action": pairs * self.unit.output_width,
            },
            config.units,
            config.activation,
            dropout=config.dropout,
            name="mlp",
        )

    @classmethod
    def views_of(cls, config: CANConfig, widths: Widths) -> dict[str, dict[str, int]]:
        induction, feeds = _inductions(config, widths), _feeds(config, widths)
        slices = (len(feeds), len(induction)) if config.pair_independent else (1, 1)
        return {
            "induction": dict.fromkeys(induction, _unit(config).width * slices[0]),
            "feed": dict.fromkeys(feeds, config.feed_width * slices[1]),
        }

    @classmethod
    def check(cls, config: CANConfig, widths: Widths) -> None:
        super().check(config, widths)
        if config.base == "din":
            check_compared(config.name, widths)
        for index, name in enumerate(config.induction or []):
            check_known(("model", "induction", index), "candidate feature", name, widths.candidate)
        for index, name in enumerate(config.feeds or []):
            check_known(
                ("model", "feeds", index), "user field or behaviour attribute", name,
                _every_feed(widths),
            )  # fmt: skip
        if not _inductions(config, widths):
            raise SettingError(
                ("model", "induction"),
                "must name candidate features, since behaviours have no attribute of theirs",
            )

    def user_tower(self, user: UserSide, training: bool) -> State:
        fields, state = list(user.fields.values.values()), {}
        if self.attention:
            state.update(keys_of(user, self.compared, self.attention, training))
        else:
            fields += pooled_history(user)
        state["user"] = self.mlp.part("user", layers.concat(fields))
        for i, name in enumerate(self.feeds):
            sequence, _, attribute = name.rpartition(".")
            if not sequence:
                state[f"feed_{i}"] = user.fields.views["feed"][name]
                continue
            behaviours = user.sequences[sequence]
            feed = behaviours.views["feed"][attribute]
            if self.config.pool == "inputs":
                packing = layers.Packing.of(behaviours.mask)
                state[f"feed_{i}"] = packing.sum(packing.pack(feed))
            else:
                state[f"feed_{i}"] = feed
                state[f"{sequence}_mask"] = behaviours.mask
        return state

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        products = side_products(self.mlp, state.get("user"), context, candidates)
        co_actions = layers.concat(self._co_actions(state, candidates))
        products.append(self.mlp.part("co-action", co_actions))
        if self.attention:
            interests = interests_of(state, candidates, self.compared, self.attention, training)
            products.append(self.mlp.part("interest", interests))
        return Representation(self.mlp(products, mask, training=training))

    def _co_actions(self, state: State, candidates: CandidateSide) -> list[Tensor]:
        """Of all pairs, induction feature by induction feature: (B, N, V) each."""
        found = []
        for q, name in enumerate(self.induction):
            vector = candidates.fields.views["induction"][name]
            for s, feed_name in enumerate(self.feeds):
                feed, mask = state[f"feed_{s}"], None
                induction = vector
                if self.config.pair_independent:
                    width, d = self.unit.width, self.config.feed_width
                    induction = vector[..., s * width : (s + 1) * width]
                    feed = feed[..., q * d : (q + 1) * d]
                if len(feed.shape) == 2:
                    feed = feed[:, None]
                else:
                    mask = state[f"{feed_name.rpartition('.')[0]}_mask"]
                found.append(self.unit(feed, mask, induction))
        return found


def _unit(config: CANConfig):
    """The co-action unit of that configuration."""
    return layers.CoAction(
        config.feed_width,
        config.micro_units,
        config.orders,
        config.order_independent,
        config.biases,
        config.last_activation,
        config.combine,
    )


def _inductions(config: CANConfig, widths: Widths) -> list[str]:
    """The candidate features that are micro-MLPs."""
    shared = [name for names in compared(widths).values() for name in names]
    return list(dict.fromkeys(config.induction or shared))


def _every_feed(widths: Widths) -> list[str]:
    behaviours = [f"{s}.{name}" for s, own in widths.sequences.items() for name in own]
    return [*behaviours, *widths.user]


def _feeds(config: CANConfig, widths: Widths) -> list[str]:
    """What passes through micro-MLPs."""
    return list(dict.fromkeys(config.feeds or _every_feed(widths)))
