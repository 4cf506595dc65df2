"""Pairs of field-aware vectors, split between user, context and candidate."""

from __future__ import annotations

import numpy as np
from keras import ops

from ctr_tf.types import State, Tensor


class FieldAwarePairs:
    """The sum over fields i < j of <v_ij, v_ji>, v_ij what field i shows to field j.

    Juan et al. 2016, RecSys, section 3, equation 4. What the user's fields show to the candidate's
    is laid out once a request as the candidate's is, so that a candidate costs one product with it.
    It has no weights.

    Args:
        counts: number of fields of each side, in order: user, context, candidate.
        width: of a vector, k.

    Shapes:
        a side's fields (..., F_side F k), laid end to end, each with its vectors to all F fields in
        order.

    Example:
        >>> pairs = FieldAwarePairs({"user": 1, "context": 0, "candidate": 1}, 2)
        >>> state = pairs.state(ops.array([[9.0, 9.0, 1.0, 2.0]]))
        >>> item = ops.array([[[3.0, 4.0, 9.0, 9.0]]])
        >>> pairs.sums(state, None, item)[1].numpy().tolist()
        [[[11.0]]]
    """

    def __init__(self, counts: dict[str, int], width: int):
        self.counts = dict(counts)
        self.total = sum(counts.values())
        self.width = width

    def state(self, x: Tensor) -> State:
        """The user's share, (B, 1), and what it shows to other sides' fields, (B, G, F_user, k)."""
        return {"pairs": self._own("user", x), **self._shown("user", x, ["context", "candidate"])}

    def sums(
        self, state: State, context: Tensor | None, candidates: Tensor | None
    ) -> tuple[list[Tensor | None], Tensor | None]:
        """The sum over all pairs as what `over_candidates` joins; see `pair_sums`."""
        per_request, to_candidate = [state.get("pairs")], [state.get("to_candidate")]
        if context is not None:
            per_request.append(self._own("context", context))
            if "to_context" in state:
                received = self._toward_earlier("context", context, ["user"])
                shown = ops.reshape(state["to_context"], (-1, received.shape[-1]))
                per_request.append(ops.sum(received * shown, axis=-1, keepdims=True))
            to_candidate.append(self._shown("context", context, ["candidate"]).get("to_candidate"))
        if candidates is None:
            return per_request, None
        own = self._own("candidate", candidates)
        present = [shown for shown in to_candidate if shown is not None]
        if present:
            received = self._toward_earlier("candidate", candidates, ["user", "context"])
            shown = ops.reshape(ops.concatenate(present, axis=2), (-1, received.shape[-1], 1))
            own = own + ops.matmul(received, shown)
        return per_request, own

    def _by_field(self, side: str, x: Tensor) -> Tensor:
        """A side's vectors, (..., F_side, F, k)."""
        lead = ops.shape(x)[:-1]
        return ops.reshape(x, (*lead, self.counts[side], self.total, self.width))

    def _start(self, side: str) -> int:
        names = list(self.counts)
        return sum(self.counts[name] for name in names[: names.index(side)])

    def _own(self, side: str, x: Tensor) -> Tensor:
        """The sum over pairs within a side, (..., 1)."""
        start, count = self._start(side), self.counts[side]
        shown = self._by_field(side, x)[..., start : start + count, :]
        axes = list(range(len(shown.shape)))
        received = ops.transpose(shown, (*axes[:-3], axes[-2], axes[-3], axes[-1]))
        above = ops.cast(np.triu(np.ones((count, count)), 1)[..., None], x.dtype)
        return ops.sum(shown * received * above, axis=(-3, -2, -1))[..., None]

    def _shown(self, side: str, x: Tensor, others: list[str]) -> State:
        """What a side's fields show to those of other sides, by `to_` their name."""
        by_field, found = self._by_field(side, x), {}
        for other in others:
            start, count = self._start(other), self.counts[other]
            if count:
                shown = by_field[:, :, start : start + count]
                found[f"to_{other}"] = ops.transpose(shown, (0, 2, 1, 3))
        return found

    def _toward_earlier(self, side: str, x: Tensor, others: list[str]) -> Tensor:
        """What a side's fields show to all fields of earlier sides: (..., F_side F_others k)."""
        count = sum(self.counts[other] for other in others)
        shown = self._by_field(side, x)[..., :count, :]
        return ops.reshape(shown, (*ops.shape(x)[:-1], self.counts[side] * count * self.width))
