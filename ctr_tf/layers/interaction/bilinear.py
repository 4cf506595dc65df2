"""Bilinear interaction of pairs of fields, split between user and candidate; SENET."""

from __future__ import annotations

from itertools import combinations, product
from typing import Literal

import keras
from keras import ops

from ctr_tf.layers.dense import SplitDense
from ctr_tf.types import Tensor

Kind = Literal["all", "each", "interaction"]
Pairs = list[tuple[int, int]]


class Bilinear(keras.layers.Layer):
    """Bilinear interaction of each pair of fields, p_ij = (v_i W) * v_j.

    Huang et al. 2019, arXiv:1905.09433, section 3. W is one for all pairs, one for each left
    field, or one for each pair. Pairs of the user's fields and the products of its left fields are
    functions of the user alone.

    Args:
        user, rest: numbers of fields U and R, first those of the user; 0 for none.
        width: D.
        kind: which pairs share W.

    Attributes:
        pairs: (i, j), i < j: those of the user's fields, those of a user's field and another,
            those of other fields.
        counts: number of each of these three.

    Shapes:
        user (B, U, D), rest (B, N, R, D); returns (B, N, pairs, D).

    Example:
        >>> layer = Bilinear(user=2, rest=2, width=4, kind="each")
        >>> layer.pairs
        [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
        >>> user, rest = ops.ones((5, 2, 4)), ops.ones((5, 6, 2, 4))
        >>> layer.of_user(user)["pairs"].shape
        TensorShape([5, 1, 4])
        >>> [part.shape for part in layer(layer.of_user(user)["left"], rest)]
        [TensorShape([5, 6, 4, 4]), TensorShape([5, 6, 1, 4])]
    """

    def __init__(self, user: int, rest: int, width: int, kind: Kind, **kwargs):
        super().__init__(**kwargs)
        self.user, self.rest, self.kind = user, rest, kind
        others = range(user, user + rest)
        blocks = [
            list(combinations(range(user), 2)),
            list(product(range(user), others)),
            list(combinations(others, 2)),
        ]
        self.counts = [len(block) for block in blocks]
        self.pairs = [pair for block in blocks for pair in block]
        # The last field is on the left of no pair.
        number = {"all": 1, "each": user + rest - 1, "interaction": len(self.pairs)}[kind]
        bound = (6.0 / (2 * width)) ** 0.5
        self.kernel = self.add_weight(
            name="kernel",
            shape=(number, width, width),
            initializer=keras.initializers.RandomUniform(-bound, bound),
        )
        self.built = True

    def of_user(self, user: Tensor) -> dict[str, Tensor]:
        """What is computed of the user's fields (B, U, D) alone.

        Returns:
            `pairs` (B, pairs, D), where there are any, and `left` (B, U, R or 1, D), where there is
            another field: v_i W of the pairs with it.
        """
        found = {}
        if self.counts[0]:
            found["pairs"] = self._within(user, 0, 0)
        if self.rest and self.kind == "interaction":
            width = user.shape[-1]
            kernel = self.kernel[self.counts[0] : sum(self.counts[:2])]
            kernel = ops.reshape(kernel, (self.user, self.rest, width, width))
            kernel = ops.cast(kernel, user.dtype)
            found["left"] = ops.einsum("bud,urde->bure", user, kernel)
        elif self.rest:
            found["left"] = self._projected(user, 0, self.user)[:, :, None]
        return found

    def call(self, left: Tensor | None, rest: Tensor | None) -> list[Tensor]:
        """The pairs with a field of the rest, (B, N, pairs, D) each: with the user's, and others.

        Args:
            left: of `of_user`; None without user fields.
            rest: None where there is no such field.
        """
        found = []
        if left is not None and rest is not None:
            across = left[:, None] * rest[:, :, None]
            shape = ops.shape(rest)
            found.append(ops.reshape(across, (*shape[:2], self.counts[1], rest.shape[-1])))
        if self.counts[2]:
            found.append(self._within(rest, self.user, sum(self.counts[:2])))
        return found

    def _within(self, x: Tensor, field: int, pair: int) -> Tensor:
        """Pairs of fields of x, whose first field and first pair have these numbers."""
        pairs = list(combinations(range(x.shape[-2]), 2))
        i, j = zip(*pairs)
        if self.kind == "interaction":
            left = self._projected(ops.take(x, i, axis=-2), pair, len(pairs))
        else:
            left = self._projected(x[..., :-1, :], field, x.shape[-2] - 1)
            left = ops.take(left, i, axis=-2)
        return left * ops.take(x, j, axis=-2)

    def _projected(self, x: Tensor, start: int, count: int) -> Tensor:
        """x (..., count, D) times W, of which each has its own, the first that of `start`."""
        kernel = ops.cast(self.kernel, x.dtype)
        if self.kind == "all":
            return ops.matmul(x, kernel[0])
        flat = ops.reshape(x, (-1, *x.shape[-2:]))
        y = ops.einsum("mpd,pde->mpe", flat, kernel[start : start + count])
        return ops.reshape(y, ops.shape(x))


class SENET(keras.layers.Layer):
    """The importance of each field (Huang et al. 2019, arXiv:1905.09433, section 3).

    relu(relu(z W_1) W_2), z the mean of each field, without biases. What the user's fields add to
    the first product is computed once a request.

    Args:
        parts: name and number of fields of each part, in order.
        reduction: r; the hidden width is F / r, rounded down, at least 1.
        activation: of the second layer, which the paper leaves open.

    Shapes:
        products of `part`, which broadcast to (..., F / r); returns (..., F).

    Example:
        >>> layer = SENET({"user": 2, "rest": 4}, reduction=3)
        >>> user, rest = ops.ones((5, 2, 8)), ops.ones((5, 6, 4, 8))
        >>> layer([layer.part("user", user)[:, None], layer.part("rest", rest)]).shape
        TensorShape([5, 6, 6])
    """

    def __init__(
        self,
        parts: dict[str, int],
        reduction: int,
        activation: Literal["relu", "sigmoid"] = "relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        fields = sum(parts.values())
        with keras.name_scope(self.name):
            self.reduce = SplitDense(
                max(1, fields // reduction), parts, use_bias=False, name="reduce"
            )
        self.expand = keras.layers.Dense(fields, activation, use_bias=False, name="expand")

    def part(self, name: str, fields: Tensor | None) -> Tensor | None:
        """What fields (..., F_part, D) add to the first product: (..., F / r); None for none."""
        return None if fields is None else self.reduce.part(name, ops.mean(fields, axis=-1))

    def call(self, products: list[Tensor]) -> Tensor:
        return self.expand(ops.relu(self.reduce.join(products)))
