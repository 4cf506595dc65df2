"""Deep & Cross Network v2."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import SettingError
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import DeepFields, ModelConfig
from ctr_tf.models.sides import (
    all_fields,
    deep_network,
    item_sides,
    side_products,
    side_totals,
    user_fields,
)
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class DCNV2Config(DeepFields, ModelConfig):
    """Configuration of DCN-v2.

    Args:
        structure: whether the deep network reads the cross network's output, or stands beside it.
        cross_layers: number of cross layers.
        rank: rank of each cross layer's matrix; full when unset.
        experts: experts of that rank in each cross layer, gated by its input; one matrix when
            unset.
        gate: how experts are gated.
        expert_activation: within the experts.
        units, activation, batch_norm, dropout: of the deep network.
    """

    name: str = "dcn_v2"
    structure: Literal["stacked", "parallel"] = "parallel"
    cross_layers: PositiveInt = 3
    rank: PositiveInt | None = None
    experts: PositiveInt | None = None
    gate: Literal["softmax", "sigmoid"] = "softmax"
    expert_activation: Literal["tanh", "relu", "sigmoid", "linear"] = "tanh"


@register("dcn_v2", paper="Wang et al. 2021, arXiv:2008.13535, eq. 1-4, fig. 1", config=DCNV2Config)
class DCNV2(Body):
    """Deep & Cross Network v2: explicit feature crosses of bounded degree, and an MLP.

    Wang et al. 2021, arXiv:2008.13535, sections 3.2 and 3.3, equation 1:
    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l, with W_l = U_l V_l^T in its low-rank form (equation 2),
    or a mixture of low-rank experts (equations 3 and 4). x_0 is every field, behaviour sequences by
    their mean. The first cross layer's product, and in the parallel structure the first deep
    layer's, is split: the user's share is computed once.

    Args:
        config: see `DCNV2Config`.
        widths: of the embedded features.

    Shapes:
        state: `user` (B, D_user), `cross` (B, D, rank or experts * (1 + rank)), `deep` (B,
        units[0]) when parallel; representation (B, N, units[-1]) stacked, (B, N, D + units[-1])
        parallel.

    Raises:
        SettingError: experts without a rank.

    Example:
        >>> body = DCNV2(DCNV2Config(), Widths(user={"age": 4}, candidate={"item_id": 4}))
        >>> len(body.cross)
        3
    """

    split = ("cross", "deep")

    def __init__(self, config: DCNV2Config, widths: Widths):
        super().__init__(config, widths)
        parts = side_totals(widths)
        crossed = {"cross": sum(parts.values())}
        self.parallel = config.structure == "parallel"
        self.cross = [
            self._cross(crossed if i else parts, f"cross_{i}") for i in range(config.cross_layers)
        ]
        self.deep = deep_network(config, parts if self.parallel else crossed)

    def _cross(self, parts: dict[str, int], name: str) -> layers.Cross | layers.CrossExperts:
        config = self.config
        if config.experts is None:
            return layers.Cross(parts, config.rank, name=name)
        return layers.CrossExperts(
            parts, config.rank, config.experts, config.gate, config.expert_activation, name=name
        )

    @classmethod
    def check(cls, config: DCNV2Config, widths: Widths) -> None:
        super().check(config, widths)
        if config.experts is not None and config.rank is None:
            raise SettingError(("model", "rank"), "experts need a rank; there is none")

    def user_tower(self, user: UserSide, training: bool) -> State:
        x = layers.concat(user_fields(user))
        state = {"user": x, "cross": self.cross[0].part("user", x)}
        if self.parallel:
            state["deep"] = self.deep.part("user", x)
        return state

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        sides = item_sides(context, candidates)
        x0 = all_fields(state.get("user"), *sides, mask)
        first = self.cross[0]
        x = first.from_parts(x0, x0, side_products(first, state.get("cross"), context, candidates))
        for layer in self.cross[1:]:
            x = layer(x0, x)
        if not self.parallel:
            return Representation(self.deep([self.deep.part("cross", x)], mask, training=training))
        products = side_products(self.deep, state.get("deep"), context, candidates)
        return Representation(layers.concat([x, self.deep(products, mask, training=training)]))
