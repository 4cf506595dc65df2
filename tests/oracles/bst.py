"""Oracle of the Behavior Sequence Transformer (Chen et al. 2019, arXiv:1905.06874).

What the paper leaves open, and what is taken here:

- Equation 5 prints LayerNorm(S + Dropout(MH(S))) after S = MH(E) (equation 2); it is read as in
  the transformer, S' = LayerNorm(E + MH(E)), one attention per block. Dropout is off.
- LeakyReLU is said to be in both parts, but equations 5 and 6 show it in the feed-forward part
  alone, as here; its slope is not given.
- Only the time difference of a position is defined (section 2.1), not how a difference becomes an
  index: `log_bucket`. `index_positions` is the usual variant without times.
- Figure 1 joins all rows behind the transformer. Padding is not mentioned: here no row attends to
  a padded one, and padded rows leave as zeros.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from .blocks import Activation, Array, Layer, mlp, prelu
from .counts import encoder_count, mlp_count
from .transformer import encoder_block


class Block(NamedTuple):
    """Weights of one transformer layer over rows of width W, as in `transformer.encoder_block`.

    Attributes:
        projection: (kernel (W, 3 W), bias or None) of W^Q, W^K, W^V side by side.
        output: (kernel (W, W), bias or None) of W^H.
        feed_forward: (kernel, bias) of W^(1) and W^(2).
        norms: (gamma, beta, epsilon) of both normalisations.
    """

    projection: tuple[Array, Array | None]
    output: tuple[Array, Array | None]
    feed_forward: Sequence[Layer]
    norms: Sequence[tuple[Array, Array, float]]


def log_bucket(difference: float, buckets: int, base: float = 2.0, unit: float = 1.0) -> int:
    """Index of a time difference, floor(log_base(1 + difference / unit)), at most buckets - 1.

    Counted as the powers that 1 + difference / unit reaches, which has no rounding at the edges;
    a negative difference is in bucket 0.

    Example:
        >>> [log_bucket(d, 4) for d in (-5, 0, 0.9, 1, 2, 3, 6, 7, 1e9)]
        [0, 0, 0, 1, 1, 2, 2, 3, 3]
    """
    return sum(1.0 + difference / unit >= base**k for k in range(1, buckets))


def time_positions(
    times: Array, mask: Array, now: float, buckets: int, base: float = 2.0, unit: float = 1.0
) -> Array:
    """Indices of pos(v_i) = t(v_t) - t(v_i) (section 2.1) of the behaviours, then of the target.

    Args:
        times: t(v_i), (L,).
        mask: valid behaviours, (L,) booleans.
        now: t(v_t), the time of the recommendation.
        buckets, base, unit: As in `log_bucket`.

    Returns:
        (L + 1,); the target's difference is 0, padding has index 0 as well.
    """
    found = [log_bucket(now - t, buckets, base, unit) if m else 0 for t, m in zip(times, mask)]
    return np.array([*found, 0])


def index_positions(mask: Array, order: str = "slot") -> Array:
    """Indices of the behaviours, then of the target, without times.

    Args:
        mask: valid behaviours, (L,) booleans, padding at the end.
        order: "slot" gives behaviour j index j and the target L; "recency" counts back from the
            target, which has 0, the latest behaviour 1.

    Returns:
        (L + 1,); padding keeps its slot or has 0.

    Raises:
        ValueError: `order` is an unknown name.

    Example:
        >>> index_positions([True, True, False], "recency").tolist()
        [2, 1, 0, 0]
    """
    if order == "slot":
        return np.arange(len(mask) + 1)
    if order == "recency":
        after = np.cumsum(np.asarray(mask, np.int64)[::-1])[::-1]
        return np.append(np.where(mask, after, 0), 0)
    raise ValueError(f"order must be slot or recency; got {order!r}")


def bst_rows(
    behaviours: Array,
    target: Array,
    positions: Array,
    table: Array | None,
    combine: str = "concat",
) -> Array:
    """Rows of the transformer: behaviours, then the target, each with its position.

    Args:
        behaviours: (L, D).
        target: (D,).
        positions: Indices, (L + 1,).
        table: Vectors of the positions, (buckets, P), or None for none.
        combine: "concat" (section 2.1: the position is a feature of the item) or "add" (P = D).

    Returns:
        (L + 1, D + P), or (L + 1, D).

    Raises:
        ValueError: `combine` is an unknown name.
    """
    rows = np.concatenate([np.asarray(behaviours, np.float64), np.asarray(target)[None]])
    if table is None:
        return rows
    vectors = np.asarray(table, np.float64)[positions]
    if combine == "concat":
        return np.concatenate([rows, vectors], axis=1)
    if combine == "add":
        return rows + vectors
    raise ValueError(f"combine must be concat or add; got {combine!r}")


def bst_encode(
    rows: Array, mask: Array, heads: int, blocks: Sequence[Block], slope: float
) -> Array:
    """Stack of transformer layers (equations 2 to 8), normalisation after each residual.

    Args:
        rows: (L + 1, W), the target last.
        mask: valid behaviours, (L,) booleans; the target is always valid.
        heads: of attention.
        blocks: first layer first.
        slope: of LeakyReLU's negative part.

    Returns:
        (L + 1, W); zero at padding.
    """
    valid = np.append(np.asarray(mask, bool), True)
    for block in blocks:
        rows = encoder_block(rows, valid, heads, *block, partial(prelu, alpha=slope), pre=False)
    return np.where(valid[:, None], rows, 0.0)


def bst_pool(encoded: Array, mask: Array, pool: str = "flatten") -> Array:
    """What the MLP sees of the encoded rows.

    Args:
        encoded: (L + 1, W), zero at padding.
        mask: valid behaviours, (L,) booleans.
        pool: "flatten" (Figure 1), "mean" over valid rows and the target, or "target", its row.

    Returns:
        ((L + 1) W,) or (W,).

    Raises:
        ValueError: `pool` is an unknown name.
    """
    if pool == "flatten":
        return encoded.reshape(-1)
    if pool == "mean":
        return encoded.sum(axis=0) / (np.count_nonzero(mask) + 1)
    if pool == "target":
        return encoded[-1]
    raise ValueError(f"pool must be flatten, mean or target; got {pool!r}")


def bst_forward(
    others: Sequence[Array],
    behaviours: Array,
    mask: Array,
    target: Array,
    positions: Array,
    table: Array | None,
    heads: int,
    blocks: Sequence[Block],
    slope: float,
    mlp_layers: Sequence[Layer],
    mlp_activation: Activation | Sequence[Activation],
    combine: str = "concat",
    pool: str = "flatten",
) -> Array:
    """Logits, mlp(concat[other features, encoded rows]) per row (Figure 1, left to right).

    Args:
        others: Vectors of user, item, context and cross fields, (B, D_i) each; may be empty.
        behaviours: (B, L, D).
        mask: valid behaviours, (B, L) booleans.
        target: (B, D).
        positions: Indices, (B, L + 1), of `time_positions` or `index_positions`.
        table, combine: As in `bst_rows`.
        heads, blocks, slope: As in `bst_encode`.
        mlp_layers: (kernel, bias) pairs; the last one has one output and no activation.
        mlp_activation: of the hidden layers (the paper: LeakyReLU).
        pool: As in `bst_pool`.

    Returns:
        (B,).
    """
    logits = np.zeros(len(mask))
    for i in range(len(mask)):
        rows = bst_rows(behaviours[i], target[i], positions[i], table, combine)
        encoded = bst_encode(rows, mask[i], heads, blocks, slope)
        features = np.concatenate([*(x[i] for x in others), bst_pool(encoded, mask[i], pool)])
        logits[i] = mlp(features, mlp_layers, mlp_activation, final_linear=True).item()
    return logits


def bst_count(
    item: int,
    position: int,
    buckets: int,
    length: int,
    hidden: int,
    layers: int,
    others: int,
    widths: Sequence[int],
    pool: str = "flatten",
    bias: bool = False,
) -> int:
    """Trainable values without item embeddings, positions concatenated.

    buckets P + layers (4 W^2 + 2 W F + F + 5 W) + MLP, with W = D + P; biases of the projections,
    which the paper does not have, add 4 W per layer.

    Args:
        item: D.
        position: P.
        buckets: Rows of the position table.
        length: L.
        hidden: F of the feed-forward part.
        layers: Transformer layers.
        others: Joint width of the other features.
        widths: of the MLP, output included.
        pool: As in `bst_pool`.
        bias: Whether the projections have biases.
    """
    width = item + position
    joined = width * (length + 1) if pool == "flatten" else width
    encoder = layers * encoder_count(width, hidden, bias)
    return buckets * position + encoder + mlp_count(others + joined, widths)
