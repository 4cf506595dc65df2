"""Factorisation machine."""

from __future__ import annotations

from ctr_tf.models.architecture import Body
from ctr_tf.models.config import ModelConfig
from ctr_tf.models.sides import check_first_order, fm_logit, fm_state, user_fields
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class FMConfig(ModelConfig):
    """Configuration of a factorisation machine; it has no fields of its own."""

    name: str = "fm"


@register("fm", paper="Rendle 2010, ICDM, eq. 1, lemma 3.1", config=FMConfig)
class FM(Body):
    """Factorisation machine: first-order weights and inner products of all pairs of fields.

    Rendle 2010, ICDM, equation 1: logit = w_0 + sum_i w_i x_i + sum over i < j of <v_i, v_j> x_i
    x_j, the pairs in linear time (lemma 3.1). A number x is the field x v and the weight x w;
    behaviour sequences are fields by their mean, without a first-order weight. Sums over the user's
    fields are computed once a request. Tasks share all but w_0.

    Args:
        config: see `FMConfig`.
        widths: of the embedded features, all alike.

    Shapes:
        state: `total` (B, D), `squares` (B, D), `linear` (B, 1); the representation is a logit
        (B, N) alone.

    Raises:
        SettingError: there is no feature but behaviours.

    Example:
        >>> FM(FMConfig(), Widths(candidate={"item_id": 4, "genre": 4})).views
        {'linear': 1}
    """

    views = {"linear": 1}
    one_width = True
    logit_alone = True

    @classmethod
    def check(cls, config: FMConfig, widths: Widths) -> None:
        super().check(config, widths)
        check_first_order(config, widths)

    def user_tower(self, user: UserSide, training: bool) -> State:
        return fm_state(user, user_fields(user))

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        return Representation(None, fm_logit(state, context, candidates))
