"""Deep & Cross Network v2."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from ctr_tf import layers
from ctr_tf.models.architecture import Body, pooled_history, pooled_widths
from ctr_tf.models.config import ModelConfig
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class DCNV2Config(ModelConfig):
    """Configuration of DCN-v2.

    Args:
        structure: whether the deep network reads the cross network's output, or stands beside it.
        cross_layers: number of cross layers.
        rank: rank of each cross layer's matrix; full when unset.
        units: hidden widths of the deep network.
        activation, batch_norm, dropout: of the deep network.
    """

    name: str = "dcn_v2"
    structure: Literal["stacked", "parallel"] = "parallel"
    cross_layers: PositiveInt = 3
    rank: PositiveInt | None = None
    units: list[PositiveInt] = Field([400, 400, 400], min_length=1)
    activation: layers.names.Activation = "relu"
    batch_norm: bool = False
    dropout: NonNegativeFloat = Field(0.0, lt=1)


@register("dcn_v2", paper="Wang et al. 2021, arXiv:2008.13535, eq. 1-2, fig. 1", config=DCNV2Config)
class DCNV2(Body):
    """Deep & Cross Network v2: explicit feature crosses of bounded degree, and an MLP.

    Wang et al. 2021, arXiv:2008.13535, sections 3.2 and 3.3, equation 1:
    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l, with W_l = U_l V_l^T in its low-rank form (equation 2).
    x_0 is every field, behaviour sequences by their mean. The first cross layer's product, and in
    the parallel structure the first deep layer's, is split: the user's share is computed once.

    Args:
        config: see `DCNV2Config`.
        widths: of the embedded features.

    Shapes:
        state: `user` (B, D_user), `cross` (B, D or rank), `deep` (B, units[0]) when parallel;
        representation (B, N, units[-1]) stacked, (B, N, D + units[-1]) parallel.

    Example:
        >>> body = DCNV2(DCNV2Config(), Widths(user={"age": 4}, candidate={"item_id": 4}))
        >>> len(body.cross)
        3
    """

    def __init__(self, config: DCNV2Config, widths: Widths):
        super().__init__(config, widths)
        parts = {
            "user": widths.total("user") + sum(pooled_widths(widths)),
            "context": widths.total("context"),
            "candidate": widths.total("candidate"),
        }
        self.parallel = config.structure == "parallel"
        self.cross = [
            layers.Cross(parts, config.rank, name=f"cross_{i}") for i in range(config.cross_layers)
        ]
        self.deep = layers.SplitMLP(
            parts if self.parallel else {"cross": sum(parts.values())},
            config.units,
            config.activation,
            config.batch_norm,
            config.dropout,
            name="deep",
        )

    def user_tower(self, user: UserSide, training: bool) -> State:
        x = layers.concat([*user.fields.values.values(), *pooled_history(user)])
        state = {"user": x, "cross": self.cross[0].part("user", x)}
        if self.parallel:
            state["deep"] = self.deep.part("user", x)
        return state

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        of_context = layers.concat(context.fields.values.values())
        of_candidate = layers.concat(candidates.fields.values.values())
        per_request = [part for part in (state.get("user"), of_context) if part is not None]
        x0 = layers.concat([*(layers.per_candidate(p, mask) for p in per_request), of_candidate])

        def products(layer, user_product):
            per_request = [user_product, layer.part("context", of_context)]
            return layers.over_candidates(per_request, layer.part("candidate", of_candidate), mask)

        x = self.cross[0].from_parts(x0, x0, products(self.cross[0], state.get("cross")))
        for layer in self.cross[1:]:
            x = layer(x0, x)
        if not self.parallel:
            return Representation(self.deep([self.deep.part("cross", x)], mask, training=training))
        deep = self.deep(products(self.deep, state.get("deep")), mask, training=training)
        return Representation(layers.concat([x, deep]))
