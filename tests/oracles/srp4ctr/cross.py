"""Oracle of a transformer layer whose keys and values come from outside."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..blocks import Activation, Array, Layer, dense, mlp
from ..transformer import gelu, layer_norm, multi_head


class CrossBlock(NamedTuple):
    """Weights of a layer over rows of width W, all but the keys' and values'.

    Attributes:
        query: (kernel (W, W), bias or None) of W^Q.
        output: (kernel (W, W), bias or None) after the heads.
        feed_forward: (kernel, bias) of both layers.
        norms: (gamma, beta, epsilon) of both normalisations.
    """

    query: tuple[Array, Array | None]
    output: tuple[Array, Array | None]
    feed_forward: Sequence[Layer]
    norms: Sequence[tuple[Array, Array, float]]


def cross_block(
    x: Array,
    keys: Array,
    values: Array,
    mask: Array,
    heads: int,
    block: CrossBlock,
    activation: Activation = gelu,
    pre: bool = False,
) -> Array:
    """LN(x + MultiHead(x W^Q, K, V)), then LN(x + FFN(x)), of each row by itself.

    Where no key is valid the heads are zero, so that the output's bias alone is added.

    Args:
        x: (Q, W).
        keys, values: projected, (L, W) each.
        mask: valid keys, (L,) booleans.
        heads: of attention.
        block: its weights.
        activation: of the feed-forward part.
        pre: whether normalisation comes before each part instead of after its residual.

    Returns:
        (Q, W).
    """

    def attended(x: Array) -> Array:
        return multi_head(dense(x, *block.query), keys, values, mask, heads, block.output)

    def fed_forward(x: Array) -> Array:
        return mlp(x, block.feed_forward, activation, final_linear=True)

    x = np.asarray(x, np.float64)
    for part, norm in zip((attended, fed_forward), block.norms, strict=True):
        x = x + part(layer_norm(x, *norm)) if pre else layer_norm(x + part(x), *norm)
    return x
