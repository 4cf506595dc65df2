"""Oracle of the transformer encoder (Vaswani et al. 2017, arXiv:1706.03762), one row at a time."""

import math
from collections.abc import Sequence

import numpy as np

from .blocks import Activation, Array, Layer, dense, softmax_masked


def attention(queries: Array, keys: Array, values: Array, mask: Array) -> Array:
    """softmax(Q K^T / sqrt(d)) V (equation 1) over the valid keys.

    Args:
        queries: (Q, d).
        keys: (K, d).
        values: (K, v).
        mask: valid keys, (K,) booleans.

    Returns:
        (Q, v); zeros without a valid key.
    """
    rows = np.zeros((len(queries), values.shape[1]))
    for i, query in enumerate(queries):
        weights = softmax_masked(keys @ query / np.sqrt(len(query)), mask)
        for j in np.flatnonzero(mask):
            rows[i] += weights[j] * values[j]
    return rows


def multi_head(
    queries: Array, keys: Array, values: Array, mask: Array, heads: int, output: Layer
) -> Array:
    """concat(head_1, ..., head_H) W^O (section 3.2.2) of projected queries, keys and values.

    Args:
        queries, keys, values: (Q, W), (K, W), (K, W).
        mask: valid keys, (K,) booleans.
        heads: H.
        output: (kernel, bias) of W^O.
    """
    parts = [np.split(np.asarray(x, np.float64), heads, axis=1) for x in (queries, keys, values)]
    found = [attention(q, k, v, mask) for q, k, v in zip(*parts, strict=True)]
    return dense(np.concatenate(found, axis=1), *output)


def layer_norm(x: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta over the last axis.

    Example:
        >>> layer_norm([[1.0, 3.0]], 1.0, 0.0, 0.0).tolist()
        [[-1.0, 1.0]]
    """
    x = np.asarray(x, np.float64)
    centred = x - x.mean(axis=-1, keepdims=True)
    return gamma * centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon) + beta


def gelu(x: Array) -> Array:
    """x Phi(x) (Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2), not its tanh form.

    Example:
        >>> gelu([1.0, -1.0]).round(8).tolist()
        [0.84134475, -0.15865525]
    """
    x = np.asarray(x, np.float64)
    return 0.5 * x * (1.0 + np.vectorize(math.erf, otypes=[float])(x / np.sqrt(2.0)))


def encoder_block(
    x: Array,
    mask: Array,
    heads: int,
    projection: Layer,
    output: Layer,
    feed_forward: Sequence[Layer],
    norms: Sequence[tuple[Array, Array, float]],
    activation: Activation,
    pre: bool,
) -> Array:
    """One block (section 3.1) over one sequence.

    Args:
        x: (L, W).
        mask: valid positions, (L,) booleans.
        heads: of attention.
        projection: (kernel (W, 3 W), bias) of queries, keys and values side by side.
        output: (kernel, bias) after the heads.
        feed_forward: (kernel, bias) of both layers.
        norms: (gamma, beta, epsilon) of both normalisations.
        activation: of the feed-forward part.
        pre: whether normalisation comes before each part instead of after its residual.
    """

    def attended(x: Array) -> Array:
        queries, keys, values = np.split(dense(x, *projection), 3, axis=1)
        return multi_head(queries, keys, values, mask, heads, output)

    def fed_forward(x: Array) -> Array:
        return dense(dense(x, *feed_forward[0], activation), *feed_forward[1])

    x = np.asarray(x, np.float64)
    for part, norm in zip((attended, fed_forward), norms, strict=True):
        x = x + part(layer_norm(x, *norm)) if pre else layer_norm(x + part(x), *norm)
    return x
