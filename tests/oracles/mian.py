"""Oracle of the Multi-Interactive Attention Network (Zhang et al. 2021, arXiv:2012.06968).

Uncertain: the Pre-LN Transformer follows its description and Figure 2a, x + MH(LN(x)) and
x + FFN(LN(x)) with ReLU, and was not compared with the printed equations 3 to 6; position vectors
added to the behaviours and a last normalisation are arguments, both off.

What the paper leaves open, and what is taken here:

- Weights carry the index of their row (W_t, W_u^j, W_c^k, W_l), read as one vector per *field*
  (superscripts j, k) and per part (l), and one for all *behaviours*, whose number varies.
  `row_attention` takes either form everywhere.
- Every score is one number: W is a vector, the bias a number.
- Equation 15 adds up parts r_l of different widths (e_i; the concatenations e_c, e_b, e_u; R as
  wide as item and row together), which is undefined as printed. `projections` bring every part
  to one width before its score; without them "sum" needs equal widths. "concat" keeps the
  weighted parts side by side instead.
- e_b is the concatenation of T behaviours (section 3.2.1), zero at padding; "mean" and "sum" over
  valid ones are the alternatives.
- A group without fields has no part and no interaction.
- The prediction is a softmax over two outputs (Figure 2), here one logit, their difference.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .blocks import Activation, Array, Layer, dense, mlp, softmax_masked
from .counts import dense_count, encoder_count, mlp_count
from .transformer import encoder_block, layer_norm

Score = tuple[Array, Array | float]


class Block(NamedTuple):
    """Weights of one Pre-LN layer over rows of width D, as in `transformer.encoder_block`.

    Attributes:
        projection: (kernel (D, 3 D), bias or None) of queries, keys and values side by side.
        output: (kernel (D, D), bias or None) after the heads.
        feed_forward: (kernel, bias) of both layers.
        norms: (gamma, beta, epsilon) of both normalisations.
    """

    projection: tuple[Array, Array | None]
    output: tuple[Array, Array | None]
    feed_forward: Sequence[Layer]
    norms: Sequence[tuple[Array, Array, float]]


def row_attention(rows: Array, mask: Array, score: Score) -> tuple[Array, Array]:
    """Weights a, the softmax of tanh(V . W + b), and sum a V (equations 7 to 11 and 13).

    Args:
        rows: V, (J, W).
        mask: valid rows, (J,) booleans.
        score: (W, b): weights (W,) and a number for all rows, or (J, W) and (J,) for each.

    Returns:
        a (J,), zero at padding, and the sum (W,), zero without a valid row.
    """
    rows = np.asarray(rows, np.float64)
    weights, bias = np.asarray(score[0], np.float64), score[1]
    shares = softmax_masked(np.tanh((rows * weights).sum(axis=1) + bias), mask)
    pooled = np.zeros(rows.shape[1])
    for j in np.flatnonzero(mask):
        pooled += shares[j] * rows[j]
    return shares, pooled


def item_rows(item: Array, rows: Array) -> Array:
    """V, the item's vector before every row (equation 12), (J, D_i + D).

    Args:
        item: e_i, (D_i,).
        rows: (J, D).
    """
    return np.array([np.concatenate([item, row]) for row in rows])


def behaviour_states(
    behaviours: Array,
    mask: Array,
    heads: int,
    blocks: Sequence[Block],
    activation: Activation = "relu",
    positions: Array | None = None,
    final_norm: tuple[Array, Array, float] | None = None,
) -> Array:
    """h_t of the Pre-LN Transformer.

    Args:
        behaviours: e_b^t, (T, D).
        mask: valid behaviours, (T,) booleans.
        heads: of attention.
        blocks: first layer first.
        activation: of the feed-forward part.
        positions: Vectors added to the behaviours, (T, D), or None.
        final_norm: (gamma, beta, epsilon) of a normalisation after the last block, or None.

    Returns:
        (T, D); zero at padding.
    """
    states = np.asarray(behaviours, np.float64)
    if positions is not None:
        states = states + positions
    for block in blocks:
        states = encoder_block(states, mask, heads, *block, activation, pre=True)
    if final_norm is not None:
        states = layer_norm(states, *final_norm)
    return np.where(np.asarray(mask, bool)[:, None], states, 0.0)


def item_behaviours(item: Array, states: Array, mask: Array, score: Score) -> Array:
    """R_ibim (equations 7 to 9), (D_i + D,).

    Args:
        item: e_i, (D_i,).
        states: h_t, (T, D).
        mask: valid behaviours, (T,) booleans.
        score: As in `row_attention`.
    """
    return row_attention(item_rows(item, states), mask, score)[1]


def item_fields(item: Array, fields: Array, score: Score) -> Array:
    """R_iuim (equations 10 and 11) or R_icim (equations 12 and 13), (D_i + D,).

    Args:
        item: e_i, (D_i,).
        fields: e_u^j or e_c^k, (J, D).
        score: As in `row_attention`.
    """
    return row_attention(item_rows(item, fields), [True] * len(fields), score)[1]


def behaviour_part(behaviours: Array, mask: Array, pool: str = "concat") -> Array:
    """e_b, the low-order part of the behaviours.

    Args:
        behaviours: (T, D).
        mask: valid behaviours, (T,) booleans.
        pool: "concat", "mean" or "sum".

    Returns:
        (T D,) or (D,); zero at padding and for an all-padding row.

    Raises:
        ValueError: `pool` is an unknown name.
    """
    valid = np.where(np.asarray(mask, bool)[:, None], behaviours, 0.0)
    if pool == "concat":
        return valid.reshape(-1)
    if pool == "mean":
        return valid.sum(axis=0) / max(np.count_nonzero(mask), 1)
    if pool == "sum":
        return valid.sum(axis=0)
    raise ValueError(f"pool must be concat, mean or sum; got {pool!r}")


def global_interaction(
    parts: Sequence[Array],
    scores: Sequence[Score],
    projections: Sequence[Layer] | None = None,
    combine: str = "sum",
) -> Array:
    """R_g, the parts weighted by the softmax of tanh(r_l . W_l + b_l) (equations 14 and 15).

    Args:
        parts: r_l, (D_l,) each.
        scores: (W_l (D_l,), b_l) each, of the projected widths with `projections`.
        projections: (kernel (D_l, R), bias or None) per part, or None.
        combine: "sum" or "concat".

    Returns:
        (R,), or the joint width of the parts.

    Raises:
        ValueError: `combine` is an unknown name, or parts of different widths are to be summed.
    """
    if projections is not None:
        parts = [dense(part, *layer) for part, layer in zip(parts, projections, strict=True)]
    raw = [np.tanh(np.dot(part, w) + b) for part, (w, b) in zip(parts, scores, strict=True)]
    shares = softmax_masked(raw, [True] * len(parts))
    weighted = [share * np.asarray(part) for share, part in zip(shares, parts)]
    if combine == "concat":
        return np.concatenate(weighted)
    if combine != "sum":
        raise ValueError(f"combine must be sum or concat; got {combine!r}")
    found = sorted({len(part) for part in parts})
    if len(found) > 1:
        raise ValueError(f"parts must have one width to be summed; got {found}")
    return np.sum(weighted, axis=0)


def mian_forward(
    item: Array,
    behaviours: Array,
    mask: Array,
    user: Array,
    context: Array,
    heads: int,
    blocks: Sequence[Block],
    behaviour_score: Score,
    user_score: Score | None,
    context_score: Score | None,
    global_scores: Sequence[Score],
    mlp_layers: Sequence[Layer],
    mlp_activation: Activation | Sequence[Activation],
    projections: Sequence[Layer] | None = None,
    combine: str = "sum",
    pool: str = "concat",
    **options: object,
) -> Array:
    """Logits, mlp(R_g) per row.

    Parts are in the order of equation 14: e_i, e_c, e_b, e_u, R_ibim, R_iuim, R_icim.

    Args:
        item: e_i, (B, D_i).
        behaviours: e_b, (B, T, D).
        mask: valid behaviours, (B, T) booleans.
        user: e_u, (B, J, D_u); J may be 0.
        context: e_c, (B, K, D_c); K may be 0.
        heads, blocks, options: As in `behaviour_states`.
        behaviour_score, user_score, context_score: As in `row_attention`; None for no fields.
        global_scores, projections, combine: As in `global_interaction`.
        mlp_layers: (kernel, bias) pairs; the last one has one output and no activation.
        mlp_activation: of the hidden layers.
        pool: As in `behaviour_part`.

    Returns:
        (B,).
    """
    logits = np.zeros(len(mask))
    for i in range(len(mask)):
        states = behaviour_states(behaviours[i], mask[i], heads, blocks, **options)
        low, high = [item[i]], [item_behaviours(item[i], states, mask[i], behaviour_score)]
        if len(context[i]):
            low.append(np.reshape(context[i], -1))
        low.append(behaviour_part(behaviours[i], mask[i], pool))
        if len(user[i]):
            low.append(np.reshape(user[i], -1))
            high.append(item_fields(item[i], user[i], user_score))
        if len(context[i]):
            high.append(item_fields(item[i], context[i], context_score))
        found = global_interaction([*low, *high], global_scores, projections, combine)
        logits[i] = mlp(found, mlp_layers, mlp_activation, final_linear=True).item()
    return logits


def mian_count(
    item: int,
    behaviour: int,
    length: int,
    user: tuple[int, int],
    context: tuple[int, int],
    hidden: int,
    layers: int,
    widths: Sequence[int],
    project: int | None = None,
    project_bias: bool = True,
    combine: str = "sum",
    pool: str = "concat",
    bias: bool = True,
) -> int:
    """Trainable values without embeddings, positions and a last normalisation.

    layers (4 D^2 + 2 D F + F + 5 D, + 4 D of biases) + (D_i + D + 1) + J (D_i + D_u + 1)
    + K (D_i + D_c + 1) + sum_l (D_l + 1) + projections + MLP; with projections of width R,
    sum_l (D_l R + R) and D_l = R in the scores.

    Args:
        item: D_i.
        behaviour: D.
        length: T.
        user: J and D_u.
        context: K and D_c.
        hidden: F.
        layers: of the transformer.
        widths: of the MLP, output included.
        project: R, or None without projections.
        project_bias: Whether projections have biases.
        combine, pool: As in `mian_forward`.
        bias: Whether the transformer's projections have biases.
    """
    parts = [item, behaviour * length if pool == "concat" else behaviour, item + behaviour]
    scores = item + behaviour + 1
    for fields, width in (user, context):
        scores += fields * (item + width + 1)
        if fields:
            parts += [fields * width, item + width]
    projections = 0
    if project is not None:
        projections = sum(dense_count(part, project, project_bias) for part in parts)
        parts = [project] * len(parts)
    joined = sum(parts) if combine == "concat" else parts[0]
    encoder = layers * encoder_count(behaviour, hidden, bias)
    balance = sum(part + 1 for part in parts)
    return encoder + scores + balance + projections + mlp_count(joined, widths)
