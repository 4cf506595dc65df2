"""Oracle of transfer by a model patch, MP (PeterRec, Yuan et al. 2020, arXiv:2001.04253).

PeterRec freezes a pre-trained convolutional network and trains patches in it: a bottleneck of two
pointwise layers with a shortcut around it. In its serial form a patch follows each convolution,
before the normalisation. SRP4CTR does not say where one goes in a transformer. Taken here: behind
each of both parts, before the residual is added, where the normalisation follows:

    x = LN(x + MP_1(MultiHead(x))), then LN(x + MP_2(FFN(x))).

With W_up and b_up zero a patch is the identity and the network the pre-trained one, bit by bit; the
first gradient then reaches W_up and b_up alone. The released code starts from a normal distribution
of deviation 0.02, has 32 bottlenecks side by side and, in its parallel form, a second shortcut, so
that zero weights would not give back the network.
"""

from collections.abc import Sequence

import numpy as np

from ..blocks import Activation, Array, Layer, dense, mlp
from ..bst import Block
from ..transformer import gelu, layer_norm, multi_head


def model_patch(x: Array, down: Layer, up: Layer, activation: Activation = gelu) -> Array:
    """x + act(x W_down + b_down) W_up + b_up.

    Args:
        x: (..., W).
        down, up: (kernel (W, d), bias (d,)) and (kernel (d, W), bias (W,)).
        activation: GELU as in the released code.

    Example:
        >>> down = np.array([[1.0, -1.0]]), np.zeros(2)
        >>> model_patch([3.0], down, (np.array([[2.0], [5.0]]), np.ones(1)), "relu").tolist()
        [10.0]
    """
    return np.asarray(x, np.float64) + dense(dense(x, *down, activation), *up)


def patched_block(
    x: Array,
    mask: Array,
    heads: int,
    block: Block,
    patches: Sequence[tuple[Layer, Layer] | None],
    activation: Activation = gelu,
) -> Array:
    """One pre-trained layer with a patch behind each part, normalisation after each residual.

    Args:
        x: (L, W).
        mask: valid positions, (L,) booleans.
        heads: of attention.
        block: frozen weights.
        patches: (down, up) behind attention and behind the feed-forward part; None for none.
        activation: of the feed-forward part and of the patches.

    Returns:
        (L, W).
    """

    def attended(x: Array) -> Array:
        queries, keys, values = np.split(dense(x, *block.projection), 3, axis=1)
        return multi_head(queries, keys, values, mask, heads, block.output)

    def fed_forward(x: Array) -> Array:
        return mlp(x, block.feed_forward, activation, final_linear=True)

    x = np.asarray(x, np.float64)
    for part, patch, norm in zip((attended, fed_forward), patches, block.norms, strict=True):
        found = part(x)
        if patch is not None:
            found = model_patch(found, *patch, activation)
        x = layer_norm(x + found, *norm)
    return x
