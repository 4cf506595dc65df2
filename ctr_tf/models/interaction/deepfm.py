"""DeepFM."""

from __future__ import annotations

from ctr_tf import layers
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import DeepFields, ModelConfig
from ctr_tf.models.sides import (
    check_first_order,
    deep_network,
    fm_logit,
    fm_state,
    side_products,
    side_totals,
    user_fields,
)
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class DeepFMConfig(DeepFields, ModelConfig):
    """Configuration of DeepFM.

    Args:
        units, activation, batch_norm, dropout: of the deep part.
    """

    name: str = "deepfm"


@register("deepfm", paper="Guo et al. 2017, arXiv:1703.04247, eq. 1-4", config=DeepFMConfig)
class DeepFM(Body):
    """DeepFM: a factorisation machine and an MLP over the same embeddings.

    Guo et al. 2017, arXiv:1703.04247, equations 1 to 4: logit = <w, x> + sum over pairs of fields
    of <v_i, v_j> + MLP(all v). A number x is the field x v and the weight x w; behaviour sequences
    are fields by their mean, without a first-order weight. Sums over the user's fields are
    computed once a request.

    Args:
        config: see `DeepFMConfig`.
        widths: of the embedded features, all alike.

    Shapes:
        state: `total` (B, D), `squares` (B, D), `linear` (B, 1), `deep` (B, units[0]);
        representation (B, N, units[-1]) with a logit (B, N).

    Example:
        >>> DeepFM(DeepFMConfig(), Widths(candidate={"item_id": 4, "genre": 4})).views
        {'linear': 1}
    """

    views = {"linear": 1}
    one_width = True
    split = ("deep",)

    def __init__(self, config: DeepFMConfig, widths: Widths):
        super().__init__(config, widths)
        self.deep = deep_network(config, side_totals(widths))

    @classmethod
    def check(cls, config: DeepFMConfig, widths: Widths) -> None:
        super().check(config, widths)
        check_first_order(config, widths)

    def user_tower(self, user: UserSide, training: bool) -> State:
        fields = user_fields(user)
        return {**fm_state(user, fields), "deep": self.deep.part("user", layers.concat(fields))}

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        products = side_products(self.deep, state.get("deep"), context, candidates)
        deep = self.deep(products, mask, training=training)
        return Representation(deep, fm_logit(state, context, candidates))
