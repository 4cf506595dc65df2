"""Attention whose scores are a product of the candidate and something of the user alone."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from ctr_tf.layers.dense import MLP
from ctr_tf.layers.names import Activation
from ctr_tf.types import Tensor


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """The softmax over the last axis' valid positions; zeros elsewhere and where none is.

    Args:
        scores: (..., L).
        mask: broadcasts to it, True where a position is valid.

    Example:
        >>> mask = ops.array([[True, True, False], [False, False, False]])
        >>> masked_softmax(ops.zeros((2, 3)), mask).numpy().tolist()
        [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    dtype = scores.dtype
    scores = ops.where(mask, ops.cast(scores, "float32"), -1e9)
    # By hand: Keras warns of a softmax over an axis of length 1, and that of an empty one fails.
    largest = ops.max(scores, axis=-1, keepdims=True, initial=-1e9)
    weights = ops.exp(scores - ops.stop_gradient(largest)) * ops.cast(mask, "float32")
    total = ops.sum(weights, axis=-1, keepdims=True)
    return ops.cast(weights / ops.where(total > 0, total, 1.0), dtype)


class BilinearAttention(keras.layers.Layer):
    """Attention a_j = softmax_j(k_j W q) over the valid positions.

    Zhou et al. 2019, arXiv:1809.03672, equation 8; Feng et al. 2019, arXiv:1905.06482, equation 9.
    k_j W is computed once a user, and a candidate adds a dot product a position.

    Args:
        width: D, of a key.
        queries: A, of a query.
        softmax: whether weights are normalised; the scores themselves otherwise.

    Shapes:
        keys (B, L, D) to `project_keys`; queries (B, N, A); projected (B, L, A); mask (B, L);
        values (B, L, V); returns (B, N, V), zeros where no position is valid.

    Example:
        >>> attention = BilinearAttention(4, queries=3)
        >>> keys, mask = ops.ones((2, 5, 4)), ops.ones((2, 5), "bool")
        >>> attention(ops.ones((2, 7, 3)), attention.project_keys(keys), mask, keys).shape
        TensorShape([2, 7, 4])
    """

    def __init__(self, width: int, queries: int, softmax: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.softmax = softmax
        self.kernel = self.add_weight(name="kernel", shape=(width, queries))
        self.built = True

    def project_keys(self, keys: Tensor) -> Tensor:
        """Keys (..., D) times W: (..., A)."""
        return ops.matmul(keys, ops.cast(self.kernel, keys.dtype))

    def weights_of(self, queries: Tensor, projected: Tensor, mask: Tensor) -> Tensor:
        """a, (B, N, L), zeros where the mask is False."""
        scores = ops.matmul(queries, ops.swapaxes(projected, -1, -2))
        mask = mask[:, None, :]
        if self.softmax:
            return masked_softmax(scores, mask)
        return ops.where(mask, scores, ops.zeros((), scores.dtype))

    def call(self, queries: Tensor, projected: Tensor, mask: Tensor, values: Tensor) -> Tensor:
        return ops.matmul(self.weights_of(queries, projected, mask), values)


class FoldedUnit(keras.layers.Layer):
    """An activation unit whose MLP sees the user alone: a_j = MLP(k_j) W q.

    The counterpart of `ActivationUnit` for folded inference: what is wide is computed once a user,
    and the candidate enters by one dot product a behaviour.

    Args:
        width: D, of a key.
        queries: A, of a query.
        units: widths of the MLP.
        activation_name: of the MLP.
        softmax: whether weights are normalised over the valid behaviours.

    Shapes:
        as of `BilinearAttention`; weights to `project_keys`: keys' shape without the last axis,
        what counts for batch statistics.

    Example:
        >>> unit = FoldedUnit(4, queries=3, units=[8])
        >>> keys, mask = ops.ones((2, 5, 4)), ops.ones((2, 5), "bool")
        >>> unit(ops.ones((2, 7, 3)), unit.project_keys(keys), mask, keys).shape
        TensorShape([2, 7, 4])
    """

    def __init__(
        self,
        width: int,
        queries: int,
        units: Sequence[int],
        activation_name: Activation = "dice",
        softmax: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        with keras.name_scope(self.name):
            self.mlp = MLP(units, activation_name, name="mlp")
            # Its weights now, since it is called apart from this layer.
            self.mlp(ops.zeros((1, width)))
            self.attention = BilinearAttention(units[-1], queries, softmax, name="attention")
        self.built = True

    def project_keys(
        self, keys: Tensor, weights: Tensor | None = None, training: bool = False
    ) -> Tensor:
        """MLP(keys) W of keys (..., D): (..., A)."""
        return self.attention.project_keys(self.mlp(keys, weights, training=training))

    def call(self, queries: Tensor, projected: Tensor, mask: Tensor, values: Tensor) -> Tensor:
        return self.attention(queries, projected, mask, values)
