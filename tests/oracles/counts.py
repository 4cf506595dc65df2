"""Numbers of trainable values, and operations of products, worked out from sizes alone.

An operation is a multiplication or an addition: a row of m values times a matrix (m, n) takes 2 m n
of them.
"""

from collections.abc import Iterable, Sequence

import numpy as np


def dense_count(inputs: int, outputs: int, bias: bool = True) -> int:
    """Values of a dense layer, inputs * outputs + outputs.

    Example:
        >>> dense_count(3, 2), dense_count(3, 2, bias=False)
        (8, 6)
    """
    return inputs * outputs + (outputs if bias else 0)


def mlp_count(inputs: int, widths: Sequence[int]) -> int:
    """Values of a chain of dense layers with biases; activations without parameters.

    Example:
        >>> mlp_count(3, [4, 1])
        21
    """
    return sum(dense_count(i, o) for i, o in zip([inputs, *widths[:-1]], widths, strict=True))


def encoder_count(width: int, hidden: int, bias: bool = True) -> int:
    """Values of one `transformer.encoder_block`: four projections, feed-forward part, two norms.

    Args:
        width: W of the rows.
        hidden: of the feed-forward part.
        bias: whether the four projections of attention have biases.
    """
    return 4 * dense_count(width, width, bias) + mlp_count(width, [hidden, width]) + 4 * width


def dense_flops(inputs: int, outputs: int) -> int:
    """Operations of a dense layer's product, of one row.

    Example:
        >>> dense_flops(3, 2)
        12
    """
    return 2 * inputs * outputs


def mlp_flops(inputs: int, widths: Sequence[int]) -> int:
    """Operations of the products of a chain of dense layers, of one row.

    Example:
        >>> mlp_flops(3, [4, 1])
        32
    """
    return sum(dense_flops(i, o) for i, o in zip([inputs, *widths[:-1]], widths, strict=True))


def pooling_flops(values: int, width: int) -> int:
    """Operations of a weighted sum of so many rows, a product of their weights and them."""
    return dense_flops(values, width)


def encoder_flops(length: int, width: int, hidden: int) -> int:
    """Operations of the products of one `transformer.encoder_block` over so many rows.

    Four projections, scores of each row with each other and their weighted sums (equation 1,
    whatever the number of heads), and the feed-forward part (equation 2).
    """
    of_row = 4 * dense_flops(width, width) + mlp_flops(width, [hidden, width])
    return length * of_row + 2 * length * dense_flops(width, length)


def gru_flops(length: int, inputs: int, width: int) -> int:
    """Operations of the products of a GRU over so many steps: three of x and three of h each."""
    return length * 3 * (dense_flops(inputs, width) + dense_flops(width, width))


def size(weights: object) -> int:
    """Values in nested tuples and lists of arrays; None, text and Python numbers count nothing."""
    if isinstance(weights, np.ndarray):
        return weights.size
    if isinstance(weights, Iterable) and not isinstance(weights, str):
        return sum(size(part) for part in weights)
    return 0
