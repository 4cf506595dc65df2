"""Weighted sums over pairs of fields, split between user, context and candidate.

Fields i < j run over the sides in order. What a pair adds is <m_ij(v_i), v_j>: the message of its
earlier field to the later one. Messages of all fields of a side to a later field add up to one
vector, so that the user sends one vector to each field of the candidate, once a request.
"""

from __future__ import annotations

from typing import Any, Protocol, Sequence

import keras
import numpy as np
from keras import ops

from ctr_tf.layers.shapes import by_field, split
from ctr_tf.types import State, Tensor


class Pairs(Protocol):
    """Weights of pairs of fields."""

    def messages(self, side: str, x: Tensor) -> dict[str, Tensor]:
        """What the fields of one side say to later fields.

        Args:
            side: whose fields.
            x: its fields laid end to end, (..., W).

        Returns:
            Side to the sum of messages to each of its fields, laid end to end, (..., its W); the
            side's own messages come from its earlier fields alone. Empty without any pair.
        """


class FieldWeights(keras.layers.Layer):
    """A number for each pair of fields, as FwFM has (Pan et al. 2018, arXiv:1806.03514, section 3).

    m_ij(v_i) = r_ij v_i. All r are 1 at first, which is a factorisation machine.

    Args:
        counts: number of fields of each side, in order.
        width: D of every field.

    Shapes:
        x (..., F_side D); see `Pairs`.

    Example:
        >>> pairs = FieldWeights({"user": 2, "candidate": 1}, 4)
        >>> messages = pairs.messages("user", ops.ones((3, 8)))
        >>> messages["user"].shape, messages["candidate"][0].numpy().tolist()
        (TensorShape([3, 8]), [2.0, 2.0, 2.0, 2.0])
    """

    def __init__(self, counts: dict[str, int], width: int, **kwargs):
        super().__init__(**kwargs)
        self.sides = _Sides({side: [1] * count for side, count in counts.items()})
        self.width = width
        size = sum(self.sides.sizes)
        self.strengths = (
            self.add_weight(name="strengths", shape=(size,), initializer="ones") if size else None
        )
        self.built = True

    def messages(self, side: str, x: Tensor) -> dict[str, Tensor]:
        if self.strengths is None:
            return {}
        weights = ops.cast(self.strengths, x.dtype)
        rows = ops.concatenate(self.sides.strips(weights, side))
        sent = ops.matmul(ops.transpose(rows), by_field(x, self.width))
        flat = ops.reshape(sent, (*ops.shape(x)[:-1], rows.shape[1] * self.width))
        return self.sides.split(flat, side, self.width)


class FieldMatrices(keras.layers.Layer):
    """A matrix for each pair of fields, as FmFM has (Sun et al. 2021, arXiv:2102.12994, section 3).

    m_ij(v_i) = v_i M_ij, with M_ij (D_i, D_j). One weight holds them all: for each field i in
    order, the matrices to all later fields side by side.

    Args:
        widths: D_i of the fields of each side, in order.

    Shapes:
        x (..., W_side); see `Pairs`.

    Example:
        >>> pairs = FieldMatrices({"user": [2, 3], "candidate": [4]})
        >>> pairs.count_params() == 2 * 3 + 2 * 4 + 3 * 4
        True
        >>> pairs.messages("user", ops.ones((5, 5)))["candidate"].shape
        TensorShape([5, 4])
    """

    def __init__(self, widths: dict[str, Sequence[int]], **kwargs):
        super().__init__(**kwargs)
        self.sides = _Sides(widths)
        size = sum(self.sides.sizes)
        self.matrices = (
            self.add_weight(name="matrices", shape=(size,), initializer=self._initial)
            if size
            else None
        )
        self.built = True

    def _initial(self, shape: Sequence[int], dtype: Any = None) -> Tensor:
        """Each matrix uniform, as Glorot & Bengio 2010 (equation 16) have it for its own size."""
        widths, limits = self.sides.all_widths, []
        for i, width in enumerate(widths):
            later = [np.full(other, np.sqrt(6 / (width + other))) for other in widths[i + 1 :]]
            limits += [np.tile(np.concatenate(later), width)] if later else []
        return keras.random.uniform(shape, -1, 1, dtype) * ops.cast(np.concatenate(limits), dtype)

    def rows(self, side: str, dtype: Any) -> list[Tensor]:
        """For each field of a side, its matrices to that side's fields and all later ones.

        Returns:
            (D_i, W_side + ...) each; zeros where there is no pair. Empty without any pair.
        """
        if self.matrices is None:
            return []
        return self.sides.strips(ops.cast(self.matrices, dtype), side)

    def messages(self, side: str, x: Tensor) -> dict[str, Tensor]:
        rows = self.rows(side, x.dtype)
        if not rows:
            return {}
        return self.sides.split(ops.matmul(x, ops.concatenate(rows)), side)


def pair_state(pairs: Pairs, x: Tensor) -> State:
    """The user's share of the sum over pairs.

    Args:
        pairs: their weights.
        x: the user's fields laid end to end, (B, W_user).

    Returns:
        `pairs` (B, 1), the sum over pairs of user fields; `to_context` (B, W_context) and
        `to_candidate` (B, W_candidate), the user's messages. A part that is empty is left out.
    """
    messages = pairs.messages("user", x)
    state = {f"to_{side}": sent for side, sent in messages.items() if side != "user"}
    if messages:
        state["pairs"] = _inner(x, messages["user"])
    return state


def pair_sums(
    pairs: Pairs, state: State, context: Tensor | None, candidates: Tensor | None
) -> tuple[list[Tensor | None], Tensor | None]:
    """The sum over all pairs as what `over_candidates` joins.

    Args:
        pairs: their weights.
        state: with what `pair_state` returned.
        context: fields laid end to end, (B, W_context), or None.
        candidates: fields laid end to end, (B, N, W_candidate), or None.

    Returns:
        Terms of each request, (B, 1), and the candidates' own, (B, N, 1) or None.

    Example:
        >>> pairs = FieldWeights({"user": 1, "context": 0, "candidate": 1}, 2)
        >>> state = pair_state(pairs, ops.array([[1.0, 2.0]]))
        >>> pair_sums(pairs, state, None, ops.array([[[3.0, 4.0]]]))[1].numpy().tolist()
        [[[11.0]]]
    """
    per_request, to_candidate = [state.get("pairs")], [state.get("to_candidate")]
    if context is not None:
        messages = pairs.messages("context", context)
        received = [messages.get("context"), state.get("to_context")]
        per_request += [_inner(context, sent) for sent in received if sent is not None]
        to_candidate.append(messages.get("candidate"))
    if candidates is None:
        return per_request, None
    sent = [message for message in to_candidate if message is not None]
    own = [_inner(candidates, m) for m in pairs.messages("candidate", candidates).values()]
    if sent:
        own.append(ops.matmul(candidates, sum(sent)[..., None]))
    return per_request, sum(own) if own else None


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """<x, y> over the last axis, which stays as 1."""
    return ops.sum(x * y, axis=-1, keepdims=True)


class _Sides:
    """Where weights of pairs of fields lie in one vector: field by field, to all later fields.

    Args:
        widths: of the fields of each side, in order.
    """

    def __init__(self, widths: dict[str, Sequence[int]]):
        self.widths = {side: list(own) for side, own in widths.items()}
        self.all_widths = [width for own in self.widths.values() for width in own]
        self.sizes = [
            width * sum(self.all_widths[i + 1 :]) for i, width in enumerate(self.all_widths)
        ]

    def strips(self, weights: Tensor, side: str) -> list[Tensor]:
        """For each field of a side, (D_i, width from the side's first field on), zeros to the left.

        Args:
            weights: of all pairs, (sum of `sizes`,).
            side: whose fields.
        """
        first = 0
        for other, own in self.widths.items():
            if other == side:
                break
            first += len(own)
        each = split(weights, self.sizes)
        total = sum(self.all_widths[first:])
        found = []
        for i in range(first, first + len(self.widths[side])):
            width, later = self.all_widths[i], sum(self.all_widths[i + 1 :])
            strip = ops.reshape(each[i], (width, later))
            found.append(ops.pad(strip, [(0, 0), (total - later, 0)]))
        return found

    def split(self, sent: Tensor, side: str, width: int = 1) -> dict[str, Tensor]:
        """Messages from a side's first field on, as one tensor for each side that has fields.

        Args:
            sent: (..., `width` times the width from the side's first field on).
            side: whose messages.
            width: times those given.
        """
        names = list(self.widths)[list(self.widths).index(side) :]
        names = [name for name in names if self.widths[name]]
        sizes = [width * sum(self.widths[name]) for name in names]
        return dict(zip(names, split(sent, sizes, axis=-1)))
