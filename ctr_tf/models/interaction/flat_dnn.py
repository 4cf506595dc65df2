"""A plain MLP over every field."""

from __future__ import annotations

from ctr_tf import layers
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import DeepFields, ModelConfig
from ctr_tf.models.sides import deep_network, side_products, side_totals, user_fields
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class FlatDNNConfig(DeepFields, ModelConfig):
    """Configuration of the MLP.

    Args:
        units, activation, batch_norm, dropout: of the MLP.
    """

    name: str = "flat_dnn"


@register(
    "flat_dnn",
    paper="Cheng et al. 2016, arXiv:1606.07792, eq. 2, without the wide part",
    config=FlatDNNConfig,
)
class FlatDNN(Body):
    """A plain MLP over the concatenated embeddings of every field.

    Cheng et al. 2016, arXiv:1606.07792, equation 2: a^{l+1} = f(W^l a^l + b^l), the deep part of
    Wide & Deep alone. Behaviour sequences are fields by their mean. The first layer is split: the
    user's share of it is computed once a request.

    Args:
        config: see `FlatDNNConfig`.
        widths: of the embedded features.

    Shapes:
        state: `deep` (B, units[0]); representation (B, N, units[-1]).

    Example:
        >>> FlatDNN(FlatDNNConfig(units=[8]), Widths(candidate={"item_id": 4})).deep.split.units
        8
    """

    split = ("deep",)

    def __init__(self, config: FlatDNNConfig, widths: Widths):
        super().__init__(config, widths)
        self.deep = deep_network(config, side_totals(widths))

    def user_tower(self, user: UserSide, training: bool) -> State:
        return {"deep": self.deep.part("user", layers.concat(user_fields(user)))}

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        products = side_products(self.deep, state.get("deep"), context, candidates)
        return Representation(self.deep(products, mask, training=training))
