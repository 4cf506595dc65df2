"""FiBiNET."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import SettingError
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import DeepFields, ModelConfig
from ctr_tf.models.sides import (
    check_first_order,
    deep_network,
    first_order,
    first_order_logit,
    side_widths,
    user_fields,
)
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class FiBiNETConfig(DeepFields, ModelConfig):
    """Configuration of FiBiNET.

    Args:
        bilinear: whether one matrix is for all pairs, for each left field, or for each pair.
        reduction: fields to a hidden unit of the SENET layer.
        importance: activation of the SENET layer's output, which the paper leaves open.
        units, activation, batch_norm, dropout: of the deep part.
    """

    name: str = "fibinet"
    bilinear: Literal["all", "each", "interaction"] = "each"
    reduction: PositiveInt = 3
    importance: Literal["relu", "sigmoid"] = "relu"


@register(
    "fibinet",
    paper="Huang et al. 2019, arXiv:1905.09433, section 3, eq. of the SENET and bilinear layers",
    config=FiBiNETConfig,
)
class FiBiNET(Body):
    """FiBiNET: an MLP over bilinear interactions of the fields, plain and weighted by importance.

    Huang et al. 2019, arXiv:1905.09433, section 3: the logit is <w, x> + MLP([p, q]) + b,
    with p_ij = (v_i W) * v_j over pairs of fields (`layers.Bilinear`) and q the same, by matrices
    of its own, of the fields a_i v_i, a their importance (`layers.SENET`). A number x is the field
    x v and the weight x w; behaviour sequences are fields by their mean, without a first-order
    weight.

    Importance is a number, so that q_ij = a_i a_j ((v_i W) * v_j). Of the user alone, and once a
    request, are both bilinear products of pairs of its fields and of its left fields, the
    MLP's first product of the former in p, and its share of the first SENET layer; the importance
    of its fields depends on the candidate.

    Args:
        config: see `FiBiNETConfig`.
        widths: of the embedded features, all alike.

    Shapes:
        state: `deep` (B, units[0]), `left` and `weighted_left` (B, F_user, F - F_user or 1, D),
        `weighted_pairs` (B, pairs of the user's fields, D), `squeezed` (B, F / reduction),
        `linear` (B, 1); representation (B, N, units[-1]) with a logit (B, N).

    Raises:
        SettingError: no feature but behaviours, or a single field.

    Example:
        >>> widths = Widths(user={"age": 4}, candidate={"item_id": 4, "genre": 4})
        >>> FiBiNET(FiBiNETConfig(), widths).plain.pairs
        [(0, 1), (0, 2), (1, 2)]
    """

    views = {"linear": 1}
    one_width = True

    def __init__(self, config: FiBiNETConfig, widths: Widths):
        super().__init__(config, widths)
        of_user, *others = side_widths(widths).values()
        rest = sum(others, [])
        width = [*of_user, *rest][0]
        fields = len(of_user), len(rest)
        self.plain = layers.Bilinear(*fields, width, config.bilinear, name="plain")
        self.weighted = layers.Bilinear(*fields, width, config.bilinear, name="weighted")
        self.senet = layers.SENET(
            dict(zip(("user", "rest"), fields)), config.reduction, config.importance, name="senet"
        )
        own, *others = self.plain.counts
        self.deep = deep_network(
            config,
            {
                "user": own * width,
                "plain": sum(others) * width,
                "weighted": len(self.plain.pairs) * width,
            },
        )

    @classmethod
    def check(cls, config: FiBiNETConfig, widths: Widths) -> None:
        super().check(config, widths)
        check_first_order(config, widths)
        if sum(map(len, side_widths(widths).values())) < 2:
            raise SettingError(("model", "name"), "fibinet needs two fields; the schema has one")

    def user_tower(self, user: UserSide, training: bool) -> State:
        fields = layers.stacked(user_fields(user))
        plain, weighted = self.plain.of_user(fields), self.weighted.of_user(fields)
        squeezed = self.senet.part("user", fields)
        state = {"squeezed": squeezed, "linear": first_order(user.fields)}
        if "pairs" in plain:
            state["deep"] = self.deep.part("user", _flat(plain["pairs"]))
            state["weighted_pairs"] = weighted["pairs"]
        if "left" in plain:
            state |= {"left": plain["left"], "weighted_left": weighted["left"]}
        return state

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        from keras import ops

        mask = candidates.mask
        of_context = [layers.per_candidate(v, mask) for v in context.fields.values.values()]
        rest = layers.stacked([*of_context, *candidates.fields.values.values()])

        squeezed = self.senet.part("rest", rest)
        importance = self.senet(layers.over_candidates([state.get("squeezed")], squeezed, mask))
        i, j = zip(*self.weighted.pairs)
        factors = ops.take(importance, i, axis=-1) * ops.take(importance, j, axis=-1)
        weighted = self.weighted(state.get("weighted_left"), rest)
        if "weighted_pairs" in state:
            weighted = [layers.per_candidate(state["weighted_pairs"], mask), *weighted]
        weighted = _flat(ops.concatenate(weighted, axis=-2) * factors[..., None])

        own = self.deep.part("weighted", weighted)
        plain = self.plain(state.get("left"), rest)
        if plain:
            own = own + self.deep.part("plain", _flat(ops.concatenate(plain, axis=-2)))
        deep = layers.over_candidates([state.get("deep")], own, mask)
        deep = self.deep(deep, mask, training=training)
        logit = first_order_logit(state.get("linear"), context, candidates)
        return Representation(deep, logit)


def _flat(pairs):
    """(..., pairs, D) as (..., pairs D)."""
    from keras import ops

    count = pairs.shape[-2] * pairs.shape[-1]
    return ops.reshape(pairs, (*ops.shape(pairs)[:-2], count))
