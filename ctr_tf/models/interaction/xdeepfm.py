"""xDeepFM."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import SettingError
from ctr_tf.models.architecture import (
    Body,
    linear_logit,
    linear_part,
    pooled_history,
    pooled_widths,
)
from ctr_tf.models.config import ModelConfig
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class XDeepFMConfig(ModelConfig):
    """Configuration of xDeepFM.

    Args:
        cin_units: rows of each layer of the compressed interaction network.
        cin_activation: of its rows; the paper's equation has none.
        cin_split_half: whether half of the rows of each of its layers but the last go to the next
            layer alone, the others to the output alone.
        units: hidden widths of the deep part.
        activation, batch_norm, dropout: of the deep part.
    """

    name: str = "xdeepfm"
    cin_units: list[PositiveInt] = Field([64, 64], min_length=1)
    cin_activation: Literal["linear", "relu"] = "linear"
    cin_split_half: bool = False
    units: list[PositiveInt] = Field([400, 400], min_length=1)
    activation: layers.names.Activation = "relu"
    batch_norm: bool = False
    dropout: NonNegativeFloat = Field(0.0, lt=1)


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

    def __init__(self, config: XDeepFMConfig, widths: Widths):
        super().__init__(config, widths)
        pooled = pooled_widths(widths)
        self.cin = layers.CIN(
            len(widths.user) + len(pooled),
            len(widths.context) + len(widths.candidate),
            config.cin_units,
            config.cin_activation,
            config.cin_split_half,
            name="cin",
        )
        self.deep = layers.SplitMLP(
            {
                "user": widths.total("user") + sum(pooled),
                "context": widths.total("context"),
                "candidate": widths.total("candidate"),
            },
            config.units,
            config.activation,
            config.batch_norm,
            config.dropout,
            name="deep",
        )

    @classmethod
    def check(cls, config: XDeepFMConfig, widths: Widths) -> None:
        super().check(config, widths)
        if not (widths.user or widths.context or widths.candidate):
            rule = "xdeepfm needs a feature that is no behaviour; the schema has none"
            raise SettingError(("model", "name"), rule)
        for index, width in enumerate(config.cin_units[:-1]):
            if config.cin_split_half and width % 2:
                raise SettingError(
                    ("model", "cin_units", index), f"must be even to be split in half, got {width}"
                )

    def user_tower(self, user: UserSide, training: bool) -> State:
        fields = [*user.fields.values.values(), *pooled_history(user)]
        stacked = layers.stacked(fields)
        return {
            "fields": stacked,
            "deep": self.deep.part("user", layers.concat(fields)),
            **self.cin.of_user(stacked),
            **linear_part(user.fields),
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

        deep = layers.over_candidates(
            [state.get("deep"), self.deep.part("context", layers.concat(of_context))],
            self.deep.part("candidate", layers.concat(own)),
            mask,
        )
        deep = self.deep(deep, mask, training=training)
        vector = layers.concat([explicit, deep])
        return Representation(vector, linear_logit(state, context, candidates))
