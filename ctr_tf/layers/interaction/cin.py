"""Compressed interaction network, its first layer split between user and candidate."""

from __future__ import annotations

from typing import Literal, Sequence

import keras
from keras import ops

from ctr_tf.layers.shapes import per_candidate
from ctr_tf.types import Tensor


class CIN(keras.layers.Layer):
    """Compressed interaction network (Lian et al. 2018, arXiv:1803.05170, equation 6).

    x^k_h = sum_ij W^{k,h}_ij (x^{k-1}_i * x^0_j), products of rows being elementwise, and sums of
    all layers' rows over D. Equation 6 has neither bias nor activation; the authors' code has both,
    and the split in halves.

    Of the user's fields U and the rest R, the first layer is three sums: over pairs in U, once a
    request; over R with the factors sum_{i in U} (W_ij + W_ji) x_i, once a request too; and over
    pairs in R. Later layers read rows that depend on the candidate.

    Args:
        user, rest: numbers of fields, first those of the user; 0 for none.
        units: rows of each layer.
        activation: of the rows.
        split_half: of every layer but the last, the first half of the rows goes to the next layer
            alone and the second half to the sums alone.
        bias: whether each row has one.

    Attributes:
        width: S, of what it returns.

    Shapes:
        user (B, U, D), rest (B, N, R, D); returns (B, N, S).

    Example:
        >>> cin = CIN(user=2, rest=3, units=[4, 2])
        >>> user, rest = ops.ones((5, 2, 8)), ops.ones((5, 6, 3, 8))
        >>> cin(user, rest, cin.of_user(user), ops.ones((5, 6), dtype="bool")).shape
        TensorShape([5, 6, 6])
    """

    def __init__(
        self,
        user: int,
        rest: int,
        units: Sequence[int],
        activation: Literal["linear", "relu"] = "linear",
        split_half: bool = False,
        bias: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.user, self.rest, self.fields = user, rest, user + rest
        self.activation = keras.activations.get(activation)
        self.passed = [width // 2 if split_half else width for width in units[:-1]]
        kept = [width - width // 2 if split_half else width for width in units[:-1]]
        self.width = sum(kept) + units[-1]
        self.kernels = []
        for k, width in enumerate(units):
            rows = self.passed[k - 1] if k else self.fields
            # Of the sum's terms, each row has as many as there are pairs.
            bound = (6.0 / (rows * self.fields + width)) ** 0.5
            self.kernels.append(
                self.add_weight(
                    name=f"{k}_kernel",
                    shape=(rows, self.fields, width),
                    initializer=keras.initializers.RandomUniform(-bound, bound),
                )
            )
        self.biases = [
            self.add_weight(name=f"{k}_bias", shape=(width,), initializer="zeros")
            for k, width in enumerate(units)
            if bias
        ]
        self.built = True

    def of_user(self, user: Tensor) -> dict[str, Tensor]:
        """What the first layer computes of the user's fields (B, U, D) alone.

        Returns:
            `pairs` (B, D, H), the sum over their pairs, and, where there is a rest, `factors`
            (B, D, R, H).
        """
        kernel = ops.cast(self.kernels[0], user.dtype)
        count, x = self.user, ops.swapaxes(user, -1, -2)
        found = {"pairs": _sums(x, x, kernel[:count, :count])}
        if self.rest:
            either = kernel[:count, count:] + ops.swapaxes(kernel[count:, :count], 0, 1)
            factors = ops.matmul(x, ops.reshape(either, (count, -1)))
            found["factors"] = ops.reshape(factors, (-1, x.shape[1], self.rest, either.shape[-1]))
        return found

    def call(
        self,
        user: Tensor | None,
        rest: Tensor | None,
        of_user: dict[str, Tensor],
        mask: Tensor,
    ) -> Tensor:
        """The sums of all layers' rows.

        Args:
            user, rest: None where there is no field.
            of_user: what the method of that name returned; empty without user fields.
            mask: (B, N), by which it is broadcast where there is no rest.
        """
        # Fields last: the sum over pairs is then a product of matrices.
        parts = [] if user is None else [ops.swapaxes(per_candidate(user, mask), -1, -2)]
        first = [] if user is None else [of_user["pairs"][:, None]]
        if rest is None:
            first = [per_candidate(of_user["pairs"], mask)]
        else:
            kernel = ops.cast(self.kernels[0], rest.dtype)
            x = ops.swapaxes(rest, -1, -2)
            parts.append(x)
            first.append(_sums(x, x, kernel[self.user :, self.user :]))
            if user is not None:
                # (B, D, N, R) times (B, D, R, H), and candidates first again.
                both = ops.matmul(ops.transpose(x, (0, 2, 1, 3)), of_user["factors"])
                first.append(ops.transpose(both, (0, 2, 1, 3)))
        x0 = parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)
        rows, kept = self._rows(0, sum(first)), []
        for k, (kernel, passed) in enumerate(zip(self.kernels[1:], self.passed), start=1):
            split = passed < rows.shape[-1]
            kept.append(rows[..., passed:] if split else rows)
            rows = self._rows(k, _sums(rows[..., :passed], x0, ops.cast(kernel, x0.dtype)))
        kept.append(rows)
        return ops.concatenate([ops.sum(each, axis=-2) for each in kept], axis=-1)

    def _rows(self, k: int, sums: Tensor) -> Tensor:
        """The rows of a layer from their sums over pairs."""
        return self.activation(sums + ops.cast(self.biases[k], sums.dtype) if self.biases else sums)


def _sums(left: Tensor, right: Tensor, kernel: Tensor) -> Tensor:
    """sum_ij kernel_ijh left_i right_j: (..., D, I) and (..., D, J) to (..., D, H)."""
    pairs = left[..., :, None] * right[..., None, :]
    shape = ops.shape(pairs)
    count = left.shape[-1] * right.shape[-1]
    pairs = ops.reshape(pairs, (*shape[:-2], count))
    return ops.matmul(pairs, ops.reshape(kernel, (count, kernel.shape[-1])))
