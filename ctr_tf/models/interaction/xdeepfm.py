"""xDeepFM."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import SettingError
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import DeepFields, ModelConfig
from ctr_tf.models.sides import (
    check_first_order,
    deep_network,
    first_order,
    first_order_logit,
    side_products,
    side_totals,
    side_widths,
    user_fields,
)
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class XDeepFMConfig(DeepFields, ModelConfig):
    """Configuration of xDeepFM.

    Args:
        cin_units: rows of each layer of the compressed interaction network.
        cin_activation: of its rows; the paper's equation has none.
        cin_split_half: whether half of the rows of each of its layers but the last go to the next
            layer alone, the others to the output alone.
        cin_bias: whether its rows have a bias; the paper's equation has none, the authors' code
            has one.
        units: hidden widths of the deep part.
        activation, batch_norm, dropout: of the deep part.
    """

    name: str = "xdeepfm"
    cin_units: list[PositiveInt] = Field([64, 64], min_length=1)
    cin_activation: Literal["linear", "relu"] = "linear"
    cin_split_half: bool = False
    cin_bias: bool = False
    units: list[PositiveInt] = Field([400, 400], min_length=1)


@register("xdeepfm", paper="Lian et al. 2018, arXiv:1803.05170, eq. 6", config=XDeepFMConfig)
class XDeepFM(Body):
    """xDeepFM: a compressed interaction network beside an MLP and a linear part.

    Lian et al. 2018, arXiv:1803.05170, section 3, equation 6: the logit is
    <w, x> + w_cin CIN(all v) + w_dnn MLP(all v) + b, see `layers.CIN`. A number x is the field x v
    and the weight x w; behaviour sequences are fields by their mean, without a first-order weight.
    Of the interaction network's first layer, pairs of the user's fields and their factors of the
    other fields are computed once a request; its later layers, whose rows depend on the candidate,
    once a candidate.

    Args:
        config: see `XDeepFMConfig`.
        widths: of the embedded features, all alike.

    Shapes:
        state: `fields` (B, F_user, D), `pairs` (B, D, cin_units[0]), `factors`
        (B, D, F - F_user, cin_units[0]), `linear` (B, 1), `deep` (B, units[0]); representation
        (B, N, S + units[-1]), S the rows that the network sums, with a logit (B, N).

    Raises:
        SettingError: no feature but behaviours, or an odd number of rows to split.

    Example:
        >>> XDeepFM(XDeepFMConfig(), Widths(candidate={"item_id": 4, "genre": 4})).cin.width
        128
    """

    views = {"linear": 1}
    one_width = True
    split = ("deep",)

    def __init__(self, config: XDeepFMConfig, widths: Widths):
        super().__init__(config, widths)
        counts = {side: len(own) for side, own in side_widths(widths).items()}
        self.cin = layers.CIN(
            counts["user"],
            counts["context"] + counts["candidate"],
            config.cin_units,
            config.cin_activation,
            config.cin_split_half,
            config.cin_bias,
            name="cin",
        )
        self.deep = deep_network(config, side_totals(widths))

    @classmethod
    def check(cls, config: XDeepFMConfig, widths: Widths) -> None:
        super().check(config, widths)
        check_first_order(config, widths)
        for index, width in enumerate(config.cin_units[:-1]):
            if config.cin_split_half and width % 2:
                raise SettingError(
                    ("model", "cin_units", index), f"must be even to be split in half, got {width}"
                )

    def user_tower(self, user: UserSide, training: bool) -> State:
        fields = user_fields(user)
        stacked = layers.stacked(fields)
        return {
            "fields": stacked,
            "deep": self.deep.part("user", layers.concat(fields)),
            **self.cin.of_user(stacked),
            "linear": first_order(user.fields),
        }

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        of_context = list(context.fields.values.values())
        own = list(candidates.fields.values.values())
        rest = layers.stacked([*(layers.per_candidate(field, mask) for field in of_context), *own])
        of_user = {name: state[name] for name in ("pairs", "factors") if name in state}
        explicit = self.cin(state.get("fields"), rest, of_user, mask)
        products = side_products(self.deep, state.get("deep"), context, candidates)
        vector = layers.concat([explicit, self.deep(products, mask, training=training)])
        logit = first_order_logit(state.get("linear"), context, candidates)
        return Representation(vector, logit)
