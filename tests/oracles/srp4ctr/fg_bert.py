"""Oracle of FG-BERT's input and encoder (Han et al. 2024, section 2.1).

What the paper leaves open, and what is taken here:

- A multi-valued attribute is one vector, the mean of its values' (`pool="sum"` adds them up); an
  attribute without a value is zero.
- The summands x_i, s_i and the position are added up, as BERT4Rec adds v_i + p_i. Its equation has
  no normalisation behind the sum, its released code, as BERT's, has one: `norm`.
- One mask embedding stands for all item attributes of an element, another for all its behaviour
  attributes. A mask row in the table of each attribute, as BERT4Rec's vocabulary has one, gives the
  same inputs: only the rows' sum counts.
- Padding gets no mask and leaves as zeros.

The next item is asked for by one element more, masked in both ways: nothing is known of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..blocks import Activation, Array
from ..bst import Block
from ..transformer import encoder_block, gelu, layer_norm


class Attribute(NamedTuple):
    """One attribute of a row of elements.

    Attributes:
        table: embeddings, (V, W).
        values: of each element its rows of the table, [v] for a single-valued attribute.
    """

    table: Array
    values: Sequence[Sequence[int]]


def attribute_sum(attributes: Sequence[Attribute], pool: str = "mean") -> Array:
    """Sum of each element's attribute embeddings: x_i of item attributes, s_i of behaviours'.

    Args:
        attributes: one or more, of the same L elements.
        pool: "mean" or "sum", of an attribute's values.

    Returns:
        (L, W).

    Raises:
        ValueError: `pool` is an unknown name.

    Example:
        >>> table = np.array([[1.0], [3.0]])
        >>> attribute_sum([Attribute(table, [[0], [1]]), Attribute(table, [[0, 1], []])]).tolist()
        [[3.0], [3.0]]
    """
    if pool not in ("mean", "sum"):
        raise ValueError(f"pool must be mean or sum; got {pool!r}")
    total = np.zeros((len(attributes[0].values), np.shape(attributes[0].table)[1]))
    for table, values in attributes:
        for i, rows in enumerate(values):
            divisor = len(rows) if pool == "mean" else 1
            for row in rows:
                total[i] += np.asarray(table, np.float64)[row] / divisor
    return total


def fg_bert_input(
    items: Sequence[Attribute],
    behaviours: Sequence[Attribute],
    positions: Array,
    mask: Array,
    item_mask: Array,
    behaviour_mask: Array | None,
    masked_items: Array,
    masked_behaviours: Array | None,
    norm: tuple[Array, Array, float] | None = None,
    pool: str = "mean",
) -> Array:
    """Rows of the encoder: items or their mask, plus behaviours or theirs, plus position.

    Four cases an element: x + s + p, e_x + s + p, x + e_s + p, e_x + e_s + p.

    Args:
        items: M item-related attributes, at least one.
        behaviours: N behaviour-related attributes; with none, `behaviour_mask` and
            `masked_behaviours` are None (BERT4Rec).
        positions: vector p of each element, (L, W).
        mask: valid elements, (L,) booleans.
        item_mask, behaviour_mask: e_x and e_s, (W,) each.
        masked_items, masked_behaviours: (L,) booleans each.
        norm: (gamma, beta, epsilon) of a normalisation of the sum, or None.
        pool: As in `attribute_sum`.

    Returns:
        (L, W); zero at padding.
    """
    x = np.where(np.asarray(masked_items)[:, None], item_mask, attribute_sum(items, pool))
    if behaviours:
        s = attribute_sum(behaviours, pool)
        x = x + np.where(np.asarray(masked_behaviours)[:, None], behaviour_mask, s)
    x = x + np.asarray(positions, np.float64)
    if norm is not None:
        x = layer_norm(x, *norm)
    return np.where(np.asarray(mask, bool)[:, None], x, 0.0)


def encoder_streams(
    x: Array,
    mask: Array,
    heads: int,
    blocks: Sequence[Block],
    activation: Activation = gelu,
    pre: bool = False,
) -> list[Array]:
    """Input of every layer of the bidirectional transformer, and last its output.

    BERT4Rec (Sun et al. 2019, arXiv:1904.06690, equations 3 to 6) normalises after each residual.

    Args:
        x: (L, W).
        mask: valid elements, (L,) booleans.
        heads: of attention.
        blocks: first layer first.
        activation: of the feed-forward part.
        pre: whether normalisation comes before each part; the last one, behind the stack, is left
            to the caller.

    Returns:
        One (L, W) more than layers; padded rows hold anything but in the last, where they are zero.
    """
    streams = [np.asarray(x, np.float64)]
    for block in blocks:
        streams.append(encoder_block(streams[-1], mask, heads, *block, activation, pre))
    streams[-1] = np.where(np.asarray(mask, bool)[:, None], streams[-1], 0.0)
    return streams
