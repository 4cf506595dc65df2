"""Oracle of DeepFM (Guo et al. 2017, arXiv:1703.04247)."""

from collections.abc import Sequence

import numpy as np

from .blocks import Activation, Array, Layer, mlp


def fm_second_order(embeddings: Array) -> float:
    """Pairwise interactions, the sum over i < j of <v_i, v_j> (equation 2, second term).

    Args:
        embeddings: Field vectors, each times its field's value, (F, D).

    Example:
        >>> fm_second_order([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        67.0
    """
    embeddings = np.asarray(embeddings, np.float64)
    total = 0.0
    for i in range(len(embeddings)):
        for j in range(i + 1, len(embeddings)):
            for a, b in zip(embeddings[i], embeddings[j], strict=True):
                total += a * b
    return float(total)


def fm(first_order: Sequence[float], embeddings: Array, bias: float) -> float:
    """Factorisation machine, bias + sum_i w_i + sum over i < j of <v_i, v_j> (equation 2).

    Args:
        first_order: w_i of every field, each times its field's value, (F,).
        embeddings: Field vectors, (F, D).
        bias: Global bias.
    """
    return float(bias) + sum(float(w) for w in first_order) + fm_second_order(embeddings)


def deepfm_forward(
    first_order: Sequence[float],
    embeddings: Array,
    bias: float,
    layers: Sequence[Layer],
    activation: Activation | Sequence[Activation] = "relu",
) -> float:
    """Logit of one candidate, y_FM + y_DNN over the same embeddings (equation 1).

    Args:
        first_order: As in `fm`.
        embeddings: Field vectors, (F, D); the deep part takes their concatenation, (F D,).
        bias: Global bias.
        layers: (kernel (in, out), bias (out,)) pairs: in = F D first, out = 1 and no activation
            last.
        activation: Activation of the hidden layers, or a list with one for each.
    """
    features = np.concatenate([np.asarray(v, np.float64) for v in embeddings])
    deep = mlp(features, layers, activation, final_linear=True).item()
    return fm(first_order, embeddings, bias) + deep
