"""What architectures share: their fields by side, MLPs split between the sides, and sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctr_tf import layers
from ctr_tf.config_base import SettingError
from ctr_tf.models.architecture import pooled_history, pooled_widths
from ctr_tf.models.config import DeepFields, InterestFields, ModelConfig
from ctr_tf.types import CandidateSide, ContextSide, Fields, State, Tensor, UserSide, Widths

if TYPE_CHECKING:
    from ctr_tf.layers import Cross, SplitDense, SplitMLP


def user_fields(user: UserSide) -> list[Tensor]:
    """The user's fields, behaviour sequences by their mean: (B, D) each, as `side_widths` says."""
    return [*user.fields.values.values(), *pooled_history(user)]


def item_sides(context: ContextSide, candidates: CandidateSide) -> list[Tensor | None]:
    """The context's and the candidates' fields laid end to end: (B, D) and (B, N, D); None for a
    side without any."""
    return [layers.concat(side.fields.values.values()) for side in (context, candidates)]


def side_widths(widths: Widths) -> dict[str, list[int]]:
    """The widths of each side's fields, behaviour sequences counted by their mean.

    Example:
        >>> side_widths(Widths(user={"age": 1}, sequences={"history": {"item_id": 4}}))
        {'user': [1, 4], 'context': [], 'candidate': []}
    """
    return {
        "user": [*widths.user.values(), *pooled_widths(widths)],
        "context": list(widths.context.values()),
        "candidate": list(widths.candidate.values()),
    }


def side_totals(widths: Widths) -> dict[str, int]:
    """The width of each side's fields laid end to end: the parts of a split layer over them all.

    Example:
        >>> side_totals(Widths(user={"age": 1}, sequences={"history": {"item_id": 4}}))
        {'user': 5, 'context': 0, 'candidate': 0}
    """
    return {side: sum(own) for side, own in side_widths(widths).items()}


def deep_network(config: DeepFields, parts: dict[str, int]) -> SplitMLP:
    """The MLP that a configuration describes, over these parts."""
    return layers.SplitMLP(
        parts, config.units, config.activation, config.batch_norm, config.dropout, name="deep"
    )


def interest_network(config: InterestFields, widths: Widths, interest: int) -> SplitMLP:
    """The MLP over user fields, what is made of the behaviours, context and candidate fields.

    Args:
        config: of the MLP.
        widths: of the embedded features.
        interest: width of what is made of the behaviours.
    """
    parts = {
        "user": widths.total("user"),
        "interest": interest,
        "context": widths.total("context"),
        "candidate": widths.total("candidate"),
    }
    return layers.SplitMLP(
        parts, config.units, config.activation, dropout=config.dropout, name="mlp"
    )


def check_attention_heads(heads: int, widths: Widths) -> None:
    """Checks that behaviours can attend to each other with so many heads.

    Raises:
        SettingError: they do not divide the width of a sequence's behaviours.
    """
    for sequence, attributes in widths.sequences.items():
        width = sum(attributes.values())
        if width % heads:
            raise SettingError(
                ("model", "attention_heads"),
                f"must divide the width of a behaviour of {sequence!r}, {width}; got {heads}",
            )


def side_products(
    layer: SplitDense | SplitMLP | Cross,
    of_user: Tensor | None,
    context: ContextSide,
    candidates: CandidateSide,
) -> list[Tensor]:
    """The products of a split layer over user, context and candidate, to be joined.

    Args:
        layer: with these parts, one of the body's `split`.
        of_user: the user's product, of the state; None for no user side.
        context: its fields are the layer's part.
        candidates: with the layer's product; see `Body.candidate_products`.
    """
    of_context = layer.part("context", layers.concat(context.fields.values.values()))
    own = candidates.products[layer.name] if layer.part_widths["candidate"] else None
    return layers.over_candidates([of_user, of_context], own, candidates.mask)


def check_first_order(config: ModelConfig, widths: Widths) -> None:
    """Checks that there is a feature with a first-order weight: behaviours have none.

    Raises:
        SettingError: there is none.
    """
    if not (widths.user or widths.context or widths.candidate):
        rule = f"{config.name} needs a feature that is no behaviour; the schema has none"
        raise SettingError(("model", "name"), rule)


def first_order(fields: Fields) -> Tensor | None:
    """The sum of one side's first-order weights, its view `linear`: (..., 1); None without any."""
    weights = list(fields.views["linear"].values())
    return sum(weights) if weights else None


def fm_state(user: UserSide, fields: list[Tensor]) -> State:
    """What the user adds to each sum of a factorisation machine, for `fm_logit`.

    Args:
        user: with a view `linear`.
        fields: its `user_fields`.
    """
    total, squares = layers.fm_sums(fields)
    return {"total": total, "squares": squares, "linear": first_order(user.fields)}


def fm_logit(state: State, context: ContextSide, candidates: CandidateSide) -> Tensor:
    """First-order weights and inner products of all pairs of fields of each candidate: (B, N).

    Args:
        state: of `fm_state`.
        context, candidates: the sides, with a view `linear`.
    """
    own = {}
    for side, fields in (("context", context.fields), ("candidate", candidates.fields)):
        values = list(fields.values.values())
        own[side] = layers.fm_sums(values) if values else (None, None)
    total, squares = (
        sum(layers.over_candidates([of_user, of_context], of_candidate, candidates.mask))
        for of_user, of_context, of_candidate in zip(
            (state.get("total"), state.get("squares")), own["context"], own["candidate"]
        )
    )
    linear = first_order_logit(state.get("linear"), context, candidates)
    return linear + layers.fm_second_order(total, squares)


def first_order_logit(
    of_user: Tensor | None, context: ContextSide, candidates: CandidateSide
) -> Tensor:
    """The sum of the first-order weights of all fields of each candidate: (B, N).

    Args:
        of_user: the user's `first_order`, (B, 1).
        context, candidates: the sides, with a view `linear`.
    """
    per_request = [of_user, first_order(context.fields)]
    own = first_order(candidates.fields)
    return sum(layers.over_candidates(per_request, own, candidates.mask))[..., 0]


def all_fields(
    user: Tensor | None, context: Tensor | None, candidates: Tensor | None, mask: Tensor
) -> Tensor:
    """Every field of each candidate laid end to end, (B, N, D).

    Args:
        user: (B, D_user).
        context: (B, D_context).
        candidates: (B, N, D_candidate).
        mask: (B, N).
    """
    per_request = [layers.per_candidate(x, mask) for x in (user, context) if x is not None]
    return layers.concat([*per_request, candidates])
