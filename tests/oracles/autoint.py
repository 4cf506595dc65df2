"""Oracle of AutoInt (Song et al. 2019, arXiv:1810.11921).

Embeddings and kernels as in `interaction_deep`.
"""

from collections.abc import Sequence

import numpy as np

from .blocks import Activation, Array, Layer, activate, dense, softmax_masked
from .interaction_deep import concatenate, flat_dnn_forward


def interacting_layer(
    x: Array,
    query: Array,
    key: Array,
    value: Array,
    residual: Array | None,
    scaled: bool = False,
    projection: Activation = None,
) -> Array:
    """Interacting layer of AutoInt (equations 5 to 8).

    relu(concat over heads of softmax(<W_Q e_m, W_K e_k>) W_V e_k + W_R e_m). Choices: the
    equations have neither scaling nor activated projections; the authors' code scales the scores
    by 1 / sqrt(d'), activates all four projections with ReLU and normalises the output (the last
    is left out here).

    Args:
        x: (B, F, D).
        query, key, value: (heads, D, d').
        residual: W_R transposed, (D, heads d'), or None for no residual connection.
        scaled: Whether scores are divided by sqrt(d').
        projection: Activation of the projections.

    Returns:
        (B, F, heads d').
    """
    x = np.asarray(x, np.float64)
    batch, fields, _ = x.shape
    heads, _, width = query.shape
    output = np.zeros((batch, fields, heads * width))
    for head in range(heads):
        q, k, v = (dense(x, kernel[head], None, projection) for kernel in (query, key, value))
        columns = slice(head * width, (head + 1) * width)
        for b in range(batch):
            for m in range(fields):
                scores = np.array([np.dot(q[b, m], k[b, n]) for n in range(fields)])
                if scaled:
                    scores = scores / np.sqrt(width)
                shares = softmax_masked(scores, [True] * fields)
                for n in range(fields):
                    output[b, m, columns] += shares[n] * v[b, n]
    if residual is not None:
        output += dense(x, residual, None, projection)
    return activate(output, "relu")


def autoint_forward(
    x: Array,
    layers: Sequence[tuple[Array, Array, Array, Array | None]],
    head: Layer,
    deep_layers: Sequence[Layer] = (),
    scaled: bool = False,
    projection: Activation = None,
    activation: Activation = "relu",
) -> Array:
    """Logits (B,) of AutoInt, w^T concat_m e_m + b (equation 9).

    Args:
        x: (B, F, D).
        layers: (query, key, value, residual) of every layer.
        head: (w (F heads d', 1), b (1,)).
        deep_layers: As in `flat_dnn_forward`, whose logit is added (AutoInt+); empty for AutoInt.
        scaled, projection: As in `interacting_layer`.
        activation: Of the deep network's hidden layers.
    """
    hidden = np.asarray(x, np.float64)
    for query, key, value, residual in layers:
        hidden = interacting_layer(hidden, query, key, value, residual, scaled, projection)
    logits = dense(concatenate(hidden), *head)[:, 0]
    if deep_layers:
        logits = logits + flat_dnn_forward(x, deep_layers, activation)
    return logits


def autoint_parameters(
    fields: int, dim: int, heads: Sequence[int], widths: Sequence[int], residual: bool = True
) -> int:
    """4 D_l heads d' of every layer (3 without residual) and F heads d' + 1 of the head.

    Args:
        fields: F.
        dim: D, the first layer's D_l; later layers take heads d' of the layer below.
        heads: Of every layer.
        widths: d' of every layer.
        residual: Whether layers have W_R.

    Example:
        >>> autoint_parameters(3, 4, [2, 2], [5, 5])
        591
    """
    total, inputs = 0, dim
    for number, width in zip(heads, widths, strict=True):
        total += (4 if residual else 3) * inputs * number * width
        inputs = number * width
    return total + fields * inputs + 1
