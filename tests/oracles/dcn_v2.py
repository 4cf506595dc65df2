"""Oracle of DCN-v2 (Wang et al. 2021, arXiv:2008.13535).

The paper multiplies column vectors from the left. Kernels here are (in, out), y = x @ kernel, so
that `kernel` is W transposed, `down` is V, `up` is U transposed and `middle` is C transposed.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .blocks import Activation, Array, Layer, activate, dense, mlp, sigmoid, softmax_masked

Expert = tuple[Array, Array | None, Array]


def cross_full(x0: Array, x: Array, kernel: Array, bias: Array) -> Array:
    """Cross layer, x0 * (W x + b) + x (equation 1).

    Args:
        x0: Input of the first layer, (D,).
        x: Input of this layer, (D,).
        kernel: (D, D).
        bias: (D,).
    """
    return x0 * dense(x, kernel, bias) + x


def cross_low_rank(x0: Array, x: Array, down: Array, up: Array, bias: Array) -> Array:
    """Low-rank cross layer, x0 * (U (V^T x) + b) + x (equation 2).

    Args:
        x0: Input of the first layer, (D,).
        x: Input of this layer, (D,).
        down: V, (D, R).
        up: U transposed, (R, D).
        bias: (D,).
    """
    return x0 * dense(dense(x, down, None), up, bias) + x


def cross_mixture(
    x0: Array,
    x: Array,
    experts: Sequence[Expert],
    gates: Array,
    bias: Array,
    activation: Activation = "tanh",
    gate: str = "softmax",
) -> Array:
    """Mixture of low-rank experts, sum_i G_i(x) E_i(x) + x (equations 3 and 4).

    E_i(x) = x0 * (U_i g(C_i g(V_i^T x)) + b); without nonlinearity it is equation 3,
    x0 * (U_i (V_i^T x) + b).

    Args:
        x0: Input of the first layer, (D,).
        x: Input of this layer, (D,).
        experts: (down (D, R), middle (R, R) or None for no C_i, up (R, D)) per expert.
        gates: Kernel of the gate's logits, (D, number of experts), no bias.
        bias: (D,), shared by the layer's experts.
        activation: g; "linear" or None for equation 3.
        gate: "softmax" over experts or "sigmoid" for each.

    Raises:
        ValueError: `gate` is an unknown name.
    """
    logits = dense(x, gates, None)
    if gate == "softmax":
        shares = softmax_masked(logits, [True] * len(experts))
    elif gate == "sigmoid":
        shares = sigmoid(logits)
    else:
        raise ValueError(f"gate must be softmax or sigmoid; got {gate!r}")
    output = np.array(x, np.float64)
    for share, (down, middle, up) in zip(shares, experts, strict=True):
        hidden = activate(dense(x, down, None), activation)
        if middle is not None:
            hidden = activate(dense(hidden, middle, None), activation)
        output += share * (x0 * dense(hidden, up, bias))
    return output


def cross_network(x0: Array, layers: Sequence[tuple], cross: Callable[..., Array]) -> Array:
    """Chain of cross layers that starts from x0.

    Args:
        x0: Concatenated features, (D,).
        layers: For each layer what `cross` takes after (x0, x), in its order.
        cross: `cross_full`, `cross_low_rank` or `cross_mixture`.
    """
    x0 = np.asarray(x0, np.float64)
    x = x0
    for parameters in layers:
        x = cross(x0, x, *parameters)
    return x


def dcn_v2_forward(
    x0: Array,
    cross_layers: Sequence[tuple],
    deep_layers: Sequence[Layer],
    head: Layer,
    structure: str,
    cross: Callable[..., Array] = cross_full,
    activation: Activation | Sequence[Activation] = "relu",
) -> float:
    """Logit of one candidate (Figure 1).

    Args:
        x0: Concatenated user, context and candidate features, (D,).
        cross_layers: As in `cross_network`.
        deep_layers: (kernel (in, out), bias (out,)) pairs, every one activated; in = D first.
        head: (kernel, bias (1,)); the kernel is (H, 1) for "stacked", with H the last deep width
            (D without deep layers), and (D + H, 1), cross output first, for "parallel".
        structure: "stacked" feeds the cross output to the deep layers, "parallel" joins both.
        cross: Which cross layer.
        activation: Activation of the deep layers, or a list with one for each.

    Raises:
        ValueError: `structure` is an unknown name.
    """
    crossed = cross_network(x0, cross_layers, cross)
    if structure == "stacked":
        final = mlp(crossed, deep_layers, activation, final_linear=False)
    elif structure == "parallel":
        deep = mlp(np.asarray(x0, np.float64), deep_layers, activation, final_linear=False)
        final = np.concatenate([crossed, deep])
    else:
        raise ValueError(f"structure must be stacked or parallel; got {structure!r}")
    return dense(final, *head).item()
