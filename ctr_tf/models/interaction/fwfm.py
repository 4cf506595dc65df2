"""Field-weighted factorisation machine."""

from __future__ import annotations

from typing import Literal

from ctr_tf import layers
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import ModelConfig
from ctr_tf.models.sides import (
    check_first_order,
    first_order,
    first_order_logit,
    item_sides,
    side_products,
    side_totals,
    side_widths,
    user_fields,
)
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class FwFMConfig(ModelConfig):
    """Configuration of a field-weighted factorisation machine.

    Args:
        linear: first-order terms, by a weight w_i of each feature (the paper's LW), or by a vector
            of each field, <v_i, w_F(i)> (its FiLV), which behaviours have, too.
    """

    name: str = "fwfm"
    linear: Literal["feature_weights", "field_vectors"] = "feature_weights"


@register(
    "fwfm", paper="Pan et al. 2018, arXiv:1806.03514, section 3, eq. for FwFM", config=FwFMConfig
)
class FwFM(Body):
    """Field-weighted factorisation machine: a strength for each pair of fields.

    Pan et al. 2018, arXiv:1806.03514, section 3: logit = w_0 + linear + sum over i < j of
    <v_i, v_j> r_{F(i), F(j)}. Pairs of user fields are computed once a request, and so is the sum
    over the user's fields of r_ij v_i, one vector for each field j of the candidate. A number x is
    the field x v; behaviour sequences are fields by their mean. Tasks share all but w_0.

    Args:
        config: see `FwFMConfig`.
        widths: of the embedded features, all alike.

    Shapes:
        state: `pairs` (B, 1), `to_context` (B, F_context D), `to_candidate` (B, F_candidate D),
        `linear` (B, 1); the representation is a logit (B, N) alone.

    Raises:
        SettingError: weights of features, and there is no feature but behaviours.

    Example:
        >>> widths = Widths(user={"age": 16, "city": 16}, candidate={"item_id": 16})
        >>> FwFM(FwFMConfig(), widths).pairs.strengths.shape
        TensorShape([3])
    """

    one_width = True
    logit_alone = True
    split = ("vectors",)

    def __init__(self, config: FwFMConfig, widths: Widths):
        super().__init__(config, widths)
        counts = {side: len(own) for side, own in side_widths(widths).items()}
        self.pairs = layers.FieldWeights(counts, config.embedding.width, name="pairs")
        self.vectors = (
            layers.SplitDense(1, side_totals(widths), use_bias=False, name="field_vectors")
            if config.linear == "field_vectors"
            else None
        )

    @classmethod
    def check(cls, config: FwFMConfig, widths: Widths) -> None:
        super().check(config, widths)
        if config.linear == "feature_weights":
            check_first_order(config, widths)

    @classmethod
    def views_of(cls, config: FwFMConfig, widths: Widths) -> dict[str, int]:
        return {"linear": 1} if config.linear == "feature_weights" else {}

    def user_tower(self, user: UserSide, training: bool) -> State:
        x = layers.concat(user_fields(user))
        linear = (
            self.vectors.part("user", x) if self.vectors is not None else first_order(user.fields)
        )
        return {**layers.pair_state(self.pairs, x), "linear": linear}

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask, of_user = candidates.mask, state.get("linear")
        sides = item_sides(context, candidates)
        if self.vectors is not None:
            linear = sum(side_products(self.vectors, of_user, context, candidates))[..., 0]
        else:
            linear = first_order_logit(of_user, context, candidates)
        pairs = layers.over_candidates(*layers.pair_sums(self.pairs, state, *sides), mask)
        return Representation(None, linear + sum(pairs)[..., 0] if pairs else linear)
