"""Oracle of FinalMLP (Mao et al. 2023, arXiv:2304.00902).

Embeddings and kernels as in `interaction_deep`.
"""

from collections.abc import Sequence

import numpy as np

from .blocks import Activation, Array, Layer, mlp, mlp_parameters, sigmoid
from .interaction_deep import concatenate


def feature_gate(e: Array, context: Array, layers: Sequence[Layer]) -> Array:
    """Gated features of one stream, 2 sigmoid(g) * e with g = Gate(context).

    Choice: hidden layers of the gate are ReLU, its last layer is linear.

    Args:
        e: Concatenated embeddings, (B, I).
        context: Features that condition the gate, (B, C), or a learned vector, (C,).
        layers: In = C first, out = I last.
    """
    return 2.0 * sigmoid(mlp(context, layers, "relu", final_linear=True)) * e


def bilinear_fusion(
    o1: Array, o2: Array, bias: float, w1: Array, w2: Array, w3: Array | None
) -> Array:
    """Logits (B,) of b + w_1^T o_1 + w_2^T o_2 + sum_h o_1h^T W_3h o_2h (stream-level fusion).

    The multi-head form sums the bilinear fusion of every pair of chunks; the biases of the heads
    are one here, since only their sum counts.

    Args:
        o1, o2: Outputs of the streams, (B, d_1) and (B, d_2), cut into `heads` equal chunks.
        bias: b.
        w1, w2: (d_1,) and (d_2,).
        w3: (heads, d_1 / heads, d_2 / heads), or None for the sum of two streams.
    """
    logits = float(bias) + o1 @ w1 + o2 @ w2
    if w3 is not None:
        heads = len(w3)
        chunks = zip(np.split(o1, heads, axis=1), np.split(o2, heads, axis=1), w3, strict=True)
        for left, right, kernel in chunks:
            for a in range(kernel.shape[0]):
                for b in range(kernel.shape[1]):
                    logits = logits + left[:, a] * kernel[a, b] * right[:, b]
    return logits


def finalmlp_forward(
    x: Array,
    streams: tuple[Sequence[Layer], Sequence[Layer]],
    fusion: tuple[float, Array, Array, Array | None],
    gates: tuple[Sequence[Layer], Sequence[Layer]] | None = None,
    contexts: tuple[Array, Array] | None = None,
    activation: Activation = "relu",
    final_linear: bool = False,
) -> Array:
    """Logits (B,) of FinalMLP, two gated streams and their bilinear fusion.

    Choice: the paper does not say whether a stream ends in an activation; it does here, as in the
    authors' code, and `final_linear` is the alternative.

    Args:
        x: (B, F, D).
        streams: Layers of both streams, in = F D first.
        fusion: (bias, w1, w2, w3), as in `bilinear_fusion`.
        gates: Layers of both gates, or None for no gating (DualMLP, when w3 is None too).
        contexts: Inputs of both gates, as in `feature_gate`.
        activation: Of the streams' layers.
        final_linear: Whether the last layer of a stream has no activation.
    """
    e = concatenate(x)
    inputs = [e, e]
    if gates is not None:
        inputs = [feature_gate(e, c, g) for c, g in zip(contexts, gates, strict=True)]
    o1, o2 = (mlp(h, s, activation, final_linear) for h, s in zip(inputs, streams, strict=True))
    return bilinear_fusion(o1, o2, *fusion)


def finalmlp_parameters(
    inputs: int,
    streams: tuple[Sequence[int], Sequence[int]],
    heads: int,
    gates: tuple[Sequence[int], Sequence[int]] | None = None,
    learned: int = 0,
) -> int:
    """Weights beyond the embeddings: streams, gates and 1 + d_1 + d_2 + d_1 d_2 / heads.

    Args:
        inputs: I = F D.
        streams: Widths of both streams, the last ones d_1 and d_2.
        heads: Number of heads.
        gates: Width of the context and widths of the hidden layers of both gates, or None.
        learned: Width in all of the contexts that are learned vectors.

    Example:
        >>> finalmlp_parameters(4, ([6, 4], [2]), 2)
        79
        >>> finalmlp_parameters(4, ([6, 4], [2]), 2, gates=([3, 5], [3]), learned=3)
        142
    """
    d1, d2 = streams[0][-1], streams[1][-1]
    total = 1 + d1 + d2 + d1 * d2 // heads + learned
    for widths in streams:
        total += mlp_parameters([inputs, *widths])
    for widths in gates or ():
        total += mlp_parameters([*widths, inputs])
    return total
