"""Behaviours compared with the candidate by the attributes that both have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import Config, SettingError
from ctr_tf.types import Behaviours, CandidateSide, State, Tensor, UserSide, Widths

if TYPE_CHECKING:
    from ctr_tf.layers import ActivationUnit, FoldedUnit, Packing

    Units = list[ActivationUnit | FoldedUnit]


class AttentionFields(Config):
    """What the configuration of an architecture says of the candidate's attention to behaviours.

    Args:
        attention_units: hidden widths of the activation unit.
        attention_activation: of the activation unit.
        softmax: whether attention weights are normalised; the paper's are not.
        folded: whether the candidate enters by a dot product, the unit's MLP seeing the user alone.
        folded_units: widths of that MLP.
    """

    attention_units: list[PositiveInt] = Field([80, 40], min_length=1)
    attention_activation: layers.names.Activation = "dice"
    softmax: bool = False
    folded: bool = False
    folded_units: list[PositiveInt] = Field([144, 40], min_length=1)


def compared(widths: Widths) -> dict[str, list[str]]:
    """Of each sequence, the attributes that candidates have too.

    Example:
        >>> compared(Widths(candidate={"item_id": 4},
        ...                 sequences={"history": {"rating": 4, "item_id": 4}}))
        {'history': ['item_id']}
    """
    return {
        sequence: [name for name in attributes if name in widths.candidate]
        for sequence, attributes in widths.sequences.items()
    }


def check_compared(model: str, widths: Widths) -> None:
    """Checks that every sequence shares attributes with the candidates, of the same widths.

    Raises:
        SettingError: one does not.
    """
    for sequence, names in compared(widths).items():
        attributes = widths.sequences[sequence]
        at = ("schema", "sequences", sequence, "attributes")
        if not names:
            raise SettingError(
                at,
                f"{model} compares behaviours with the candidate: sequence {sequence!r} "
                f"(attributes {list(attributes)}) shares no name with the candidate features "
                f"{list(widths.candidate)}",
            )
        for name in names:
            if attributes[name] != widths.candidate[name]:
                raise SettingError(
                    (*at, name),
                    f"{model} compares {sequence}.{name} with the candidate's {name}: their "
                    f"embeddings need one width, got {attributes[name]} and "
                    f"{widths.candidate[name]}",
                )


def behaviour_rows(sequence: Behaviours, names: Sequence[str], packing: Packing) -> Tensor:
    """Packed behaviours (P, D), the named attributes first."""
    rest = [name for name in sequence.values if name not in names]
    return layers.concat(packing.pack(sequence.values[name]) for name in [*names, *rest])


def target_row(candidates: CandidateSide, names: Sequence[str]) -> Tensor:
    """What of a candidate behaviours are compared with: (B, N, A)."""
    return layers.concat(candidates.fields.values[name] for name in names)


def attention_units(config: AttentionFields, widths: Widths) -> Units:
    """The unit of each sequence: DIN's, or the one that folds."""
    activation, softmax, made = config.attention_activation, config.softmax, []
    for sequence, names in compared(widths).items():
        attributes = widths.sequences[sequence]
        width, total = sum(attributes[name] for name in names), sum(attributes.values())
        name = f"{sequence}_attention"
        if config.folded:
            unit = layers.FoldedUnit(
                total, width, config.folded_units, activation, softmax, name=name
            )
        else:
            unit = layers.ActivationUnit(
                width, config.attention_units, total - width, activation, softmax, name=name
            )
        made.append(unit)
    return made


def keys_of(user: UserSide, names: dict[str, list[str]], units: Units, training: bool) -> State:
    """The user's share of attention: for each sequence s `s_keys`, `s_projected`, `s_mask`."""
    state = {}
    for (sequence, own), unit in zip(names.items(), units):
        behaviours = user.sequences[sequence]
        packing = layers.Packing.of(behaviours.mask)
        keys = behaviour_rows(behaviours, own, packing)
        if isinstance(unit, layers.FoldedUnit):
            weights = packing.weights * packing.spread(user.weight)
            projected = unit.project_keys(keys, weights, training=training)
        else:
            projected = unit.project_keys(keys)
        state[f"{sequence}_keys"] = packing.unpack(keys)
        state[f"{sequence}_projected"] = packing.unpack(projected)
        state[f"{sequence}_mask"] = behaviours.mask
    return state


def interests_of(
    state: State,
    candidates: CandidateSide,
    names: dict[str, list[str]],
    units: Units,
    training: bool,
) -> Tensor:
    """Each sequence's behaviours as a candidate weighs them, side by side: (B, N, D)."""
    found = []
    for (sequence, own), unit in zip(names.items(), units):
        keys = state[f"{sequence}_keys"]
        query, projected = target_row(candidates, own), state[f"{sequence}_projected"]
        mask = state[f"{sequence}_mask"]
        if isinstance(unit, layers.FoldedUnit):
            found.append(unit(query, projected, mask, keys))
        else:
            weights = candidates.mask
            found.append(
                unit(query, keys, projected, mask, keys, weights=weights, training=training)
            )
    return layers.concat(found)
