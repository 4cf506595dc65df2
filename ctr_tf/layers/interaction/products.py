"""Products of pairs of fields as signals of a dense layer, split between the sides.

A side's fields are (..., F, D). Pairs of fields of one side and pairs of fields of two sides are
signals of their own, so that those within the user are computed once a request.
"""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.layers.interaction.pairs import FieldMatrices
from ctr_tf.layers.shapes import split
from ctr_tf.types import Tensor


class InnerProducts:
    """p_ij = <v_i, v_j> for fields i < j (Qu et al. 2016, arXiv:1611.00144, section III-B).

    The sums of 2016 run over all ordered pairs; this is each pair once, as in Qu et al. 2018,
    arXiv:1807.00311. It has no weights.

    Args:
        counts: number of fields of each side, in order.

    Shapes:
        fields: (B, F, D) of user or context, (B, N, F, D) of candidates.

    Example:
        >>> products = InnerProducts({"user": 2, "candidate": 1})
        >>> user, item = ops.array([[[1.0, 2.0], [3.0, 4.0]]]), ops.array([[[[5.0, 6.0]]]])
        >>> own, sent = products.of_side("user", user)
        >>> own.numpy().tolist(), products.across(sent["candidate"], item).numpy().tolist()
        ([[11.0]], [[[17.0, 39.0]]])
    """

    def __init__(self, counts: dict[str, int]):
        self.counts = dict(counts)

    def of_side(self, side: str, fields: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Signals of pairs within a side, (..., P) in order or None, and messages to later sides.

        Messages, what `across` needs of the fields of user or context, are these themselves.
        """
        own = upper(ops.matmul(fields, _swapped(fields)))
        return own, {other: fields for other in later_sides(self.counts, side)}

    def across(self, message: Tensor, fields: Tensor) -> Tensor:
        """Signals of an earlier side's fields with those of this one, the latter first: (..., G F).

        Args:
            message: of `of_side`.
            fields: (..., G, D).
        """
        *lead, count, width = ops.shape(fields)
        rows = ops.reshape(fields, (lead[0], -1, width))
        signals = ops.matmul(rows, _swapped(message))
        return ops.reshape(signals, (*lead, count * message.shape[-2]))


class KernelProducts(keras.layers.Layer):
    """p_ij = v_i^T phi_ij v_j for fields i < j (Qu et al. 2018, arXiv:1807.00311, kernel product).

    Args:
        counts: number of fields of each side, in order.
        width: D of every field.

    Shapes:
        as of `InnerProducts`.

    Example:
        >>> products = KernelProducts({"user": 2, "candidate": 1}, 4)
        >>> products.count_params() == 3 * 4 * 4
        True
        >>> own, sent = products.of_side("user", ops.ones((5, 2, 4)))
        >>> products.across(sent["candidate"], ops.ones((5, 6, 1, 4))).shape
        TensorShape([5, 6, 2])
    """

    def __init__(self, counts: dict[str, int], width: int, **kwargs):
        super().__init__(**kwargs)
        self.counts = dict(counts)
        self.width = width
        with keras.name_scope(self.name):
            self.kernels = FieldMatrices(
                {side: [width] * count for side, count in counts.items()}, name="kernels"
            )
        self.built = True

    def of_side(self, side: str, fields: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Signals of pairs within a side, (..., P) in order or None, and messages to later sides.

        Messages, what `across` needs of the fields of user or context, are (B, G, D, F).
        """
        rows = self.kernels.rows(side, fields.dtype)
        if not rows:
            return None, {}
        *lead, count, width = ops.shape(fields)
        by_field = ops.transpose(ops.reshape(fields, (-1, count, width)), (1, 0, 2))
        sent = ops.transpose(ops.matmul(by_field, ops.stack(rows)), (1, 0, 2))
        shaped = {
            other: ops.reshape(part, (*lead, count, self.counts[other], width))
            for other, part in self.kernels.sides.split(sent, side).items()
        }
        own = upper(ops.sum(shaped.pop(side) * fields[..., None, :, :], axis=-1))
        return own, {other: ops.transpose(part, (0, 2, 3, 1)) for other, part in shaped.items()}

    def across(self, message: Tensor, fields: Tensor) -> Tensor:
        """Signals of an earlier side's fields with those of this one, the latter first: (..., G F).

        Args:
            message: of `of_side`.
            fields: (..., G, D).
        """
        *lead, count, width = ops.shape(fields)
        by_field = ops.transpose(ops.reshape(fields, (lead[0], -1, count, width)), (0, 2, 1, 3))
        signals = ops.transpose(ops.matmul(by_field, message), (0, 2, 1, 3))
        return ops.reshape(signals, (*lead, count * message.shape[-1]))


def outer_product(total: Tensor) -> Tensor:
    """f f^T of the sum f of all fields (Qu et al. 2016, arXiv:1611.00144, section III-C).

    It is the sum over all ordered pairs, own ones included, of f_i f_j^T.

    Shapes:
        total: (..., D); returns (..., D D), row by row.

    Example:
        >>> outer_product(ops.array([4.0, 6.0])).numpy().tolist()
        [16.0, 24.0, 24.0, 36.0]
    """
    products = total[..., :, None] * total[..., None, :]
    return ops.reshape(products, (*ops.shape(total)[:-1], total.shape[-1] ** 2))


def product_sizes(counts: dict[str, int]) -> dict[str, int]:
    """Number of signals within each side and across each two: the parts of a split dense layer.

    Example:
        >>> product_sizes({"user": 3, "candidate": 2})
        {'user_user': 3, 'user_candidate': 6, 'candidate_candidate': 1}
    """
    sizes = {}
    for side, count in counts.items():
        sizes[f"{side}_{side}"] = count * (count - 1) // 2
        for other in later_sides(counts, side):
            sizes[f"{side}_{other}"] = count * counts[other]
    return sizes


def later_sides(counts: dict[str, int], side: str) -> list[str]:
    """The sides after one that have fields."""
    names = list(counts)
    return [name for name in names[names.index(side) + 1 :] if counts[name]]


def upper(pairs: Tensor) -> Tensor | None:
    """What stands above the diagonal, row by row: (..., F, F) to (..., P); None for one field.

    Example:
        >>> upper(ops.reshape(ops.arange(9), (3, 3))).numpy().tolist()
        [1, 2, 5]
    """
    count = pairs.shape[-1]
    if count < 2:
        return None
    flat = ops.reshape(pairs, (*ops.shape(pairs)[:-2], count * count))
    # What is left out and what is kept of each row in turn, and the last row, left out.
    sizes = [size for i in range(count - 1) for size in (i + 1, count - i - 1)]
    return ops.concatenate(split(flat, [*sizes, count], axis=-1)[1::2], axis=-1)


def _swapped(x: Tensor) -> Tensor:
    """The last two axes of (..., A, B) exchanged."""
    axes = list(range(len(x.shape)))
    return ops.transpose(x, (*axes[:-2], axes[-1], axes[-2]))
