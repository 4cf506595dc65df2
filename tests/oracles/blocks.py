"""Elementary blocks shared by the oracles: dense layers, normalisation, activations, AUC."""

from collections.abc import Callable, Sequence

import numpy as np

Array = np.ndarray
Activation = str | Callable[[Array], Array] | None
Layer = tuple[Array, Array]


def sigmoid(x: Array) -> Array:
    """Logistic function, as (1 + tanh(x / 2)) / 2, which cannot overflow.

    Example:
        >>> sigmoid([0.0, 1000.0, -1000.0]).tolist()
        [0.5, 1.0, 0.0]
    """
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(x, np.float64)))


def activate(x: Array, activation: Activation) -> Array:
    """Apply an activation given by name or as a function.

    Args:
        x: Pre-activations, any shape.
        activation: "linear", "relu", "sigmoid", "tanh", None (linear) or a function of `x`.

    Raises:
        ValueError: `activation` is an unknown name.
    """
    x = np.asarray(x, np.float64)
    if callable(activation):
        return activation(x)
    if activation is None or activation == "linear":
        return x
    if activation == "relu":
        return np.where(x > 0.0, x, 0.0)
    if activation == "sigmoid":
        return sigmoid(x)
    if activation == "tanh":
        return np.tanh(x)
    raise ValueError(
        f"activation must be linear, relu, sigmoid, tanh, None or a function; got {activation!r}"
    )


def dense(x: Array, kernel: Array, bias: Array | None, activation: Activation = None) -> Array:
    """Dense layer, activation(x @ kernel + bias).

    Args:
        x: Inputs, (..., in).
        kernel: Weights, (in, out).
        bias: Bias, (out,), or None for no bias.
        activation: As in `activate`.

    Returns:
        Outputs, (..., out).

    Example:
        >>> dense([1.0, 2.0], np.array([[3.0], [4.0]]), np.array([-1.0])).tolist()
        [10.0]
    """
    y = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    if bias is not None:
        y = y + np.asarray(bias, np.float64)
    return activate(y, activation)


def mlp(
    x: Array,
    layers: Sequence[Layer],
    activation: Activation | Sequence[Activation],
    final_linear: bool,
) -> Array:
    """Chain of dense layers.

    Args:
        x: Inputs, (..., in).
        layers: (kernel (in, out), bias (out,)) pairs, first layer first.
        activation: One activation for every activated layer, or a list with one for each of them
            (say a `dice` with the moments of its own layer).
        final_linear: Whether the last layer has no activation.

    Raises:
        ValueError: A list of activations differs in length from the activated layers.
    """
    activated = len(layers) - 1 if final_linear else len(layers)
    if isinstance(activation, (list, tuple)):
        activations = list(activation)
    else:
        activations = [activation] * activated
    if len(activations) != activated:
        raise ValueError(
            f"activation must have one entry per activated layer ({activated}); "
            f"got {len(activations)}"
        )
    if final_linear:
        activations.append(None)
    for (kernel, bias), layer_activation in zip(layers, activations, strict=True):
        x = dense(x, kernel, bias, layer_activation)
    return x


def mlp_parameters(widths: Sequence[int], bias: bool = True) -> int:
    """Number of weights of a chain of dense layers.

    Args:
        widths: Input width first, then the width of every layer.
        bias: Whether the layers have biases.

    Example:
        >>> mlp_parameters([3, 4, 1]), mlp_parameters([3, 4, 1], bias=False)
        (21, 16)
    """
    return sum((a + bias) * b for a, b in zip(widths, widths[1:]))


def batch_norm_inference(
    x: Array, mean: Array, variance: Array, gamma: Array, beta: Array, epsilon: float
) -> Array:
    """Batch normalisation with given moments, gamma (x - mean) / sqrt(variance + epsilon) + beta.

    Args:
        x: Inputs, (..., D).
        mean: Mean, (D,).
        variance: Variance, (D,).
        gamma: Scale, (D,).
        beta: Offset, (D,).
        epsilon: Added to the variance, inside the root.
    """
    return gamma * (np.asarray(x, np.float64) - mean) / np.sqrt(variance + epsilon) + beta


def masked_moments(x: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted mean and biased variance over all leading axes.

    Args:
        x: Values, (..., D).
        weights: Weight of each position, (...); zero leaves it out, a boolean mask is 0 / 1.

    Returns:
        Mean (D,) and variance (D,), E[(x - mean)^2].

    Raises:
        ValueError: The weights add up to zero or do not have the leading shape of `x`.
    """
    x, weights = np.asarray(x, np.float64), np.asarray(weights, np.float64)
    if x.shape[:-1] != weights.shape:
        raise ValueError(f"weights must have shape {x.shape[:-1]}; got {weights.shape}")
    total = float(weights.sum())
    if total == 0.0:
        raise ValueError("weights must not add up to zero; got a sum of 0.0")
    counted = [index for index in np.ndindex(weights.shape) if weights[index] != 0.0]
    mean = np.zeros(x.shape[-1])
    for index in counted:
        mean += weights[index] * x[index]
    mean /= total
    variance = np.zeros(x.shape[-1])
    for index in counted:
        variance += weights[index] * (x[index] - mean) ** 2
    return mean, variance / total


def dice(x: Array, alpha: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    """Dice activation (Zhou et al. 2018, arXiv:1706.06978, section 5.3).

    f(s) = p(s) s + (1 - p(s)) alpha s, with p(s) = sigmoid((s - E[s]) / sqrt(Var[s] + epsilon)).

    Args:
        x: Pre-activations s, (..., D).
        alpha: Slope of the negative part, (D,) or scalar.
        mean: E[s], (D,).
        variance: Var[s], (D,).
        epsilon: Added to the variance, inside the root.
    """
    x = np.asarray(x, np.float64)
    p = sigmoid((x - mean) / np.sqrt(variance + epsilon))
    return p * x + (1.0 - p) * alpha * x


def prelu(x: Array, alpha: Array) -> Array:
    """PReLU: s where s > 0, alpha s elsewhere.

    Args:
        x: Pre-activations s, (..., D).
        alpha: Slope of the negative part, (D,) or scalar.
    """
    x = np.asarray(x, np.float64)
    return np.where(x > 0.0, x, alpha * x)


def softmax_masked(scores: Array, mask: Array) -> Array:
    """Softmax of one row over its valid positions; zero elsewhere and for an all-padding row.

    Args:
        scores: Scores, (L,).
        mask: Valid positions, (L,) booleans.

    Example:
        >>> softmax_masked([0.0, 99.0, 0.0], [True, False, True]).tolist()
        [0.5, 0.0, 0.5]
    """
    scores = np.asarray(scores, np.float64)
    valid = [j for j in range(len(scores)) if mask[j]]
    weights = np.zeros(len(scores))
    if not valid:
        return weights
    largest = max(scores[j] for j in valid)
    for j in valid:
        weights[j] = np.exp(scores[j] - largest)
    return weights / sum(weights[j] for j in valid)


def auc_pairs(labels: Array, scores: Array) -> float:
    """Share of (positive, negative) pairs ranked in the right order, ties counted half.

    Args:
        labels: 0 / 1 labels, (M,).
        scores: Scores, (M,).

    Raises:
        ValueError: `labels` hold one class only.

    Example:
        >>> auc_pairs([1, 0, 0], [0.5, 0.5, 0.1])
        0.75
    """
    positives = [s for y, s in zip(labels, scores, strict=True) if y == 1]
    negatives = [s for y, s in zip(labels, scores, strict=True) if y == 0]
    if not positives or not negatives:
        raise ValueError(
            "labels must hold both classes; "
            f"got {len(positives)} positives and {len(negatives)} negatives"
        )
    wins = 0.0
    for positive in positives:
        for negative in negatives:
            if positive > negative:
                wins += 1.0
            elif positive == negative:
                wins += 0.5
    return wins / (len(positives) * len(negatives))
