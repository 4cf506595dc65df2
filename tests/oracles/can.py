"""Oracle of the Co-Action Network (Bian et al. 2022, arXiv:2011.05625, the WSDM version).

What the paper leaves open, and what is taken here:

- Equation 8 puts the activation on every layer of the micro-MLP; the released code leaves it off
  the last one (`last_activation=None`) and has no biases (`biases=False`).
- Equation 10 prints H(P_induction, sum_t P_b^(t)), the sum of the *inputs* (`pool="inputs"`); the
  sentence before it and the released code apply the unit to every behaviour and add up the
  *outputs* (`pool="outputs"`, taken). The inputs' sum depends on the user alone, so that only one
  micro-MLP is left per candidate.
- Equation 11 adds up the orders (`combine="sum"`); the released code concatenates them
  (`combine="concat"`). One order is either.
- Powers are elementwise. Section 4.3 uses tanh for them; an earlier version has SELU without them.
- The matrices are cut out of P_induction row by row as (in, out), y = h @ w + b, each followed by
  its bias (w_i || b_i, equation 5). With combination independence (equations 12 and 13) the s-th
  slice of an item vector meets feature s, the q-th slice of a user vector meets item feature q;
  with order independence a slice holds one micro-MLP per order, first order first.
- Parameter independence (section 4.4) is that the vectors here are tables of their own, apart from
  the embeddings: nothing to compute.
- The unit is joined to a DNN or to DIEN (section 5.1): pass DIN's or DIEN's interest in `user`.
"""

from collections.abc import Sequence

import numpy as np

from .blocks import Activation, Array, Layer, dense, mlp
from .counts import dense_count, mlp_count


def split_induction(
    induction: Array, widths: Sequence[int], biases: bool = True
) -> list[tuple[Array, Array | None]]:
    """Layers of a micro-MLP (equations 5 and 6).

    Args:
        induction: One micro-MLP's values, (D',).
        widths: Input and layer widths, [d_0, ..., d_L].
        biases: Whether each matrix is followed by its bias.

    Returns:
        (kernel (d_{i-1}, d_i), bias (d_i,) or None) per layer.

    Raises:
        ValueError: `induction` has another length than the layers need.
    """
    induction = np.asarray(induction, np.float64)
    needed = induction_count(widths, biases)
    if induction.shape != (needed,):
        raise ValueError(f"induction must have shape {(needed,)}; got {induction.shape}")
    layers, at = [], 0
    for inputs, outputs in zip(widths[:-1], widths[1:]):
        kernel = induction[at : at + inputs * outputs].reshape(inputs, outputs)
        at += inputs * outputs
        bias = None
        if biases:
            bias = induction[at : at + outputs]
            at += outputs
        layers.append((kernel, bias))
    return layers


def micro_mlp(
    feed: Array,
    layers: Sequence[tuple[Array, Array | None]],
    activation: Activation = "tanh",
    last_activation: Activation = "tanh",
) -> Array:
    """H(P_induction, P_feed), the outputs of all layers side by side (equations 7 to 9).

    Args:
        feed: P_feed, (d_0,).
        layers: of `split_induction`.
        activation: of all layers but the last.
        last_activation: of the last layer.

    Returns:
        (d_1 + ... + d_L,).
    """
    hidden, outputs = np.asarray(feed, np.float64), []
    for i, (kernel, bias) in enumerate(layers):
        hidden = dense(
            hidden, kernel, bias, last_activation if i == len(layers) - 1 else activation
        )
        outputs.append(hidden)
    return np.concatenate(outputs)


def co_action(
    feed: Array,
    induction: Array,
    widths: Sequence[int],
    orders: int = 1,
    independent: bool = False,
    biases: bool = True,
    activation: Activation = "tanh",
    last_activation: Activation = "tanh",
    combine: str = "sum",
) -> Array:
    """Co-action of one pair over the powers P_feed^1, ..., P_feed^C (equation 11).

    Args:
        feed: P_feed, (d_0,).
        induction: P_induction, (D',), or (C D',) with independent orders.
        widths: [d_0, ..., d_L].
        orders: C.
        independent: whether every order has a micro-MLP of its own (order independence).
        biases, activation, last_activation: As in `split_induction` and `micro_mlp`.
        combine: "sum" over orders or "concat".

    Returns:
        (d_1 + ... + d_L,), C times as wide for "concat".

    Raises:
        ValueError: `combine` is an unknown name, or `induction` has another length.
    """
    if combine not in ("sum", "concat"):
        raise ValueError(f"combine must be sum or concat; got {combine!r}")
    feed = np.asarray(feed, np.float64)
    parts = np.split(np.asarray(induction), orders) if independent else [induction] * orders
    found = [
        micro_mlp(
            feed ** (c + 1), split_induction(part, widths, biases), activation, last_activation
        )
        for c, part in enumerate(parts)
    ]
    return np.sum(found, axis=0) if combine == "sum" else np.concatenate(found)


def co_action_sequence(
    feeds: Array,
    mask: Array,
    induction: Array,
    widths: Sequence[int],
    pool: str = "outputs",
    **options: object,
) -> Array:
    """Co-action of a candidate's feature with a sequence (equation 10).

    Args:
        feeds: P_b^(t), (L, d_0).
        mask: valid behaviours, (L,) booleans.
        induction: P_induction.
        widths: [d_0, ..., d_L].
        pool: "outputs" adds up the co-actions, "inputs" their inputs.
        options: As in `co_action`.

    Returns:
        As `co_action`. An all-padding row is zero for "outputs" and the co-action of zero, which
        biases move, for "inputs".

    Raises:
        ValueError: `pool` is an unknown name.
    """
    empty = np.zeros(widths[0])
    valid = [feeds[j] for j in range(len(mask)) if mask[j]]
    if pool == "inputs":
        return co_action(np.sum([empty, *valid], axis=0), induction, widths, **options)
    if pool != "outputs":
        raise ValueError(f"pool must be outputs or inputs; got {pool!r}")
    found = np.zeros_like(co_action(empty, induction, widths, **options))
    for feed in valid:
        found = found + co_action(feed, induction, widths, **options)
    return found


def co_actions(
    feeds: Sequence[Array],
    masks: Sequence[Array | None],
    inductions: Sequence[Array],
    widths: Sequence[int],
    per_pair: bool = False,
    pool: str = "outputs",
    **options: object,
) -> Array:
    """Co-actions of all Q x S pairs of one row, side by side, candidate's feature major.

    Args:
        feeds: S user features, (L, d_0) or (d_0,) each; Q times as wide with `per_pair`.
        masks: valid behaviours of each, (L,) booleans, or None for a single value.
        inductions: Q item features, (D',) each; S times as wide with `per_pair`.
        widths: [d_0, ..., d_L], the same for all pairs.
        per_pair: combination independence: a slice for every partner instead of one for all.
        pool, options: As in `co_action_sequence`.
    """
    found = []
    for q, induction in enumerate(inductions):
        for s, (feed, mask) in enumerate(zip(feeds, masks, strict=True)):
            pair, rows = np.asarray(induction, np.float64), np.asarray(feed, np.float64)
            if per_pair:
                pair = np.split(pair, len(feeds))[s]
                rows = np.split(rows, len(inductions), axis=-1)[q]
            if mask is None:
                rows, mask = rows[None], [True]
            found.append(co_action_sequence(rows, mask, pair, widths, pool, **options))
    return np.concatenate(found)


def can_forward(
    user: Sequence[Array],
    context: Sequence[Array],
    candidate: Sequence[Array],
    feeds: Sequence[Array],
    masks: Sequence[Array | None],
    inductions: Sequence[Array],
    widths: Sequence[int],
    mlp_layers: Sequence[Layer],
    mlp_activation: Activation | Sequence[Activation],
    **options: object,
) -> Array:
    """Logits, mlp(concat[user, context, candidate, co-actions]) per row (equation 3).

    Args:
        user: Vectors of the user side, (B, D_i) each: fields, pooled histories, an interest.
        context: Vectors of the context fields, (B, D_i) each; may be empty.
        candidate: Vectors of the candidate fields, (B, D_i) each.
        feeds: (B, L, d) or (B, d) each, see `co_actions`.
        masks: (B, L) booleans each, or None.
        inductions: (B, D'_q) each.
        widths, options: As in `co_actions`.
        mlp_layers: (kernel, bias) pairs; the last one has one output and no activation.
        mlp_activation: of the hidden layers.

    Returns:
        (B,).
    """
    logits = np.zeros(len(inductions[0]))
    for i in range(len(logits)):
        row_masks = [None if mask is None else mask[i] for mask in masks]
        crossed = co_actions(
            [feed[i] for feed in feeds],
            row_masks,
            [induction[i] for induction in inductions],
            widths,
            **options,
        )
        fields = [x[i] for side in (user, context, candidate) for x in side]
        features = np.concatenate([*fields, crossed])
        logits[i] = mlp(features, mlp_layers, mlp_activation, final_linear=True).item()
    return logits


def induction_count(
    widths: Sequence[int],
    biases: bool = True,
    orders: int = 1,
    independent: bool = False,
    partners: int = 1,
) -> int:
    """Width of P_induction (equations 6 and 12).

    Args:
        widths: [d_0, ..., d_L].
        biases: Whether the layers have biases.
        orders: C.
        independent: Order independence.
        partners: S with combination independence, else 1.

    Example:
        >>> induction_count([16, 8, 4], biases=False)
        160
    """
    layers = sum(dense_count(i, o, biases) for i, o in zip(widths[:-1], widths[1:]))
    return layers * (orders if independent else 1) * partners


def can_count(
    feed_rows: Sequence[int],
    induction_rows: Sequence[int],
    widths: Sequence[int],
    others: int,
    mlp_widths: Sequence[int],
    orders: int = 1,
    independent: bool = False,
    per_pair: bool = False,
    biases: bool = True,
    combine: str = "sum",
) -> int:
    """Trainable values without the embeddings that go to the MLP directly.

    sum_q N_q |P_induction| + sum_s N_s |P_feed| + MLP, whose input is `others` + Q S (d_1 + ... +
    d_L), C times that for concatenated orders.

    Args:
        feed_rows: N_s, table rows of each user feature.
        induction_rows: N_q, table rows of each item feature.
        widths: [d_0, ..., d_L].
        others: Joint width of the other vectors.
        mlp_widths: of the MLP, output included.
        orders, independent, per_pair, biases, combine: As in `co_actions`.
    """
    pairs = len(feed_rows) * len(induction_rows)
    partners = len(feed_rows) if per_pair else 1
    induction = induction_count(widths, biases, orders, independent, partners)
    feed = widths[0] * (len(induction_rows) if per_pair else 1)
    joined = pairs * sum(widths[1:]) * (orders if combine == "concat" else 1)
    tables = sum(induction_rows) * induction + sum(feed_rows) * feed
    return tables + mlp_count(others + joined, mlp_widths)
