"""Deep Interest Network."""

from __future__ import annotations

from ctr_tf import layers
from ctr_tf.models.architecture import Body, pooled_widths
from ctr_tf.models.behaviour.compared import (
    AttentionFields,
    attention_units,
    check_compared,
    compared,
    interests_of,
    keys_of,
)
from ctr_tf.models.config import InterestFields, ModelConfig
from ctr_tf.models.sides import interest_network, side_products
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class DINConfig(AttentionFields, InterestFields, ModelConfig):
    """Configuration of DIN.

    Args:
        attention_units, attention_activation, softmax, folded, folded_units: see `AttentionFields`.
        units, activation, dropout: of the MLP.
    """

    name: str = "din"
    activation: layers.names.Activation = "dice"


@register("din", paper="Zhou et al. 2018, arXiv:1706.06978, eq. 3-4, fig. 2", config=DINConfig)
class DIN(Body):
    """Deep Interest Network: behaviours weighted by their relevance to the candidate.

    Zhou et al. 2018, arXiv:1706.06978, section 4.3, equation 3: an MLP over user fields, for each
    behaviour sequence v_U(A) = sum_j a(e_j, v_A) e_j, context fields and candidate fields; Dice
    (equation 4) as activation. A behaviour is compared with the candidate by the attributes that
    both have; its other attributes (a rating, say) enter as keys and values alone.

    With `folded` it is our reading of DIN-dagger of SRP4CTR (Han et al. 2024), section 3.1.5, which
    the paper names but does not define: a variant that folded inference accelerates, of about the
    same FLOPs for one candidate. The MLP of attention sees the behaviour alone, a(e_j, v_A) =
    MLP(e_j) W v_A, so that it is computed once a request, and the candidate enters by one dot
    product a behaviour (see `layers.FoldedUnit`). `folded_units` match the FLOPs of the default
    unit on three attributes of width 16, two of which are compared.

    Args:
        config: see `DINConfig`.
        widths: of the embedded features; at least one sequence shares an attribute with the
            candidate side.

    Shapes:
        state: `user` (B, units[0]), and for each sequence s `s_keys` (B, L, D),
        `s_projected` (B, L, attention_units[0]), or with `folded` (B, L, A) of the compared width
        A, and `s_mask` (B, L); representation (B, N, units[-1]).

    Raises:
        SettingError: no sequence, or one without an attribute of the candidate's, or one of
            another width than the candidate's.

    Example:
        >>> widths = Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 4}})
        >>> sorted(vars(DIN(DINConfig(), widths)))
        ['attention', 'compared', 'config', 'mlp', 'widths']
    """

    needs_sequence = True
    split = ("mlp",)

    def __init__(self, config: DINConfig, widths: Widths):
        super().__init__(config, widths)
        self.compared = compared(widths)
        self.attention = attention_units(config, widths)
        self.mlp = interest_network(config, widths, sum(pooled_widths(widths)))

    @classmethod
    def check(cls, config: DINConfig, widths: Widths) -> None:
        super().check(config, widths)
        check_compared(config.name, widths)

    def user_tower(self, user: UserSide, training: bool) -> State:
        return {
            "user": self.mlp.part("user", layers.concat(user.fields.values.values())),
            **keys_of(user, self.compared, self.attention, training),
        }

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        interests = interests_of(state, candidates, self.compared, self.attention, training)
        products = side_products(self.mlp, state.get("user"), context, candidates)
        products.append(self.mlp.part("interest", interests))
        return Representation(self.mlp(products, mask, training=training))
