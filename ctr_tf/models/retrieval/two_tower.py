"""Two towers whose inner product is the score: what a candidate index is made of."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import SettingError
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import InterestFields, ModelConfig
from ctr_tf.models.in_batch_softmax import InBatchSoftmaxConfig
from ctr_tf.models.multitask import AnyHeads
from ctr_tf.models.sides import side_totals, user_fields
from ctr_tf.registry import register
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

ITEM = "item"
"""The product, of the candidates alone, that is an item's vector."""
SMALLEST = 1e-8
"""Added to the square of a vector's length."""


class TwoTowerConfig(InterestFields, ModelConfig):
    """Configuration of the two towers.

    Args:
        units, activation, dropout: of the hidden layers of each tower.
        width: of the vectors of queries and items.
        temperature: what inner products of vectors of length 1 are divided by.
        heads: in-batch softmax, which makes it a retrieval model; `binary` trains it on impressions
            alone.
    """

    name: str = "two_tower"
    units: list[PositiveInt] = Field([256, 128], min_length=1)
    width: PositiveInt = 64
    temperature: PositiveFloat = 0.05
    heads: AnyHeads = InBatchSoftmaxConfig()


@register(
    "two_tower",
    paper="Yi et al. 2019, RecSys, sampling-bias-corrected neural modeling, eq. 1",
    config=TwoTowerConfig,
)
class TwoTower(Body):
    """Two towers: s(x, y) = <u(x), v(y)> / temperature, u and v of length 1.

    Yi et al. 2019, RecSys, section 3, equation 1: u reads the user, behaviours by their mean, and
    the context; v the item. Each is an MLP with a linear layer at its end. v depends on the item
    alone, so that a table of items holds it, and an index finds the items with the largest
    products.

    Args:
        config: see `TwoTowerConfig`.
        widths: of the embedded features.

    Shapes:
        state: `user` (B, units[0]), the user's product of the first layer, as the context is of a
        request; logits (B, N).

    Raises:
        SettingError: no user or no candidate feature, or Dice, whose statistics count candidates
            while an item's vector is of the item alone.

    Example:
        >>> widths = Widths(user={"age": 1}, candidate={"item_id": 4})
        >>> TwoTower(TwoTowerConfig(units=[8]), widths).query_network.part_widths
        {'user': 1, 'context': 0}
    """

    needs_user = True
    needs_candidate = True
    logit_alone = True
    factorised = True

    def __init__(self, config: TwoTowerConfig, widths: Widths):
        from keras.layers import Dense

        super().__init__(config, widths)
        own = {"activation_name": config.activation, "dropout": config.dropout}
        total = side_totals(widths)
        parts = {side: total[side] for side in ("user", "context")}
        self.query_network = layers.SplitMLP(parts, config.units, **own, name="query_network")
        self.query_vector = Dense(config.width, name="query_vector")
        self.item_network = layers.MLP(config.units, **own, name="item_network")
        self.item_vector = Dense(config.width, name="item_vector")

    @classmethod
    def check(cls, config: TwoTowerConfig, widths: Widths) -> None:
        super().check(config, widths)
        if config.activation == "dice":
            rule = "two_tower encodes each item alone, and dice counts candidates; use relu"
            raise SettingError(("model", "activation"), rule)

    def candidate_products(self, fields: Fields, training: bool) -> dict[str, Tensor]:
        x = self.item_network(layers.concat(fields.values.values()), training=training)
        return {ITEM: _unit(self.item_vector(x))}

    def user_tower(self, user: UserSide, training: bool) -> State:
        return {"user": self.query_network.part("user", layers.concat(user_fields(user)))}

    def query(self, state: State, context: ContextSide, training: bool) -> Tensor:
        """u(x) / temperature, (B, W), whose products with items' vectors are the logits."""
        of_context = layers.concat(context.fields.values.values())
        products = [state["user"], self.query_network.part("context", of_context)]
        x = self.query_network(products, training=training)
        return _unit(self.query_vector(x)) / self.config.temperature

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        from keras import ops

        query = self.query(state, context, training)
        items = ops.cast(candidates.products[ITEM], "float32")
        logit = ops.matmul(items, query[..., None])[..., 0]
        return Representation(None, ops.where(candidates.mask, logit, 0.0))


def _unit(x: Tensor) -> Tensor:
    """Of length 1, in float32 whatever the policy: logits are of its order."""
    from keras import ops

    x = ops.cast(x, "float32")
    # Zero, such as the query of a user without behaviours at the first step, stays zero.
    return x * ops.rsqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + SMALLEST)
