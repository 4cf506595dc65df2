"""Random values for every weight of a layer, and weights in the form that the oracles take."""

from functools import partial

import numpy as np

from tests.oracles.blocks import activate, batch_norm_inference, dice, prelu


def array(tensor):
    """A tensor or variable as a float64 array."""
    return np.asarray(tensor.numpy() if hasattr(tensor, "numpy") else tensor, np.float64)


def randomise(layer, rng, scale=0.5):
    """Draws every weight anew, biases and moving statistics included; variances are positive."""
    for variable in layer.weights:
        if variable.path.endswith("moving_variance"):
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))
        else:
            variable.assign(rng.normal(0.0, scale, variable.shape))
    return layer


def layer_pair(dense):
    """(kernel, bias) of a dense layer; no bias is a bias of zero."""
    bias = 0.0 if dense.bias is None else array(dense.bias)
    return array(dense.kernel), bias


def split_mlp_layers(mlp):
    """(kernel, bias) pairs of a SplitMLP, first layer first."""
    return [layer_pair(mlp.split), *(layer_pair(dense) for dense in mlp.rest.dense)]


def activations_of(mlp):
    """The oracle's activation of each layer of a SplitMLP, batch normalisation before it."""
    found = []
    for i, layer in enumerate(mlp.rest.activations):
        act = oracle_activation(layer)
        if mlp.rest.norms:
            act = partial(_normalised, act, mlp.rest.norms[i])
        found.append(act)
    return found


def oracle_activation(layer):
    """The oracle's inference form of an activation layer."""
    kind = type(layer).__name__
    if kind == "Dice":
        norm = layer.norm
        return partial(
            dice,
            alpha=array(layer.alpha),
            mean=array(norm.moving_mean),
            variance=array(norm.moving_variance),
            epsilon=norm.epsilon,
        )
    if kind == "PReLU":
        return partial(prelu, alpha=array(layer.alpha))
    if layer.function.__name__ == "leaky_relu":
        return partial(prelu, alpha=0.2)
    return partial(activate, activation=layer.function.__name__)


def _normalised(act, norm, x):
    return act(
        batch_norm_inference(
            x,
            array(norm.moving_mean),
            array(norm.moving_variance),
            array(norm.gamma),
            array(norm.beta),
            norm.epsilon,
        )
    )


def field_matrices(layer):
    """The matrices of a FieldMatrices, (D_i, D_j) for each pair i < j in order."""
    widths = [width for side in layer.sides.widths.values() for width in side]
    weights, start, found = array(layer.matrices), 0, []
    for i, width in enumerate(widths):
        later = widths[i + 1 :]
        strip = weights[start : start + width * sum(later)].reshape(width, sum(later))
        found += np.split(strip, np.cumsum(later)[:-1], axis=1) if later else []
        start += strip.size
    assert start == len(weights)
    return found


def field_strengths(layer):
    """The numbers of a FieldWeights, (F, F), above the diagonal."""
    count = sum(len(side) for side in layer.sides.widths.values())
    found = np.zeros((count, count))
    found[np.triu_indices(count, 1)] = array(layer.strengths)
    return found
