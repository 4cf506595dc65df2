"""Deep & Cross Network."""

from __future__ import annotations

from pydantic import PositiveInt

from ctr_tf import layers
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


class DCNConfig(DeepFields, ModelConfig):
    """Configuration of DCN.

    Args:
        cross_layers: number of cross layers.
        units, activation, batch_norm, dropout: of the deep network.
    """

    name: str = "dcn"
    cross_layers: PositiveInt = 3


@register("dcn", paper="Wang et al. 2017, arXiv:1708.05123, eq. 2-5", config=DCNConfig)
class DCN(Body):
    """Deep & Cross Network: a cross network of vectors beside an MLP.

    Wang et al. 2017, arXiv:1708.05123, equations 2 to 5: x_{l+1} = x_0 x_l^T w_l + b_l + x_l; the
    head reads its end and the MLP's. x_0 is every field, behaviour sequences by their mean. All
    that the cross network reads of x_0 are the products x_0^T w_l, whose share of the user is
    computed once a request, as is that of the first deep layer.

    Args:
        config: see `DCNConfig`.
        widths: of the embedded features.

    Shapes:
        state: `user` (B, D_user), `cross` (B, cross_layers), `deep` (B, units[0]); representation
        (B, N, D + units[-1]).

    Example:
        >>> body = DCN(DCNConfig(), Widths(user={"age": 1}, candidate={"item_id": 4}))
        >>> body.cross.bias.shape
        TensorShape([3, 5])
    """

    split = ("cross", "deep")

    def __init__(self, config: DCNConfig, widths: Widths):
        super().__init__(config, widths)
        parts = side_totals(widths)
        self.cross = layers.CrossVectors(parts, config.cross_layers, name="cross")
        self.deep = deep_network(config, parts)

    def user_tower(self, user: UserSide, training: bool) -> State:
        x = layers.concat(user_fields(user))
        return {"user": x, "cross": self.cross.part("user", x), "deep": self.deep.part("user", x)}

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        sides = item_sides(context, candidates)
        x0 = all_fields(state.get("user"), *sides, mask)
        crossed = self.cross.from_parts(
            x0, side_products(self.cross, state.get("cross"), context, candidates)
        )
        products = side_products(self.deep, state.get("deep"), context, candidates)
        return Representation(
            layers.concat([crossed, self.deep(products, mask, training=training)])
        )
