"""AutoInt."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from ctr_tf import layers
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import DeepFields, ModelConfig
from ctr_tf.models.sides import (
    check_first_order,
    deep_network,
    side_totals,
    side_widths,
    user_fields,
)
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class AutoIntConfig(DeepFields, ModelConfig):
    """Configuration of AutoInt.

    Args:
        interacting_layers: number of attention layers.
        attention_heads: of each of them.
        attention_width: of each head.
        residual: whether each layer adds a projection of its input.
        scaled: whether scores are divided by the root of the head's width.
        projection: activation of the projections; the paper's equations have none.
        units: hidden widths of a deep part beside them (AutoInt+); none by default.
        activation, batch_norm, dropout: of the deep part.
    """

    name: str = "autoint"
    interacting_layers: PositiveInt = 3
    attention_heads: PositiveInt = 2
    attention_width: PositiveInt = 32
    residual: bool = True
    scaled: bool = False
    projection: Literal["linear", "relu"] = "linear"
    units: list[PositiveInt] = []


@register("autoint", paper="Song et al. 2019, arXiv:1810.11921, eq. 5-9", config=AutoIntConfig)
class AutoInt(Body):
    """AutoInt: fields attend to each other, layer by layer.

    Song et al. 2019, arXiv:1810.11921, equations 5 to 9: interacting layers over all
    fields, see `layers.FieldAttention`, then one linear unit over their concatenation; AutoInt+
    adds the logit of an MLP over the embeddings. A number x is the field x v,
    behaviour sequences are fields by their mean.

    The first layer's projections of the user's fields, and those of the context's, are computed
    once a request. The attention itself is not split: the softmax of a user field's row runs over
    the candidate's fields too, so that every row depends on the candidate from the first layer on.

    Args:
        config: see `AutoIntConfig`.
        widths: of the embedded features, all alike.

    Shapes:
        state: `projected` (B, F_user, P), P = 4 heads attention_width, or 3 of them without a
        residual, and `deep` (B, units[0]) with a deep part; representation
        (B, N, F heads attention_width + units[-1]).

    Raises:
        SettingError: no feature but behaviours.

    Example:
        >>> body = AutoInt(AutoIntConfig(), Widths(candidate={"item_id": 4, "genre": 4}))
        >>> len(body.interacting), body.deep is None
        (3, True)
    """

    one_width = True

    def __init__(self, config: AutoIntConfig, widths: Widths):
        super().__init__(config, widths)
        width = sum(side_widths(widths).values(), [])[0]
        self.interacting = []
        for number in range(config.interacting_layers):
            layer = layers.FieldAttention(
                width,
                config.attention_heads,
                config.attention_width,
                config.residual,
                config.scaled,
                config.projection,
                name=f"interacting_{number}",
            )
            self.interacting.append(layer)
            width = layer.width
        self.deep = deep_network(config, side_totals(widths)) if config.units else None

    @classmethod
    def check(cls, config: AutoIntConfig, widths: Widths) -> None:
        super().check(config, widths)
        check_first_order(config, widths)

    def user_tower(self, user: UserSide, training: bool) -> State:
        return self._parts("user", user_fields(user))

    def _parts(self, side: str, fields: list) -> State:
        """What the first layers make of one side's fields alone."""
        if not fields:
            return {}
        parts = {"projected": self.interacting[0].project(layers.stacked(fields))}
        if self.deep is not None:
            parts["deep"] = self.deep.part(side, layers.concat(fields))
        return parts

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        from keras import ops

        mask = candidates.mask
        per_request = [state, self._parts("context", list(context.fields.values.values()))]
        own = self._parts("candidate", list(candidates.fields.values.values()))

        projected = [
            layers.per_candidate(side["projected"], mask)
            for side in per_request
            if "projected" in side
        ]
        projected += [own["projected"]] if own else []
        # (B, N, F, P): attention takes candidates as rows.
        x = ops.concatenate(projected, axis=2)
        x = self.interacting[0](ops.reshape(x, (-1, *x.shape[2:])))
        for layer in self.interacting[1:]:
            x = layer(layer.project(x))
        count = x.shape[1] * x.shape[2]
        x = ops.reshape(x, (*ops.shape(mask), count))
        if self.deep is None:
            return Representation(x)
        deep = layers.over_candidates(
            [side.get("deep") for side in per_request], own.get("deep"), mask
        )
        return Representation(layers.concat([x, self.deep(deep, mask, training=training)]))
