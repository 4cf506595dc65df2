"""Oracle of the Deep Interest Network (Zhou et al. 2018, arXiv:1706.06978)."""

from collections.abc import Sequence

import numpy as np

from .blocks import Activation, Array, Layer, mlp, softmax_masked


def activation_unit_inputs(query: Array, keys: Array) -> Array:
    """Inputs of the activation unit, concat[q, k, q - k, q * k] for every key.

    Args:
        query: Candidate vector q, (D,).
        keys: Behaviour vectors k, (L, D).

    Returns:
        Inputs, (L, 4 D).
    """
    query, keys = np.asarray(query, np.float64), np.asarray(keys, np.float64)
    rows = np.zeros((len(keys), 4 * len(query)))
    for j, key in enumerate(keys):
        rows[j] = np.concatenate([query, key, query - key, query * key])
    return rows


def activation_unit(
    query: Array,
    keys: Array,
    layers: Sequence[Layer],
    activation: Activation | Sequence[Activation],
) -> Array:
    """Activation weight a(k, q) of every key (Figure 2, right).

    Args:
        query: Candidate vector, (D,).
        keys: Behaviour vectors, (L, D).
        layers: (kernel (in, out), bias (out,)) pairs: in = 4 D first, then the hidden widths; the
            last one has out = 1 and no activation.
        activation: Activation of the hidden layers, or a list with one for each.

    Returns:
        Raw weights, (L,), padding included.
    """
    inputs = activation_unit_inputs(query, keys)
    return np.array([mlp(row, layers, activation, final_linear=True).item() for row in inputs])


def attention_pooling(
    query: Array,
    keys: Array,
    mask: Array,
    layers: Sequence[Layer],
    activation: Activation | Sequence[Activation],
    normalise: bool = False,
) -> Array:
    """User interest towards a candidate, sum_j a(k_j, q) k_j over valid positions (equation 3).

    Args:
        query: Candidate vector, (D,).
        keys: Behaviour vectors, (L, D).
        mask: Valid positions, (L,) booleans.
        layers: As in `activation_unit`.
        activation: As in `activation_unit`.
        normalise: False keeps the raw weights (the paper, which abandons the softmax); True takes
            their softmax over valid positions.

    Returns:
        Pooled vector, (D,); zero for an all-padding row.
    """
    keys = np.asarray(keys, np.float64)
    weights = activation_unit(query, keys, layers, activation)
    if normalise:
        weights = softmax_masked(weights, mask)
    pooled = np.zeros(keys.shape[-1])
    for j in range(len(keys)):
        if mask[j]:
            pooled += weights[j] * keys[j]
    return pooled


def din_forward(
    user: Sequence[Array],
    query: Array,
    keys: Array,
    mask: Array,
    context: Sequence[Array],
    candidate: Sequence[Array],
    attention_layers: Sequence[Layer],
    attention_activation: Activation | Sequence[Activation],
    mlp_layers: Sequence[Layer],
    mlp_activation: Activation | Sequence[Activation],
    normalise: bool = False,
) -> float:
    """Logit of one candidate: mlp(concat[user, pooled history, context, candidate]).

    Args:
        user: Vectors of the user fields, each (D_i,); may be empty.
        query: What the candidate attends with, (D,).
        keys: Behaviour vectors, (L, D).
        mask: Valid behaviours, (L,) booleans.
        context: Vectors of the context fields, each (D_i,); may be empty.
        candidate: Vectors of the candidate fields, each (D_i,).
        attention_layers: As in `activation_unit`.
        attention_activation: As in `activation_unit`.
        mlp_layers: (kernel (in, out), bias (out,)) pairs; the first kernel's rows follow the order
            of the concatenation, the last one has out = 1 and no activation.
        mlp_activation: Activation of the hidden layers, or a list with one for each.
        normalise: As in `attention_pooling`.
    """
    pooled = attention_pooling(query, keys, mask, attention_layers, attention_activation, normalise)
    features = np.concatenate([*user, pooled, *context, *candidate])
    return mlp(features, mlp_layers, mlp_activation, final_linear=True).item()
