"""Wide & Deep."""

from __future__ import annotations

from ctr_tf import layers
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import DeepFields, ModelConfig
from ctr_tf.models.sides import (
    check_first_order,
    deep_network,
    first_order,
    first_order_logit,
    side_products,
    side_totals,
    user_fields,
)
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class WideDeepConfig(DeepFields, ModelConfig):
    """Configuration of Wide & Deep.

    Args:
        units, activation, batch_norm, dropout: of the deep part.
    """

    name: str = "wide_deep"


@register("wide_deep", paper="Cheng et al. 2016, arXiv:1606.07792, eq. 2-3", config=WideDeepConfig)
class WideDeep(Body):
    """Wide & Deep: a linear model and an MLP, trained together.

    Cheng et al. 2016, arXiv:1606.07792, equations 2 and 3: logit = w_wide^T x + w_deep^T a + b. The
    wide part has a weight for every value of every feature; a cross-product of features (equation
    1) is one that the log has as a column. The deep part reads all fields, behaviour sequences by
    their mean; behaviours have no wide weight. What both make of the user is computed once a
    request.

    Args:
        config: see `WideDeepConfig`.
        widths: of the embedded features.

    Shapes:
        state: `deep` (B, units[0]), `linear` (B, 1); representation (B, N, units[-1]) with a logit
        (B, N).

    Raises:
        SettingError: there is no feature but behaviours.

    Example:
        >>> WideDeep(WideDeepConfig(), Widths(candidate={"item_id": 4})).views
        {'linear': 1}
    """

    views = {"linear": 1}
    split = ("deep",)

    def __init__(self, config: WideDeepConfig, widths: Widths):
        super().__init__(config, widths)
        self.deep = deep_network(config, side_totals(widths))

    @classmethod
    def check(cls, config: WideDeepConfig, widths: Widths) -> None:
        super().check(config, widths)
        check_first_order(config, widths)

    def user_tower(self, user: UserSide, training: bool) -> State:
        deep = self.deep.part("user", layers.concat(user_fields(user)))
        return {"deep": deep, "linear": first_order(user.fields)}

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        products = side_products(self.deep, state.get("deep"), context, candidates)
        logit = first_order_logit(state.get("linear"), context, candidates)
        return Representation(self.deep(products, mask, training=training), logit)
