"""Field-matrixed factorisation machine."""

from __future__ import annotations

from ctr_tf import layers
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import ModelConfig
from ctr_tf.models.sides import (
    check_first_order,
    first_order,
    first_order_logit,
    item_sides,
    side_widths,
    user_fields,
)
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class FmFMConfig(ModelConfig):
    """Configuration of a field-matrixed factorisation machine.

    Args:
        embedding: its tables may have widths of their own, the paper's field-specific dimensions.
    """

    name: str = "fmfm"


@register(
    "fmfm", paper="Sun et al. 2021, arXiv:2102.12994, section 3, eq. for FmFM", config=FmFMConfig
)
class FmFM(Body):
    """Field-matrixed factorisation machine: a matrix for each pair of fields.

    Sun et al. 2021, arXiv:2102.12994, section 3: logit = w_0 + sum_i w_i x_i + sum over i < j of
    <v_i M_{F(i), F(j)}, v_j> x_i x_j, with M (D_i, D_j). Pairs of user fields are computed once a
    request, and so is the sum over the user's fields of v_i M_ij, one vector for each field j of
    the candidate. A number is a field of width 1 by itself; behaviour sequences are fields by their
    mean, without a first-order weight. Tasks share all but w_0.

    Args:
        config: see `FmFMConfig`.
        widths: of the embedded features.

    Shapes:
        state: `pairs` (B, 1), `to_context` (B, D_context), `to_candidate` (B, D_candidate),
        `linear` (B, 1); the representation is a logit (B, N) alone.

    Raises:
        SettingError: there is no feature but behaviours.

    Example:
        >>> body = FmFM(FmFMConfig(), Widths(user={"age": 1, "city": 4}, candidate={"item_id": 8}))
        >>> body.pairs.matrices.shape == (1 * 4 + 1 * 8 + 4 * 8,)
        True
    """

    views = {"linear": 1}
    logit_alone = True

    def __init__(self, config: FmFMConfig, widths: Widths):
        super().__init__(config, widths)
        self.pairs = layers.FieldMatrices(side_widths(widths), name="pairs")

    @classmethod
    def check(cls, config: FmFMConfig, widths: Widths) -> None:
        super().check(config, widths)
        check_first_order(config, widths)

    def user_tower(self, user: UserSide, training: bool) -> State:
        pairs = layers.pair_state(self.pairs, layers.concat(user_fields(user)))
        return {**pairs, "linear": first_order(user.fields)}

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        sides = item_sides(context, candidates)
        pairs = layers.pair_sums(self.pairs, state, *sides)
        pairs = layers.over_candidates(*pairs, candidates.mask)
        linear = first_order_logit(state.get("linear"), context, candidates)
        return Representation(None, linear + sum(pairs)[..., 0] if pairs else linear)
