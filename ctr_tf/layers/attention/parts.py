"""Attention of a candidate over rows beside it, and over parts of different widths."""

from __future__ import annotations

from typing import Literal

import keras
from keras import ops

from ctr_tf.layers.attention.folded import masked_softmax
from ctr_tf.types import Tensor


class RowAttention(keras.layers.Layer):
    """A candidate with rows: sum_j a_j [e, v_j], with a = softmax_j(tanh([e, v_j] . w_j + b_j)).

    Zhang et al. 2020, arXiv:2012.06968, equations 7 to 13. v_j . w_j is computed once a user; the
    candidate stands in each row, so that a sum of rows is of it and of the pooled v_j.

    Args:
        target: A, width of a candidate.
        width: D, of a row.
        rows: J, where each has a w and a b of its own; all share one by default.

    Shapes:
        rows (..., D) to `score`; target (B, N, A), rows (B, J, D), scores (B, J), mask (B, J);
        returns (B, N, A + D), zeros where no row is valid.

    Example:
        >>> layer = RowAttention(3, width=2)
        >>> rows, mask = ops.ones((4, 5, 2)), ops.ones((4, 5), "bool")
        >>> layer(ops.ones((4, 6, 3)), rows, layer.score(rows), mask).shape
        TensorShape([4, 6, 5])
    """

    def __init__(self, target: int, width: int, rows: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.target = target
        self.kernel = self.add_weight(name="kernel", shape=(rows or 1, target + width))
        self.bias = self.add_weight(name="bias", shape=(rows or 1,), initializer="zeros")
        self.built = True

    def score(self, rows: Tensor) -> Tensor:
        """v_j . w_j + b_j of rows (..., D): (...)."""
        kernel = ops.cast(self.kernel[:, self.target :], rows.dtype)
        return ops.sum(rows * kernel, axis=-1) + ops.cast(self.bias, rows.dtype)

    def call(
        self, target: Tensor, rows: Tensor, scores: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        kernel = ops.cast(self.kernel[:, : self.target], target.dtype)
        own = ops.matmul(target, ops.transpose(kernel))
        mask = ops.ones_like(scores, dtype="bool") if mask is None else mask
        weights = masked_softmax(ops.tanh(scores[:, None] + own), mask[:, None])
        present = ops.cast(ops.any(mask, axis=1), target.dtype)[:, None, None]
        return ops.concatenate([target * present, ops.matmul(weights, rows)], axis=-1)


class PartAttention(keras.layers.Layer):
    """Parts of one candidate weighed: sum_l a_l r_l, with a = softmax_l(tanh(r_l . w_l + b_l)).

    Zhang et al. 2020, arXiv:2012.06968, equations 14 and 15, each part first projected to one
    width, since those of the paper differ and cannot be added up.

    Args:
        parts: name and width of each part.
        width: R, of them all.
        combine: `sum`, or `concat` to leave the weighted parts side by side.

    Shapes:
        x (..., part width) to `project`; parts (B, R) or (B, N, R), one of them the latter; returns
        (B, N, R) or (B, N, parts R).

    Example:
        >>> layer = PartAttention({"user": 3, "item": 2}, 4)
        >>> user = layer.project("user", ops.ones((2, 3)))
        >>> item = layer.project("item", ops.ones((2, 5, 2)))
        >>> layer({"user": user, "item": item}).shape
        TensorShape([2, 5, 4])
    """

    def __init__(
        self,
        parts: dict[str, int],
        width: int,
        combine: Literal["sum", "concat"] = "sum",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.names = list(parts)
        self.combine = combine
        self.output_width = width * (len(parts) if combine == "concat" else 1)
        self.kernels, self.biases, self.scores = {}, {}, {}
        for name, own in parts.items():
            self.kernels[name] = self.add_weight(name=f"{name}_kernel", shape=(own, width))
            self.biases[name] = self.add_weight(
                name=f"{name}_bias", shape=(width,), initializer="zeros"
            )
            # w_l and b_l in one: the last is b_l.
            self.scores[name] = self.add_weight(
                name=f"{name}_score", shape=(width + 1,), initializer="random_normal"
            )
        self.built = True

    def project(self, name: str, x: Tensor) -> Tensor:
        """A part (..., width) as one of width R."""
        kernel, bias = (ops.cast(w[name], x.dtype) for w in (self.kernels, self.biases))
        return ops.matmul(x, kernel) + bias

    def call(self, parts: dict[str, Tensor]) -> Tensor:
        rows = [parts[name] for name in self.names]
        rows = [row[:, None] if len(row.shape) == 2 else row for row in rows]
        scores = []
        for name, row in zip(self.names, rows):
            score = ops.cast(self.scores[name], row.dtype)
            scores.append(ops.tanh(ops.sum(row * score[:-1], axis=-1) + score[-1]))
        # (B, 1) or (B, N) each: those of the candidates bring the others to N.
        widest = sum(ops.zeros_like(score) for score in scores)
        shares = ops.softmax(ops.stack([score + widest for score in scores], axis=-1))
        weighted = [shares[..., i : i + 1] * row for i, row in enumerate(rows)]
        return sum(weighted) if self.combine == "sum" else ops.concatenate(weighted, axis=-1)
