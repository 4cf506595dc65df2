"""Numbers of trainable values, worked out from sizes alone."""

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


def size(weights: object) -> int:
    """Values in nested tuples and lists of arrays; None, text and Python numbers count nothing."""
    if isinstance(weights, np.ndarray):
        return weights.size
    if isinstance(weights, Iterable) and not isinstance(weights, str):
        return sum(size(part) for part in weights)
    return 0
