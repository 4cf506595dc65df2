"""Oracle of FiBiNET (Huang et al. 2019, arXiv:1905.09433).

Embeddings, pairs and kernels as in `interaction`.
"""

from collections.abc import Sequence

import numpy as np

from .blocks import Activation, Array, Layer, dense, mlp, mlp_parameters
from .interaction import linear_term, pair_list


def squeeze(x: Array, pooling: str = "mean") -> Array:
    """SENET's statistic of every field, (B, F) (SENET layer).

    Args:
        x: (B, F, D).
        pooling: "mean", the paper's choice, or "max", which it names as the alternative.

    Raises:
        ValueError: `pooling` is an unknown name.
    """
    if pooling == "mean":
        return np.mean(np.asarray(x, np.float64), axis=2)
    if pooling == "max":
        return np.max(np.asarray(x, np.float64), axis=2)
    raise ValueError(f"pooling must be mean or max; got {pooling!r}")


def senet(
    x: Array,
    reduce: Array,
    expand: Array,
    pooling: str = "mean",
    activation: Activation = "relu",
) -> Array:
    """Embeddings (B, F, D) times their importance a = relu(W_2 relu(W_1 z)) (SENET layer).

    The two layers have no biases. Choice: the paper leaves sigma_1 and sigma_2 open; both are
    ReLU, as in its public implementations, and sigmoid for sigma_2 is the alternative.

    Args:
        x: (B, F, D).
        reduce: W_1 transposed, (F, F / r).
        expand: W_2 transposed, (F / r, F).
        pooling: As in `squeeze`.
        activation: sigma_2.
    """
    hidden = dense(squeeze(x, pooling), reduce, None, "relu")
    return np.asarray(x, np.float64) * dense(hidden, expand, None, activation)[:, :, None]


def bilinear(x: Array, kernels: Array, kind: str, combine: str = "hadamard") -> Array:
    """Bilinear interaction of every pair, p_ij = (v_i W) * v_j with i < j.

    Args:
        x: (B, F, D).
        kernels: W, (D, D) for kind "all"; W_i of the left field, (F, D, D), for "each" (that of
            the last field is not read, so that (F - 1, D, D) serves too); W_ij, (P, D, D), for
            "interaction".
        kind: "all", "each" or "interaction".
        combine: "hadamard", the paper's, or "inner", which sums over D (FiBiNET++,
            arXiv:2209.05016).

    Returns:
        (B, P, D), with "inner" (B, P).

    Raises:
        ValueError: `kind` or `combine` is an unknown name.
    """
    x, kernels = np.asarray(x, np.float64), np.asarray(kernels, np.float64)
    products = []
    for pair, (i, j) in enumerate(pair_list(x.shape[1])):
        if kind == "all":
            kernel = kernels
        elif kind == "each":
            kernel = kernels[i]
        elif kind == "interaction":
            kernel = kernels[pair]
        else:
            raise ValueError(f"kind must be all, each or interaction; got {kind!r}")
        products.append(dense(x[:, i], kernel, None) * x[:, j])
    stacked = np.stack(products, axis=1)
    if combine == "hadamard":
        return stacked
    if combine == "inner":
        return stacked.sum(axis=2)
    raise ValueError(f"combine must be hadamard or inner; got {combine!r}")


def fibinet_forward(
    x: Array,
    first_order: Array,
    bias: float,
    reduce: Array,
    expand: Array,
    kernels: Array,
    senet_kernels: Array,
    kind: str,
    layers: Sequence[Layer],
    activation: Activation = "relu",
    pooling: str = "mean",
    combine: str = "hadamard",
) -> Array:
    """Logits (B,) of FiBiNET (section 3).

    w_0 + sum_i w_i x_i + y_d, with y_d the network over [p, q], the bilinear interactions of the
    embeddings and of the re-weighted embeddings. Choice: the paper does not say whether p and q
    share W; here each has its own, and passing one array twice shares it.

    Args:
        x: (B, F, D).
        first_order: (B, F).
        bias: w_0.
        reduce, expand, pooling: As in `senet`.
        kernels: W of p, as in `bilinear`.
        senet_kernels: W of q.
        kind, combine: As in `bilinear`.
        layers: In = 2 P D first (2 P with "inner"), out = 1 and no activation last. Empty for
            the shallow model, whose y_d is the sum of [p, q].
        activation: Of the hidden layers.
    """
    p = bilinear(x, kernels, kind, combine)
    q = bilinear(senet(x, reduce, expand, pooling), senet_kernels, kind, combine)
    batch = len(p)
    c = np.concatenate([p.reshape(batch, -1), q.reshape(batch, -1)], axis=1)
    deep = mlp(c, layers, activation, final_linear=True)[:, 0] if layers else c.sum(axis=1)
    return linear_term(first_order, bias, batch) + deep


def fibinet_parameters(
    fields: int,
    dim: int,
    ratio: int,
    kind: str,
    hidden: Sequence[int],
    shared: bool = False,
    combine: str = "hadamard",
) -> int:
    """Weights beyond embeddings and first-order terms: bias, SENET, bilinear and network.

    Args:
        fields: F.
        dim: D.
        ratio: r; the reduced width is F / r rounded down, at least 1.
        kind: As in `bilinear`; "each" counts F kernels, as the paper does.
        hidden: Widths of the hidden layers; empty for the shallow model.
        shared: Whether p and q share W.
        combine: As in `bilinear`.

    Example:
        >>> fibinet_parameters(4, 2, 2, "all", [5]), fibinet_parameters(4, 2, 2, "each", [])
        (156, 49)
    """
    reduced = max(1, fields // ratio)
    pairs = len(pair_list(fields))
    kernels = {"all": 1, "each": fields, "interaction": pairs}[kind] * (1 if shared else 2)
    width = 2 * pairs * (dim if combine == "hadamard" else 1)
    network = mlp_parameters([width, *hidden, 1]) if hidden else 0
    return 1 + 2 * fields * reduced + kernels * dim * dim + network
