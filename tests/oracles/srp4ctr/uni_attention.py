"""Oracle of uni cross-attention (Han et al. 2024, section 2.2.1).

Layer l of the candidate's stream takes its keys and values from the input of layer l of the
behaviours' stream, x^(l-1), through the pre-trained layer's own W^K and W^V: what self-attention of
that layer has as keys and values already.

What the paper leaves open, and what is taken here:

- "The user behavior sequence representation at the same layer" is read as the layer's input, not
  its output: that is what the shared projections for K and V were trained on.
- The candidate is no key of its own: keys and values are of behaviours alone.
- A candidate starts from the sum of its item attributes plus the learnable vector; it has no
  behaviour. Its mask embedding would be one more constant, which that vector holds.
- Each layer has its uni-attention; the last one's output goes to the head.
- Where the encoder's input is normalised, the candidate's is as well, by weights of its own, before
  it comes here.
- Normalisation follows each residual, as in BERT4Rec. With `pre`, the shared projections read
  what the pre-trained layer normalises, queries what the candidate's own layer does.
"""

from collections.abc import Sequence

import numpy as np

from ..blocks import Activation, Array, dense, mlp, softmax_masked
from ..bst import Block
from ..transformer import gelu, layer_norm
from .cross import CrossBlock, cross_block


def layer_keys_values(
    streams: Sequence[Array], blocks: Sequence[Block], pre: bool = False
) -> list[tuple[Array, Array]]:
    """Keys and values of every layer, which depend on the user alone.

    Args:
        streams: input of every layer, (L, W) each, as of `fg_bert.encoder_streams`; what follows
            the last layer's is not read.
        blocks: pre-trained layers.
        pre: As in `fg_bert.encoder_streams`.

    Returns:
        ((L, W), (L, W)) a layer.
    """
    found = []
    for x, block in zip(streams, blocks):
        seen = layer_norm(x, *block.norms[0]) if pre else x
        _, keys, values = np.split(dense(seen, *block.projection), 3, axis=1)
        found.append((keys, values))
    return found


def uni_attention(
    candidates: Array,
    keys_values: Sequence[tuple[Array, Array]],
    mask: Array,
    heads: int,
    own: Sequence[CrossBlock],
    activation: Activation = gelu,
    pre: bool = False,
) -> Array:
    """Candidates' stream over the behaviours' keys and values.

    Args:
        candidates: sum of item attributes plus the learnable vector, (N, W).
        keys_values: As of `layer_keys_values`.
        mask: valid behaviours, (L,) booleans.
        heads: of attention.
        own: the layers' own weights.
        activation, pre: As in `cross.cross_block`.

    Returns:
        (N, W) of the last layer.
    """
    x = np.asarray(candidates, np.float64)
    for (keys, values), block in zip(keys_values, own, strict=True):
        x = cross_block(x, keys, values, mask, heads, block, activation, pre)
    return x


def tied(block: Block) -> CrossBlock:
    """A pre-trained layer as the candidate's own (Table 3, "w tying uni-att")."""
    kernel, bias = block.projection
    query = np.split(kernel, 3, axis=1)[0], None if bias is None else np.split(bias, 3)[0]
    return CrossBlock(query, block.output, block.feed_forward, block.norms)


def uni_attention_unfolded(
    candidate: Array,
    x: Array,
    mask: Array,
    heads: int,
    blocks: Sequence[Block],
    own: Sequence[CrossBlock],
    activation: Activation = gelu,
    pre: bool = False,
) -> tuple[Array, Array]:
    """Both streams in one: the candidate is appended to the sequence and no row attends to it.

    Args:
        candidate: (W,).
        x: rows of the behaviours, (L, W).
        mask: valid behaviours, (L,) booleans.
        heads: of attention.
        blocks: pre-trained layers, for the behaviours' rows and all keys and values.
        own: the candidate's.
        activation, pre: As in `cross.cross_block`.

    Returns:
        Behaviours, (L, W), zero at padding, and the candidate, (W,).
    """
    rows = np.concatenate([np.asarray(x, np.float64), [candidate]])
    valid = np.append(np.asarray(mask, bool), True)
    visible = np.append(np.asarray(mask, bool), False)
    for shared, other in zip(blocks, own, strict=True):
        weights = [tied(shared)] * len(x) + [other]
        after = np.zeros_like(rows)
        for i in np.flatnonzero(valid):
            query, output, feed_forward, (first, second) = weights[i]
            asked = dense(layer_norm(rows[i], *first) if pre else rows[i], *query)
            scores = np.zeros((heads, len(rows)))
            values = np.zeros((heads, len(rows), len(asked) // heads))
            for j in np.flatnonzero(visible):
                seen = layer_norm(rows[j], *shared.norms[0]) if pre else rows[j]
                _, key, value = np.split(dense(seen, *shared.projection), 3)
                by_head = zip(np.split(asked, heads), np.split(key, heads), strict=True)
                scores[:, j] = [q @ k / np.sqrt(len(q)) for q, k in by_head]
                values[:, j] = np.split(value, heads)
            found = [softmax_masked(s, visible) @ v for s, v in zip(scores, values, strict=True)]
            y = rows[i] + dense(np.concatenate(found), *output)
            y = y if pre else layer_norm(y, *first)
            fed = mlp(layer_norm(y, *second) if pre else y, feed_forward, activation, True)
            after[i] = y + fed if pre else layer_norm(y + fed, *second)
        rows = after
    return rows[:-1], rows[-1]
