"""Oracle of SRP4CTR's and MP's logits of one request: the parts put together (Figure 2)."""

from collections.abc import Sequence

import numpy as np

from ..blocks import Activation, Array, Layer, mlp
from ..bst import Block
from ..transformer import gelu
from .cross import CrossBlock
from .fg_bert import encoder_streams
from .head import head_input
from .patch import patched_block
from .querying import querying_transformer
from .uni_attention import layer_keys_values, uni_attention

Fields = Sequence[Array]


def srp4ctr_forward(
    x: Array,
    mask: Array,
    candidates: Array,
    fields: tuple[Sequence[Fields], Fields, Fields],
    heads: int,
    blocks: Sequence[Block],
    own: Sequence[CrossBlock] | None,
    querying: tuple[Array, Sequence[tuple[Layer, CrossBlock]]] | None,
    mlp_layers: Sequence[Layer],
    mlp_activation: Activation = "relu",
    activation: Activation = gelu,
    pre: bool = False,
) -> Array:
    """Logits of one user and N candidates.

    Args:
        x: rows of the encoder without any mask, as of `fg_bert.fg_bert_input`, (L, W).
        mask: valid behaviours, (L,) booleans.
        candidates: sum of item attributes plus the learnable vector, (N, W).
        fields: vectors of each candidate's fields, of the user's and of the context's.
        heads: of attention, everywhere.
        blocks: the encoder's.
        own: uni-attention's; None for "w/o uni-att".
        querying: initial queries (K, W) and blocks; None for "w/o qFormer".
        mlp_layers: (kernel, bias) pairs; the last one has one output and no activation.
        mlp_activation: of the MLP's hidden layers.
        activation, pre: of all transformer layers.

    Returns:
        (N,).
    """
    streams = encoder_streams(x, mask, heads, blocks, activation, pre)
    uni, queries = [None] * len(candidates), None
    if own is not None:
        folded = layer_keys_values(streams, blocks, pre)
        uni = uni_attention(candidates, folded, mask, heads, own, activation, pre)
    if querying is not None:
        first, layers = querying
        queries = querying_transformer(first, streams[-1], mask, heads, layers, activation, pre)
    candidate_fields, user, context = fields
    joined = [
        head_input(streams[-1], mask, candidate, user, context, found, queries)
        for candidate, found in zip(candidate_fields, uni, strict=True)
    ]
    return mlp(np.stack(joined), mlp_layers, mlp_activation, final_linear=True)[:, 0]


def mp_forward(
    x: Array,
    mask: Array,
    fields: tuple[Sequence[Fields], Fields, Fields],
    heads: int,
    blocks: Sequence[Block],
    patches: Sequence[Sequence[tuple[Layer, Layer] | None]],
    mlp_layers: Sequence[Layer],
    mlp_activation: Activation = "relu",
    activation: Activation = gelu,
) -> Array:
    """Logits of one user and N candidates by a patched encoder.

    Args:
        x, mask, fields, heads, blocks, mlp_layers, mlp_activation: As in `srp4ctr_forward`.
        patches: of each block, as in `patch.patched_block`.
        activation: of all transformer layers and patches.

    Returns:
        (N,).
    """
    rows = np.asarray(x, np.float64)
    for block, inserted in zip(blocks, patches, strict=True):
        rows = patched_block(rows, mask, heads, block, inserted, activation)
    candidate_fields, user, context = fields
    joined = [head_input(rows, mask, candidate, user, context) for candidate in candidate_fields]
    return mlp(np.stack(joined), mlp_layers, mlp_activation, final_linear=True)[:, 0]
