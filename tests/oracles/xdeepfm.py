"""Oracle of xDeepFM (Lian et al. 2018, arXiv:1803.05170).

Embeddings, first-order terms and kernels as in `interaction_deep`.
"""

from collections.abc import Sequence

import numpy as np

from .blocks import Activation, Array, Layer, activate
from .interaction import linear_term
from .interaction_deep import flat_dnn_forward


def cin(
    x: Array,
    layers: Sequence[tuple[Array, Array | None]],
    activation: Activation = None,
    split_half: bool = False,
) -> Array:
    """Compressed interaction network (equation 6).

    x^k_h = sum_ij W^{k,h}_ij (x^{k-1}_i * x^0_j), then sums over D of all layers' rows. Choices:
    equation 6 has no bias and no activation, the defaults; the authors' code has a bias, an
    activation and the split.

    Args:
        x: x^0, (B, F, D).
        layers: (W^k (rows of x^{k-1}, F, H_k), bias (H_k,) or None) per layer.
        activation: Of every layer's rows.
        split_half: Of every layer but the last, the first half of the rows goes to the next layer
            alone and the second half to the pooling alone.

    Returns:
        p^+, (B, S): S = sum of H_k; with `split_half` every H_k but the last counts half.

    Raises:
        ValueError: `split_half` with an odd number of rows.
    """
    x0 = np.asarray(x, np.float64)
    previous, pooled = x0, []
    for number, (weights, bias) in enumerate(layers, start=1):
        rows = np.zeros((len(x0), weights.shape[2], x0.shape[2]))
        for h in range(weights.shape[2]):
            for i in range(previous.shape[1]):
                for j in range(x0.shape[1]):
                    rows[:, h] += weights[i, j, h] * previous[:, i] * x0[:, j]
            if bias is not None:
                rows[:, h] += bias[h]
        rows = activate(rows, activation)
        direct = previous = rows
        if split_half and number < len(layers):
            if rows.shape[1] % 2:
                raise ValueError(f"split_half must split an even width; got {rows.shape[1]}")
            previous, direct = np.split(rows, 2, axis=1)
        pooled.append(direct.sum(axis=2))
    return np.concatenate(pooled, axis=1)


def xdeepfm_forward(
    x: Array,
    first_order: Array,
    bias: float,
    cin_layers: Sequence[tuple[Array, Array | None]],
    cin_kernel: Array,
    layers: Sequence[Layer],
    activation: Activation = "relu",
    cin_activation: Activation = None,
    split_half: bool = False,
) -> Array:
    """Logits (B,) of xDeepFM, linear + deep + CIN + b (section 3.2).

    Args:
        x: (B, F, D).
        first_order: (B, F).
        bias: b.
        cin_layers, split_half: As in `cin`.
        cin_kernel: w_cin, (S,).
        layers: As in `flat_dnn_forward`; the paper's one bias is b or the last layer's.
        activation: Of the hidden layers.
        cin_activation: As in `cin`.
    """
    explicit = cin(x, cin_layers, cin_activation, split_half) @ cin_kernel
    linear = linear_term(first_order, bias, len(x))
    return linear + flat_dnn_forward(x, layers, activation) + explicit


def cin_parameters(
    fields: int, widths: Sequence[int], split_half: bool = False, bias: bool = False
) -> int:
    """Sum of H_k (1 + H_{k-1} F), the 1 for w_cin (section 3.1).

    Args:
        fields: F = H_0.
        widths: H_k.
        split_half: As in `cin`: halves H_{k-1} and w_cin of all layers but the last.
        bias: Whether rows have biases.

    Example:
        >>> cin_parameters(3, [4, 2]), cin_parameters(3, [4, 2], split_half=True)
        (66, 52)
    """
    total, previous = 0, fields
    for number, width in enumerate(widths, start=1):
        passed = width // 2 if split_half and number < len(widths) else width
        total += width * (previous * fields + bias) + passed
        previous = passed
    return total
