"""Weights over pairs of fields in the oracles' order: (0, 1), (0, 2), ..., (F - 2, F - 1)."""

import numpy as np

from tests.oracles.interaction import pair_list
from tests.weights import array


def places(layer):
    """Where each of the oracles' pairs stands among those of a Bilinear layer."""
    assert sorted(layer.pairs) == pair_list(layer.user + layer.rest)
    return [layer.pairs.index(pair) for pair in pair_list(layer.user + layer.rest)]


def kernels_of(layer):
    """The matrices of a Bilinear layer as the oracle takes them."""
    kernel = array(layer.kernel)
    return {"all": kernel[0], "each": kernel, "interaction": kernel}[layer.kind][
        places(layer) if layer.kind == "interaction" else ...
    ]


def rows_of_pairs(layer, width):
    """The rows of the next layer's kernel, in the oracles' order of pairs."""
    return np.concatenate([place * width + np.arange(width) for place in places(layer)])
