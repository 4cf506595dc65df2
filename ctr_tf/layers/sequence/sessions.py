"""Behaviours divided into sessions."""

from __future__ import annotations

from keras import ops

from ctr_tf.layers.packing import Packing
from ctr_tf.types import Tensor


class Sessions:
    """The latest sessions of each sequence, and the latest behaviours of each session.

    Feng et al. 2019, arXiv:1905.06482, section 3.2: a session ends where the next behaviour comes
    more than `gap` seconds later. Sessions and their behaviours stand oldest first, padding at the
    end.

    Args:
        times: (B, L) seconds, ascending.
        mask: (B, L), padding at the end.
        sessions: K, how many are kept.
        length: T, behaviours kept of each.
        gap: exactly as much does not end a session.

    Attributes:
        mask: (B, K, T), True where there is a behaviour.
        present: (B, K), True where there is a session.
        packing: of the behaviours in sessions, which are the B K sequences.

    Example:
        >>> times, mask = ops.array([[0, 1800, 3601, 9000]]), ops.ones((1, 4), "bool")
        >>> sessions = Sessions(times, mask, sessions=2, length=2, gap=1800)
        >>> sessions.rows(ops.array([[[1.0], [2.0], [3.0], [4.0]]]))[0, ..., 0].numpy().tolist()
        [[3.0, 0.0], [4.0, 0.0]]
    """

    def __init__(self, times: Tensor, mask: Tensor, sessions: int, length: int, gap: int):
        times = ops.cast(times, "int64")
        after = ops.concatenate([times[:, :1], times[:, :-1]], axis=1)
        apart = times - after > gap
        # The first behaviour has none before it: it is of session 0.
        number = ops.cumsum(ops.cast(apart & mask, "int32"), axis=1)
        kept = ops.arange(sessions, dtype="int32")
        latest = ops.max(ops.where(mask, number, 0), axis=1, initial=0)
        number = number - ops.maximum(latest - (sessions - 1), 0)[:, None]
        valid = ops.cast(mask, "int32")[..., None]
        size = ops.sum(ops.cast(number[..., None] == kept, "int32") * valid, axis=1)
        before = ops.sum(ops.cast(number[..., None] < kept, "int32") * valid, axis=1)
        slots = ops.arange(length, dtype="int32")
        self.mask = slots < size[..., None]
        self.present = size > 0
        first = before + ops.maximum(size - length, 0)
        # Row 0 stands for none: see `rows`.
        self._index = ops.where(self.mask, first[..., None] + slots + 1, 0)
        self._shape = ops.shape(mask)[0], sessions, length
        self.packing = Packing.of(ops.reshape(self.mask, (-1, length)))

    def rows(self, x: Tensor) -> Tensor:
        """Behaviours x (B, L, D) by session: (B, K, T, D), zeros where there is none."""
        batch, sessions, length = self._shape
        x = ops.pad(x, [[0, 0], [1, 0], [0, 0]])
        starts = ops.arange(batch, dtype="int32") * ops.cast(ops.shape(x)[1], "int32")
        index = ops.reshape(self._index + starts[:, None, None], (-1,))
        rows = ops.take(ops.reshape(x, (-1, x.shape[-1])), index, axis=0)
        return ops.reshape(rows, (batch, sessions, length, x.shape[-1]))
