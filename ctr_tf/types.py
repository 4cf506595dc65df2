"""The tensors that cross between embedder, towers and heads; see the candidate axis in README.

B is requests, N candidates, L behaviours, D an embedding width. Nothing here imports Keras.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Tensor = Any
State = dict[str, Tensor]


@dataclass(frozen=True)
class Fields:
    """Embedded features of one side.

    Args:
        values: name to (B, D) or, on the candidate side, (B, N, D).
        views: extra embeddings of the same features, such as the width-1 weights of a linear
            part: view name to name to (..., d).
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    views: dict[str, dict[str, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Behaviours:
    """An embedded behaviour sequence, oldest first, padding at the end.

    Args:
        values: attribute to (B, L, D), 0 at padded positions.
        mask: (B, L), True where there is a behaviour.
        times: (B, L) Unix seconds, where the schema asks for them.
        views: extra embeddings of the attributes: view name to attribute to (B, L, d).
    """

    values: dict[str, Tensor]
    mask: Tensor
    times: Tensor | None = None
    views: dict[str, dict[str, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class UserSide:
    """All that the user tower reads.

    Args:
        fields: user features, and the context features that the model declares.
        sequences: behaviour sequences by name.
        weight: (B,), the request's valid impressions; batch statistics count by it.
    """

    fields: Fields
    sequences: dict[str, Behaviours]
    weight: Tensor


@dataclass(frozen=True)
class ContextSide:
    """Request-level features that the item tower reads.

    Args:
        fields: context features.
        time: (B,) Unix seconds of the request, where the schema asks for times.
    """

    fields: Fields
    time: Tensor | None = None


@dataclass(frozen=True)
class CandidateSide:
    """The candidates.

    Args:
        fields: candidate features, (B, N, D) each, 0 at padded positions.
        mask: (B, N), True where there is a candidate.
        products: of the fields alone with layers that are split between the sides, (B, N, units)
            by the layer's name.
    """

    fields: Fields
    mask: Tensor
    products: dict[str, Tensor] = field(default_factory=dict)

    def part(self, begin: Tensor | int, end: Tensor | int) -> "CandidateSide":
        """Candidates `begin` to `end` of each request.

        Example:
            >>> import numpy as np
            >>> side = CandidateSide(Fields({"id": np.ones((2, 5, 4))}), np.ones((2, 5), bool))
            >>> side.part(1, 3).fields.values["id"].shape
            (2, 2, 4)
        """

        def cut(own: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: x[:, begin:end] for name, x in own.items()}

        views = {view: cut(own) for view, own in self.fields.views.items()}
        fields = Fields(cut(self.fields.values), views)
        return CandidateSide(fields, self.mask[:, begin:end], cut(self.products))


@dataclass(frozen=True)
class Representation:
    """What a body says of each candidate; heads turn it into named outputs.

    Args:
        vector: (B, N, H); None for a body whose logit is all that it says.
        logit: (B, N), added to every task's logit (an FM or linear part); None for none.
    """

    vector: Tensor | None
    logit: Tensor | None = None


@dataclass(frozen=True)
class Widths:
    """Embedding widths that a body builds its layers from.

    Args:
        user: of user fields, the declared context ones included.
        context: of the context fields that the item tower reads.
        candidate: of candidate fields.
        sequences: sequence name to attribute to width.
        timed: the sequences of which models see when each behaviour happened.

    Example:
        >>> Widths(user={"age": 4}, candidate={"item_id": 8, "genre": 8}).total("candidate")
        16
    """

    user: dict[str, int] = field(default_factory=dict)
    context: dict[str, int] = field(default_factory=dict)
    candidate: dict[str, int] = field(default_factory=dict)
    sequences: dict[str, dict[str, int]] = field(default_factory=dict)
    timed: tuple[str, ...] = ()

    def total(self, side: str) -> int:
        """The summed width of one side's fields."""
        return sum(getattr(self, side).values())
