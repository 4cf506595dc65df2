"""Valid positions end to end: what is pointwise over a sequence does no work on its padding."""

from __future__ import annotations

from contextlib import AbstractContextManager

import keras
from keras import ops

from ctr_tf.layers.compiled import Filled
from ctr_tf.layers.trace_setting import TraceSetting
from ctr_tf.types import Tensor

_padded = TraceSetting(keras.backend.backend() != "tensorflow")


def padded() -> AbstractContextManager[None]:
    """Within it packings keep every position, so that shapes are static, as XLA needs them.

    Keras backends other than TensorFlow always do.

    Example:
        >>> with padded():
        ...     Packing(ops.array([[True, False]])).pack(ops.array([[3.0, 4.0]])).shape
        TensorShape([2])
    """
    return _padded.within(True)


class Packing:
    """The P valid positions of a batch of sequences, in order.

    Where they are many, the last one fills them up to a number that layers are compiled for (see
    `Filled`), with weight 0: what comes of it must have no gradient.

    What `unpack` returns is dense, and remembers where it comes from: `pack` gives that back, so
    that in one graph nothing is unpacked only to be packed again. A mask likewise remembers its
    packing (see `of`).

    Args:
        mask: (B, L), True where a position is valid.

    Attributes:
        owner: (P,) int32, the sequence of each position.
        weights: (P,) float32, 1 for each position; 0 for those that are there for the shape alone.
        lengths: (B,) int32, valid positions of each sequence.

    Example:
        >>> packing = Packing.of(ops.array([[True, False], [True, True]]))
        >>> packed = packing.pack(ops.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> packed.numpy().tolist(), packing.owner.numpy().tolist()
        ([1.0, 3.0, 4.0], [0, 1, 1])
        >>> packing.unpack(packed).numpy().tolist()
        [[1.0, 0.0], [3.0, 4.0]]
        >>> packing.spread(ops.array([5.0, 6.0])).numpy().tolist()
        [5.0, 6.0, 6.0]
        >>> packing.sum(packed).numpy().tolist(), packing.ages().numpy().tolist()
        ([1.0, 7.0], [0, 1, 0])
    """

    def __init__(self, mask: Tensor):
        self.padded, self.graph = _padded.value, current_graph()
        self.shape = ops.shape(mask)
        self.lengths = ops.sum(ops.cast(mask, "int32"), axis=1)
        if self.padded:
            owner = ops.arange(self.shape[0], dtype="int32")[:, None]
            self.owner = ops.reshape(ops.broadcast_to(owner, self.shape), (-1,))
            self.weights = ops.reshape(ops.cast(mask, "float32"), (-1,))
        else:
            import tensorflow as tf

            # In int32: gathers and scatters along it are then faster than in int64.
            valid = tf.cast(tf.where(tf.reshape(mask, (-1,)))[:, 0], tf.int32)
            self._filled = Filled(tf.size(valid))
            self.positions = self._filled.up(valid, valid[-1:])
            self.owner = self.positions // tf.cast(self.shape[1], tf.int32)
            self.weights = self._filled.up(tf.ones_like(valid, tf.float32))

    @classmethod
    def of(cls, mask: Tensor) -> "Packing":
        """The packing of a mask, the same at each call with the same tensor."""
        found = getattr(mask, "_ctr_tf_packing", None)
        if found is None or found.padded != _padded.value or found.graph is not current_graph():
            found = _remember(mask, "_ctr_tf_packing", cls(mask))
        return found

    def pack(self, x: Tensor) -> Tensor:
        """The valid positions of x (B, L, ...): (P, ...)."""
        packing, packed = getattr(x, "_ctr_tf_packed", (None, None))
        if packing is self:
            return packed
        # The mask's own size, so that x of another length is an error.
        x = ops.reshape(x, (self.shape[0] * self.shape[1], *ops.shape(x)[2:]))
        if self.padded:
            return x
        import tensorflow as tf

        return tf.gather(x, self.positions)

    def unpack(self, x: Tensor) -> Tensor:
        """x (P, ...) where it belongs, zeros elsewhere: (B, L, ...)."""
        if self.padded:
            keep = ops.reshape(self.weights > 0, (-1, *[1] * (len(x.shape) - 1)))
            x = ops.where(keep, x, ops.zeros((), x.dtype))
            return ops.reshape(x, (*self.shape, *ops.shape(x)[1:]))
        import tensorflow as tf

        rest = tf.shape(x)[1:]
        flat = tf.concat([[self.shape[0] * self.shape[1]], rest], axis=0)
        positions = self._filled.cut(self.positions)

        def scattered() -> Tensor:
            return tf.scatter_nd(positions[:, None], self._filled.cut(x), flat)

        if all(x.shape[1:]):
            dense = scattered()
        else:
            # Rows without any value, such as those of no candidate, cannot be scattered.
            dense = tf.cond(tf.reduce_all(rest > 0), scattered, lambda: tf.zeros(flat, x.dtype))
        dense = tf.reshape(dense, tf.concat([[self.shape[0], self.shape[1]], rest], axis=0))
        dense.set_shape((None, None, *x.shape[1:]))
        _remember(dense, "_ctr_tf_packed", (self, x))
        return dense

    def spread(self, x: Tensor) -> Tensor:
        """What each position's sequence has: x (B, ...) to (P, ...)."""
        if self.padded:
            return ops.take(x, self.owner, axis=0)
        import tensorflow as tf

        @tf.custom_gradient
        def spread(x: Tensor):
            # Owners come in order, which the gradient of a gather does not know.
            return tf.gather(x, self.owner), self.sum

        return spread(x)

    def sum(self, x: Tensor) -> Tensor:
        """Sums over each sequence's positions: x (P, ...) to (B, ...)."""
        if self.padded:
            return ops.sum(self.unpack(x), axis=1)
        import tensorflow as tf

        # What fills up goes to a sequence of its own, which is cut off.
        owner = self._filled.up(self._filled.cut(self.owner), self.shape[:1])
        sums = tf.math.segment_sum(x, owner)[: self.shape[0]]
        # Sequences without a position after the last one that has some.
        behind = self.shape[0] - tf.shape(sums)[0]
        return tf.pad(sums, [[0, behind], *[[0, 0]] * (len(x.shape) - 1)])

    def mean(self, x: Tensor) -> Tensor:
        """Means over each sequence's positions, zeros where it has none: x (P, D) to (B, D)."""
        return self.sum(x) / ops.cast(ops.maximum(self.lengths, 1), x.dtype)[:, None]

    def ages(self) -> Tensor:
        """How many valid positions of its sequence follow each: (P,) int32, 0 for the latest."""
        if self.padded:
            valid = ops.reshape(ops.cast(self.weights, "int32"), self.shape)
            return ops.reshape(self.lengths[:, None] - ops.cumsum(valid, axis=1), (-1,))
        ends = ops.cumsum(self.lengths)
        ages = ops.take(ends, self.owner, axis=0) - 1 - ops.arange(ops.shape(self.owner)[0])
        return ops.maximum(ages, 0)


def current_graph() -> object:
    """The TensorFlow graph under construction, whose tensors mean nothing in another."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def _remember(tensor: Tensor, name: str, value: object) -> object:
    """Ties a value to a tensor's own life, where the backend's tensors take attributes."""
    try:
        setattr(tensor, name, value)
    except AttributeError:
        pass
    return value


def chosen(x: Tensor, mask: Tensor) -> Tensor:
    """The rows of x (B, L, ...) where a mask (B, L) is True: (P, ...).

    Example:
        >>> chosen(ops.array([[1, 2], [3, 4]]), ops.array([[False, True], [True, True]])).numpy()
        array([2, 3, 4], dtype=int32)
    """
    flat = ops.reshape(x, (-1, *ops.shape(x)[2:]))
    return ops.take(flat, ops.nonzero(ops.reshape(mask, (-1,)))[0], axis=0)


def placed(values: Tensor, mask: Tensor) -> Tensor:
    """What `chosen` took, back in its places, zeros elsewhere: (P,) to (B, L).

    Example:
        >>> mask = ops.array([[False, True], [True, True]])
        >>> placed(ops.array([2.0, 3.0, 4.0]), mask).numpy().tolist()
        [[0.0, 2.0], [3.0, 4.0]]
    """
    flat = ops.reshape(mask, (-1,))
    places = ops.cast(ops.nonzero(flat)[0], "int32")[:, None]
    return ops.reshape(ops.scatter(places, values, ops.shape(flat)), ops.shape(mask))
