"""The encoder's output in NumPy, from a layer's weights."""

import numpy as np

from tests.oracles.transformer import encoder_block, layer_norm
from tests.weights import array, layer_pair


def block_weights(block):
    """What the oracle takes of a block."""
    attention = block.attention
    bias = array(attention.bias) if attention.use_bias else 0.0
    return {
        "heads": attention.heads,
        "projection": (array(attention.kernel), bias),
        "output": layer_pair(attention.output_projection),
        "feed_forward": [layer_pair(block.inner), layer_pair(block.outer)],
        "norms": [(array(n.gamma), array(n.beta), n.epsilon) for n in block.norms],
        "pre": block.norm == "pre",
    }


def encoder_oracle(encoder, x, mask, activation="relu"):
    """Row by row: (B, L, W), zeros at padded positions."""
    config = encoder.config
    found = np.zeros((*mask.shape, config.width))
    for b, own in enumerate(mask):
        valid = np.flatnonzero(own)
        if not len(valid):
            continue
        kernel, bias = layer_pair(encoder.projection)
        y = x[b, valid] @ kernel + bias
        if config.positions:
            age = np.minimum(np.arange(len(valid))[::-1], config.positions - 1)
            y = y + array(encoder.positions)[age]
        for block in encoder.blocks:
            every = np.ones(len(valid), bool)
            y = encoder_block(y, every, activation=activation, **block_weights(block))
        if encoder.norm:
            norm = encoder.norm
            y = layer_norm(y, array(norm.gamma), array(norm.beta), norm.epsilon)
        found[b, valid] = y
    return found
