"""Oracle of the querying transformer (Han et al. 2024, section 2.2.2).

What the paper leaves open, and what is taken here:

- A layer is cross-attention and a feed-forward part, as of `cross.cross_block`; queries do not
  attend to each other. The paper says neither how many layers there are nor more of their insides.
- Keys and values come from the encoder's output, each layer with projections of its own.
- "Mapped into multiple different queries" is one linear map from the concatenated vectors of user
  and context features to K W numbers, added to the free queries, which are its bias: without
  features, or where all are zero, the free queries are left.
- A user without behaviours has queries that meet nothing: the result follows from them alone.
"""

from collections.abc import Sequence

import numpy as np

from ..blocks import Activation, Array, Layer, dense
from ..transformer import gelu
from .cross import CrossBlock, cross_block


def initial_queries(
    free: Array, features: Sequence[Array] = (), kernel: Array | None = None
) -> Array:
    """Learnable queries, plus what user and context features make of them.

    Args:
        free: (K, W).
        features: vectors (D_i,); none for free queries.
        kernel: (sum D_i, K W), query by query; None without features.

    Returns:
        (K, W).

    Example:
        >>> initial_queries([[1.0], [2.0]], [np.array([3.0])], np.array([[1.0, 10.0]])).tolist()
        [[4.0], [32.0]]
    """
    queries = np.asarray(free, np.float64)
    if features:
        queries = queries + dense(np.concatenate(features), kernel, None).reshape(queries.shape)
    return queries


def querying_transformer(
    queries: Array,
    encoded: Array,
    mask: Array,
    heads: int,
    blocks: Sequence[tuple[Layer, CrossBlock]],
    activation: Activation = gelu,
    pre: bool = False,
) -> Array:
    """K queries over the encoder's output.

    Args:
        queries: (K, W).
        encoded: output of the pre-trained encoder, (L, W).
        mask: valid behaviours, (L,) booleans.
        heads: of attention.
        blocks: of each layer, (kernel (W, 2 W), bias) of W^K and W^V side by side, and the rest.
        activation, pre: As in `cross.cross_block`; a normalisation of the output is the caller's.

    Returns:
        (K, W), flattened for the head.
    """
    x = np.asarray(queries, np.float64)
    for projection, block in blocks:
        keys, values = np.split(dense(encoded, *projection), 2, axis=1)
        x = cross_block(x, keys, values, mask, heads, block, activation, pre)
    return x
