"""Oracles of FlatDNN, Wide & Deep and DCN.

`x` are the field embeddings (B, F, D), `values` numeric features (B, M) where a paper has them,
`first_order` the products w_i x_i (B, F). Kernels are (in, out), y = x @ kernel, which is the
papers' W transposed.
"""

from collections.abc import Sequence

import numpy as np

from .blocks import Activation, Array, Layer, mlp, mlp_parameters
from .dcn_v2 import dcn_v2_forward
from .interaction import linear_term


def concatenate(x: Array, values: Array | None = None) -> Array:
    """Input of a deep network, the embeddings field by field and then the numeric features.

    Args:
        x: (B, F, D).
        values: (B, M) or None.

    Returns:
        (B, F D + M).
    """
    x = np.asarray(x, np.float64)
    parts = [x[:, field] for field in range(x.shape[1])]
    if values is not None:
        parts.append(np.asarray(values, np.float64))
    return np.concatenate(parts, axis=1)


def flat_dnn_forward(
    x: Array,
    layers: Sequence[Layer],
    activation: Activation = "relu",
    values: Array | None = None,
) -> Array:
    """Logits (B,) of a network over the concatenated embeddings alone.

    FlatDNN of Tencent Ads' models; the deep part of Cheng et al. 2016, equation 2.

    Args:
        x: (B, F, D).
        layers: In = F D + M first, out = 1 and no activation last.
        activation: Of the hidden layers.
        values: (B, M) or None.
    """
    return mlp(concatenate(x, values), layers, activation, final_linear=True)[:, 0]


def flat_dnn_parameters(fields: int, dim: int, hidden: Sequence[int], values: int = 0) -> int:
    """Weights beyond the embeddings.

    Example:
        >>> flat_dnn_parameters(3, 2, [4], values=1)
        37
    """
    return mlp_parameters([fields * dim + values, *hidden, 1])


def cross_products(values: Array, uses: Array) -> Array:
    """Cross-product features, phi_k(x) = prod_i x_i^c_ki (Cheng et al. 2016, equation 1).

    Args:
        values: Binary features, (B, M).
        uses: c, 1 where feature i is part of cross k and 0 elsewhere, (K, M).

    Returns:
        (B, K).

    Example:
        >>> cross_products(np.array([[1, 1, 0]]), np.array([[1, 1, 0], [1, 0, 1]])).tolist()
        [[1.0, 0.0]]
    """
    values = np.asarray(values, np.float64)
    crosses = np.ones((len(values), len(uses)))
    for k, use in enumerate(uses):
        for i in np.flatnonzero(use):
            crosses[:, k] *= values[:, i]
    return crosses


def wide_deep_forward(
    x: Array,
    first_order: Array,
    bias: float,
    layers: Sequence[Layer],
    activation: Activation = "relu",
    values: Array | None = None,
) -> Array:
    """Logits (B,) of Wide & Deep (Cheng et al. 2016, arXiv:1606.07792, equation 3).

    w_wide^T [x, phi(x)] + w_deep^T a + b. The equation has one bias: that of the last deep layer
    is zero there, or b is.

    Args:
        x: (B, F, D).
        first_order: Weighted wide features, crosses among them, (B, W).
        bias: b.
        layers: As in `flat_dnn_forward`.
        activation: Of the hidden layers.
        values: (B, M) or None.
    """
    wide = linear_term(first_order, bias, len(x))
    return wide + flat_dnn_forward(x, layers, activation, values)


def cross_vector(x0: Array, x: Array, kernel: Array, bias: Array) -> Array:
    """Cross layer of DCN, x_0 x_l^T w + b + x_l (Wang et al. 2017, equation 3).

    Args:
        x0: Input of the first layer, (D,).
        x: Input of this layer, (D,).
        kernel: w, (D,).
        bias: b, (D,).
    """
    return x0 * sum(a * w for a, w in zip(x, kernel, strict=True)) + bias + x


def dcn_forward(
    x: Array,
    cross_layers: Sequence[tuple[Array, Array]],
    deep_layers: Sequence[Layer],
    head: tuple[Array, Array | None],
    activation: Activation = "relu",
    values: Array | None = None,
) -> Array:
    """Logits (B,) of DCN (Wang et al. 2017, arXiv:1708.05123, equations 2 to 5), parallel.

    Choice: equation 5 has no bias, the head's may be None; most libraries add one.

    Args:
        x: (B, F, D).
        cross_layers: (w (F D + M,), b (F D + M,)) per layer.
        deep_layers: All activated.
        head: (kernel (F D + M + H, 1), cross output first, bias (1,) or None).
        activation: Of the deep layers.
        values: (B, M) or None.
    """
    return np.array(
        [
            dcn_v2_forward(
                x0, cross_layers, deep_layers, head, "parallel", cross_vector, activation
            )
            for x0 in concatenate(x, values)
        ]
    )


def dcn_parameters(inputs: int, cross_layers: int, hidden: Sequence[int], bias: bool = True) -> int:
    """2 d L of the cross network, the deep layers and the head (sections 2.2 and 2.3).

    Args:
        inputs: d = F D + M.
        cross_layers: L.
        hidden: Widths of the deep layers, at least one.
        bias: Whether the head has a bias.

    Example:
        >>> dcn_parameters(4, 3, [5])
        59
    """
    head = inputs + hidden[-1] + bias
    return 2 * inputs * cross_layers + mlp_parameters([inputs, *hidden]) + head
