"""Packed positions laid out by length of their sequence, for what is not pointwise over them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from ctr_tf.layers.packing import Packing, current_graph
from ctr_tf.layers.trace_setting import TraceSetting
from ctr_tf.types import Tensor

_count = TraceSetting(4)


def bucketed(count: int) -> AbstractContextManager[None]:
    """Within it sequences are laid out in that many buckets: one is the best for one request.

    Example:
        >>> import tensorflow as tf
        >>> with bucketed(1):
        ...     buckets = Buckets.of(Packing.of(tf.sequence_mask([8, 1, 2, 0, 7])))
        >>> [rows.numpy().tolist() for rows in buckets.rows]
        [[0, 1, 2, 4]]
    """
    return _count.within(count)


class Buckets:
    """Sequences of like length side by side; TensorFlow alone.

    Bucket c of C holds the sequences that are longer than c / C of the batch's longest and no
    longer than (c + 1) / C of it, padded to the latter; a sequence without positions is in none.
    With lengths spread evenly, work that grows with their square is 0.47 of that of the padded
    form for C = 4, where no padding at all would leave 0.33.

    Args:
        packing: not of the padded form.
        count: C; by default 4, or what `bucketed` says.

    Attributes:
        rows: of each bucket, its sequences (b,) int32.
        masks: of each bucket, (b, T), True where there is a position.

    Example:
        >>> import tensorflow as tf
        >>> mask = tf.sequence_mask([8, 1, 2, 0, 7])
        >>> buckets = Buckets.of(Packing.of(mask))
        >>> [rows.numpy().tolist() for rows in buckets.rows]
        [[1, 2], [], [], [0, 4]]
        >>> [tuple(mask.shape) for mask in buckets.masks]
        [(2, 2), (0, 4), (0, 6), (2, 8)]
    """

    def __init__(self, packing: Packing, count: int | None = None):
        import tensorflow as tf

        count = count or _count.value
        self._graph = current_graph()
        lengths, numbers = packing.lengths, tf.range(count)
        longest = tf.reduce_max(tf.concat([lengths, [0]], axis=0))
        self._widths = (longest * (numbers + 1) + count - 1) // count
        self._bucket = tf.reduce_sum(tf.cast(lengths[:, None] > self._widths, tf.int32), axis=1)
        self._present = lengths > 0
        within = (self._bucket[:, None] == numbers) & self._present[:, None]
        placed = tf.cast(within, tf.int32)
        self._sizes = tf.reduce_sum(placed, axis=0)
        self._rank = tf.reduce_sum(tf.cumsum(placed, exclusive=True) * placed, axis=1)
        columns = tf.unstack(within, axis=1)
        self.rows = [tf.cast(tf.where(column)[:, 0], tf.int32) for column in columns]
        starts = tf.cumsum(lengths, exclusive=True)
        self.masks, self._positions = [], []
        for rows, width in zip(self.rows, tf.unstack(self._widths)):
            own, slots = tf.gather(lengths, rows)[:, None], tf.range(width)
            self.masks.append(slots < own)
            # Behind a sequence's end stands its last position again, which is masked.
            offsets = tf.minimum(slots, own - 1)
            self._positions.append(tf.gather(starts, rows)[:, None] + offsets)
        self._owner = packing.owner
        offsets = tf.range(tf.shape(packing.owner)[0]) - tf.gather(starts, packing.owner)
        # What fills the packing up stands nowhere.
        self._offsets = tf.where(packing.weights > 0, offsets, -1)
        self._slots: dict[tuple[int, int], Slots] = {}

    @classmethod
    def of(cls, packing: Packing) -> "Buckets":
        """The buckets of a packing, the same at each call."""
        found = getattr(packing, "_ctr_tf_buckets", None)
        if found is None or found._graph is not current_graph():
            found = packing._ctr_tf_buckets = cls(packing)
        return found

    def positions(self, parts: int, heads: int) -> "Slots":
        """Where the heads of packed positions stand: see `Slots`; the same at each call."""
        key = parts, heads
        if key not in self._slots:
            self._slots[key] = Slots(
                self, self._positions, self.masks, self._widths, self._owner, self._offsets, *key
            )
        return self._slots[key]

    def queries(self, count: Tensor, heads: int) -> "Slots":
        """Where the heads of as many queries a sequence, (B, count) as one axis, stand."""
        import tensorflow as tf

        each = tf.range(count)
        every = tf.range(tf.shape(self._bucket)[0] * count)
        return Slots(
            self,
            [rows[:, None] * count + each for rows in self.rows],
            [None] * len(self.rows),
            tf.fill(tf.shape(self._widths), count),
            every // count,
            every % count,
            1,
            heads,
        )


class Slots:
    """The way of S parts of H heads each into buckets and back, one gather either way.

    Args:
        buckets: of B sequences.
        positions: of each bucket, which of the M positions stands where, (b, T) int32.
        masks: of each bucket, (b, T), False where a position stands a second time; None for
            nowhere.
        widths: T of each bucket.
        owner: (M,), the sequence of each position.
        offsets: (M,), where in its sequence it stands; -1 for nowhere.
        parts, heads: S, such as queries, keys and values, and H.
    """

    def __init__(
        self,
        buckets: Buckets,
        positions: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        widths: Tensor,
        owner: Tensor,
        offsets: Tensor,
        parts: int,
        heads: int,
    ):
        import tensorflow as tf

        each = tf.range(parts * heads)
        none = tf.shape(owner)[0] * parts * heads
        self._shape = parts, heads
        self._index, self._index_once = [], []
        inner = tf.reshape(each, (parts, 1, heads, 1))
        for at, mask in zip(positions, masks):
            index = at[None, :, None] * (parts * heads) + inner
            self._index.append(index)
            once = index if mask is None else tf.where(mask[None, :, None], index, none)
            self._index_once.append(once)
        # And back: position m's head h of part s stands at row ((s b + rank) H + h) T + offset of
        # its bucket, and buckets one behind the other.
        sizes = buckets._sizes * widths * (parts * heads)
        begins = tf.cumsum(sizes, exclusive=True)
        of_bucket = tf.stack([begins, buckets._sizes * heads * widths, widths], axis=1)
        begin, part, head = tf.unstack(
            tf.gather(of_bucket, buckets._bucket % tf.shape(widths)[0]), axis=1
        )
        begin += buckets._rank * heads * head
        of_sequence = tf.stack([begin, part, head], axis=1)
        begin, part, head = tf.unstack(tf.gather(of_sequence, owner), axis=1)
        first = (begin + offsets)[:, None]
        back = first + part[:, None] * (each // heads) + head[:, None] * (each % heads)
        present = (tf.gather(buckets._present, owner) & (offsets >= 0))[:, None]
        self._back = tf.where(present, back, tf.reduce_sum(sizes))

    def lay_out(self, x: Tensor) -> list[tuple[Tensor, ...]]:
        """x (M, S H d) by bucket: S tensors (b, H, T, d) each.

        Behind a sequence's end stands something finite, whose gradient must be 0.
        """
        import tensorflow as tf

        @tf.custom_gradient
        def lay_out(x: Tensor):
            return self._laid(x, self._index), lambda *laid: self._collected(laid)

        flat = lay_out(x)
        parts = self._shape[0]
        return [flat[i : i + parts] for i in range(0, len(flat), parts)]

    def collect(self, laid: Sequence[Tensor]) -> Tensor:
        """As `lay_out` lays them, one list: (M, S H d); zeros for a position in no bucket."""
        import tensorflow as tf

        @tf.custom_gradient
        def collect(*laid: Tensor):
            def gradient(upstream: Tensor):
                return self._laid(tf.pad(upstream, [[0, 1], [0, 0]]), self._index_once)

            return self._collected(laid), gradient

        return collect(*laid)

    def _laid(self, x: Tensor, indices: Sequence[Tensor]) -> tuple[Tensor, ...]:
        import tensorflow as tf

        parts, heads = self._shape
        rows = tf.reshape(x, (-1, x.shape[-1] // (parts * heads)))
        return tuple(part for i in indices for part in tf.unstack(tf.gather(rows, i), num=parts))

    def _collected(self, laid: Sequence[Tensor]) -> Tensor:
        import tensorflow as tf

        parts, heads = self._shape
        width = laid[0].shape[-1]
        rows = [tf.reshape(part, (-1, width)) for part in laid]
        rows = tf.concat([*rows, tf.zeros((1, width), rows[0].dtype)], axis=0)
        return tf.reshape(tf.gather(rows, self._back), (-1, parts * heads * width))
