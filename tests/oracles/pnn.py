"""Oracle of PNN (Qu et al. 2016, arXiv:1611.00144) and of its products of 2018.

Qu et al. 2018 (arXiv:1807.00311) add the kernel product and the micro network. `x` are the field
embeddings, (B, F, D); pairs and kernels as in `interaction`.
"""

from collections.abc import Sequence

import numpy as np

from .blocks import Activation, Array, Layer, activate, dense, mlp, mlp_parameters
from .interaction import pair_list


def inner_products(x: Array, pairs: str = "all") -> Array:
    """Product signals of IPNN, p_ij = <f_i, f_j> (2016, section III-B).

    Args:
        x: (B, F, D).
        pairs: "all", (i, j) of 1..F x 1..F in row-major order, as the sums of 2016 run, with the
            diagonal; "upper", i < j, as in 2018 and most libraries.

    Returns:
        (B, F F) or (B, P).

    Raises:
        ValueError: `pairs` is an unknown name.
    """
    x = np.asarray(x, np.float64)
    fields = x.shape[1]
    if pairs == "all":
        chosen = [(i, j) for i in range(fields) for j in range(fields)]
    elif pairs == "upper":
        chosen = pair_list(fields)
    else:
        raise ValueError(f"pairs must be all or upper; got {pairs!r}")
    return np.stack([np.sum(x[:, i] * x[:, j], axis=1) for i, j in chosen], axis=1)


def inner_factorised(x: Array, theta: Array) -> Array:
    """l_p of IPNN with W_p^n = theta^n theta^n^T (2016, section III-B).

    l_p^n = sum_ij theta_i^n theta_j^n <f_i, f_j> = ||sum_i theta_i^n f_i||^2. The paper's last
    step writes the norm without its square; the sum is what is computed here.

    Args:
        x: (B, F, D).
        theta: (F, H) for the H units of the first hidden layer.

    Returns:
        (B, H), in place of `inner_products` @ kernel.
    """
    x, theta = np.asarray(x, np.float64), np.asarray(theta, np.float64)
    signals = np.zeros((len(x), theta.shape[1]))
    for i in range(x.shape[1]):
        for j in range(x.shape[1]):
            signals += np.sum(x[:, i] * x[:, j], axis=1)[:, None] * theta[i] * theta[j]
    return signals


def outer_products(x: Array) -> Array:
    """Product signals of OPNN by superposition, p = sum_ij f_i f_j^T (2016, section III-C).

    The sum runs over all (i, j), with the diagonal, so that p = f_S f_S^T with f_S = sum_i f_i.

    Args:
        x: (B, F, D).

    Returns:
        (B, D D), row-major.
    """
    x = np.asarray(x, np.float64)
    batch, fields, dim = x.shape
    pooled = np.zeros((batch, dim, dim))
    for i in range(fields):
        for j in range(fields):
            pooled += x[:, i, :, None] * x[:, j, None, :]
    return pooled.reshape(batch, dim * dim)


def kernel_products(x: Array, kernels: Array) -> Array:
    """Product signals of KPNN, p_ij = v_i^T phi_ij v_j with i < j (2018, arXiv:1807.00311).

    Args:
        x: (B, F, D).
        kernels: phi, (P, D, D) full, (P, D) diagonal or (P,) multiples of the identity.

    Returns:
        (B, P).

    Raises:
        ValueError: `kernels` has neither 1, 2 nor 3 axes.
    """
    x, kernels = np.asarray(x, np.float64), np.asarray(kernels, np.float64)
    if kernels.ndim not in (1, 2, 3):
        raise ValueError(f"kernels must have 1, 2 or 3 axes; got {kernels.ndim}")
    signals = []
    for (i, j), kernel in zip(pair_list(x.shape[1]), kernels, strict=True):
        left = x[:, i] @ kernel if kernels.ndim == 3 else x[:, i] * kernel
        signals.append(np.sum(left * x[:, j], axis=1))
    return np.stack(signals, axis=1)


def micro_network_products(
    x: Array, networks: Sequence[Sequence[Layer]], activation: Activation = "relu"
) -> Array:
    """Product signals of PIN, a network over [v_i, v_j, v_i * v_j] for every i < j (2018).

    Choice: every layer is activated, and without the layer normalisation of its experiments.

    Args:
        x: (B, F, D).
        networks: For every pair (kernel (in, out), bias (out,)) pairs, in = 3 D first.
        activation: Of every layer.

    Returns:
        (B, P H) with H the last width, pair by pair.
    """
    x = np.asarray(x, np.float64)
    signals = []
    for (i, j), layers in zip(pair_list(x.shape[1]), networks, strict=True):
        inputs = np.concatenate([x[:, i], x[:, j], x[:, i] * x[:, j]], axis=1)
        signals.append(mlp(inputs, layers, activation, final_linear=False))
    return np.concatenate(signals, axis=1)


def pnn_forward(
    x: Array,
    products: Sequence[Array],
    linear_kernel: Array,
    product_kernels: Sequence[Array],
    bias: Array,
    layers: Sequence[Layer],
    activation: Activation = "relu",
) -> Array:
    """Logits (B,) of PNN (2016, equations 1 to 3), l_1 = relu(l_z + l_p + b_1).

    l_z = W_z z with z the concatenated embeddings, l_p = W_p p. It is a network over [z, p].

    Args:
        x: (B, F, D).
        products: Product signals, (B, S) each: inner, outer or both (PNN*), whose l_p add up.
        linear_kernel: W_z, (F D, H).
        product_kernels: W_p of every array of `products`, (S, H).
        bias: b_1, (H,).
        layers: The layers above l_1, out = 1 and no activation last.
        activation: Of l_1 and of the hidden layers.
    """
    x = np.asarray(x, np.float64)
    signal = dense(x.reshape(len(x), -1), linear_kernel, bias)
    for product, kernel in zip(products, product_kernels, strict=True):
        signal = signal + dense(product, kernel, None)
    return mlp(activate(signal, activation), layers, activation, final_linear=True)[:, 0]


def product_sizes(fields: int, dim: int) -> dict[str, int]:
    """Number of product signals of every kind but the micro network.

    Example:
        >>> product_sizes(4, 3)
        {'inner_all': 16, 'inner_upper': 6, 'outer': 9, 'kernel': 6}
    """
    pairs = len(pair_list(fields))
    return {
        "inner_all": fields * fields,
        "inner_upper": pairs,
        "outer": dim * dim,
        "kernel": pairs,
    }


def pnn_parameters(fields: int, dim: int, signals: int, hidden: Sequence[int]) -> int:
    """Weights beyond the embeddings: (F D + S + 1) H_1 and the layers above.

    Args:
        fields: F.
        dim: D.
        signals: S, the product signals in all (`product_sizes`).
        hidden: Widths of the hidden layers, l_1 first.

    Example:
        >>> pnn_parameters(4, 3, 16, [5, 2])
        160
    """
    return mlp_parameters([fields * dim + signals, *hidden, 1])


def kernel_parameters(fields: int, dim: int, kind: str) -> int:
    """Weights of `kernel_products`, P D D for "full", P D for "diagonal", P for "scalar".

    Example:
        >>> [kernel_parameters(4, 3, kind) for kind in ("full", "diagonal", "scalar")]
        [54, 18, 6]
    """
    return len(pair_list(fields)) * {"full": dim * dim, "diagonal": dim, "scalar": 1}[kind]
