"""The co-action unit: a small MLP whose weights are a candidate's embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from keras import ops

from ctr_tf.types import Tensor


class CoAction:
    """Feeds through micro-MLPs that are cut out of candidates' induction vectors.

    Bian et al. 2022, arXiv:2011.05625, equations 5 to 11: W_1 || b_1 || ... || W_K || b_K =
    P_induction, h_0 = P_feed^c, h_k = tanh(h_{k-1} W_k + b_k), and the co-action is h_1 || ... ||
    h_K, summed over the behaviours of a sequence and over the orders c. It has no weights of its
    own.

    Args:
        feed: d_0, width of a feed.
        units: d_1 to d_K.
        orders: C, the highest power of the feed.
        independent: whether each order has a micro-MLP of its own.
        biases: whether its layers have biases.
        last: whether the last layer has an activation, too.
        combine: whether orders are added up (`sum`) or stand side by side (`concat`).

    Attributes:
        width: of an induction vector.
        output_width: of a co-action.

    Shapes:
        feed (B, L, d_0), mask (B, L), induction (B, N, width); returns (B, N, output_width).

    Example:
        >>> unit = CoAction(4, [3, 2], orders=2)
        >>> unit.width, unit.output_width
        (23, 5)
        >>> mask = ops.ones((2, 6), "bool")
        >>> unit(ops.ones((2, 6, 4)), mask, ops.ones((2, 7, 23))).shape
        TensorShape([2, 7, 5])
    """

    def __init__(
        self,
        feed: int,
        units: Sequence[int],
        orders: int = 1,
        independent: bool = False,
        biases: bool = True,
        last: bool = True,
        combine: Literal["sum", "concat"] = "sum",
    ):
        self.shapes = list(zip([feed, *units[:-1]], units))
        self.orders = orders
        self.independent = independent
        self.biases = biases
        self.last = last
        self.combine = combine
        one = sum(inputs * outputs + biases * outputs for inputs, outputs in self.shapes)
        self.width = one * (orders if independent else 1)
        self.output_width = sum(units) * (orders if combine == "concat" else 1)

    def __call__(self, feed: Tensor, mask: Tensor | None, induction: Tensor) -> Tensor:
        parts = [induction] * self.orders
        if self.independent:
            parts = ops.split(induction, self.orders, axis=-1)
        found, power = [], feed
        for order, part in enumerate(parts):
            power = power * feed if order else feed
            found.append(self._passed(power, mask, part))
        return sum(found) if self.combine == "sum" else ops.concatenate(found, axis=-1)

    def _passed(self, feed: Tensor, mask: Tensor | None, induction: Tensor) -> Tensor:
        """One micro-MLP's layers side by side, (B, N, d_1 + ... + d_K), summed over the feeds."""
        count, at, outputs = ops.shape(induction)[:2], 0, []
        hidden = feed[:, None]
        valid = None if mask is None else ops.cast(mask, feed.dtype)[:, None, :, None]
        for i, (width, units) in enumerate(self.shapes):
            kernel = induction[..., at : at + width * units]
            at += width * units
            hidden = ops.matmul(hidden, ops.reshape(kernel, (*count, width, units)))
            if self.biases:
                hidden = hidden + induction[..., None, at : at + units]
                at += units
            if self.last or i < len(self.shapes) - 1:
                hidden = ops.tanh(hidden)
            outputs.append(ops.sum(hidden if valid is None else hidden * valid, axis=2))
        return ops.concatenate(outputs, axis=-1)
