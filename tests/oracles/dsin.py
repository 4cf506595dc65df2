"""Oracle of the Deep Session Interest Network (Feng et al. 2019, arXiv:1905.06482).

What the paper leaves open, and what is taken here:

- The session division layer keeps T behaviours of a session and K sessions: here the latest of
  each, oldest session first. The released code keeps the latest as well, drops sessions of fewer
  than three behaviours (`shortest=3`) and hands the latest session over first.
- A session's slot k, by which w^K goes, counts from the oldest one kept (`align="start"`); "end"
  counts from the latest.
- Equation 4 splits the rows into heads before a projection that has no head index, and divides by
  sqrt(d_model). Projections here are (D, D), split afterwards as usual; the paper's form is a
  block-diagonal kernel. `scale` picks the divisor.
- Residuals and layer normalisation are said to follow one another without a place: after attention
  and after the feed-forward part, as in the transformer (`norms=()` has none, as the released
  code). Equation 5 alone, FFN(Concat(heads) W^O), is `residual=False` without norms.
- Avg in equation 6 is over the valid behaviours (`average="slots"` divides by T).
- The LSTM of equation 7 sees the cell (peepholes W_c); Keras's does not. They may be matrices, as
  printed, or vectors (diagonal matrices, the usual form), or None.
- The sign that joins both directions in equation 8 is a circled plus, read as concatenation
  ("concat"; "sum" and "mean" are the alternatives).
- The released code activates sessions by DIN's unit under a softmax instead of equations 9 and 10.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .blocks import Activation, Array, Layer, dense, mlp, sigmoid, softmax_masked
from .counts import dense_count, encoder_count, mlp_count
from .din import attention_pooling
from .transformer import layer_norm, multi_head


class Lstm(NamedTuple):
    """Weights of equation 7 for inputs of width D and states of width H.

    Attributes:
        input_input, input_forget, input_cell, input_output: W_xi, W_xf, W_xc, W_xo, (D, H) each.
        state_input, state_forget, state_cell, state_output: W_hi, W_hf, W_hc, W_ho, (H, H) each.
        bias_input, bias_forget, bias_cell, bias_output: (H,) each.
        peep_input, peep_forget, peep_output: W_ci, W_cf, W_co, (H, H) or (H,), or None.
    """

    input_input: Array
    input_forget: Array
    input_cell: Array
    input_output: Array
    state_input: Array
    state_forget: Array
    state_cell: Array
    state_output: Array
    bias_input: Array
    bias_forget: Array
    bias_cell: Array
    bias_output: Array
    peep_input: Array | None = None
    peep_forget: Array | None = None
    peep_output: Array | None = None


class Extractor(NamedTuple):
    """Weights of the session interest extractor over rows of width D, shared by all sessions.

    Attributes:
        bias_session, bias_position, bias_unit: w^K (K,), w^T (T,), w^C (D,).
        projection: (kernel (D, 3 D), bias or None) of W^Q, W^K, W^V side by side.
        output: (kernel (D, D), bias or None) of W^O.
        feed_forward: (kernel, bias) of its two layers, ReLU between.
        norms: (gamma, beta, epsilon) of both normalisations, or ().
    """

    bias_session: Array
    bias_position: Array
    bias_unit: Array
    projection: tuple[Array, Array | None]
    output: tuple[Array, Array | None]
    feed_forward: Sequence[Layer]
    norms: Sequence[tuple[Array, Array, float]] = ()


def lstm_from_keras(kernel: Array, recurrent_kernel: Array, bias: Array) -> Lstm:
    """Weights of a Keras LSTM, whose gates are input, forget, cell, output, side by side.

    Args:
        kernel: (D, 4 H).
        recurrent_kernel: (H, 4 H).
        bias: (4 H,).
    """
    parts = (np.split(np.asarray(x, np.float64), 4, -1) for x in (kernel, recurrent_kernel, bias))
    return Lstm(*(gate for part in parts for gate in part))


def divide_sessions(
    times: Array,
    mask: Array,
    sessions: int,
    length: int,
    gap: float = 1800.0,
    shortest: int = 1,
) -> list[list[int]]:
    """Positions of the behaviours in each session (session division layer), oldest session first.

    A session ends where the next behaviour comes more than `gap` later.

    Args:
        times: In seconds, ascending over the valid behaviours, (L,).
        mask: valid behaviours, (L,) booleans.
        sessions: K, the latest ones that are kept.
        length: T, the latest behaviours of a session that are kept.
        gap: Exactly as much does not end a session.
        shortest: Sessions of fewer behaviours are left out before K are kept.

    Example:
        >>> divide_sessions([0, 1800, 3601, 9000], [True] * 4, sessions=2, length=2)
        [[2], [3]]
    """
    found: list[list[int]] = []
    last = None
    for j in range(len(times)):
        if not mask[j]:
            continue
        if last is None or times[j] - times[last] > gap:
            found.append([])
        found[-1].append(j)
        last = j
    found = [session for session in found if len(session) >= shortest]
    return [session[-length:] for session in found[-sessions:]]


def session_rows(
    behaviours: Array,
    divided: Sequence[Sequence[int]],
    sessions: int,
    length: int,
    align: str = "start",
) -> tuple[Array, Array]:
    """Behaviours of the sessions, padded at the end of each session.

    Args:
        behaviours: (L, D).
        divided: Positions, of `divide_sessions`.
        sessions: K.
        length: T.
        align: "start" has the oldest session first and absent ones last, "end" the latest last and
            absent ones first; w^K of equation 2 goes by the slot.

    Returns:
        Rows (K, T, D), zero at padding, and their mask (K, T).

    Raises:
        ValueError: `align` is an unknown name.
    """
    if align not in ("start", "end"):
        raise ValueError(f"align must be start or end; got {align!r}")
    rows = np.zeros((sessions, length, np.shape(behaviours)[1]))
    mask = np.zeros((sessions, length), bool)
    first = 0 if align == "start" else sessions - len(divided)
    for k, session in enumerate(divided, start=first):
        for t, j in enumerate(session):
            rows[k, t] = behaviours[j]
            mask[k, t] = True
    return rows, mask


def bias_encoding(session: Array, position: Array, unit: Array) -> Array:
    """BE(k, t, c) = w^K_k + w^T_t + w^C_c (equation 2), (K, T, D).

    Args:
        session: w^K, (K,).
        position: w^T, (T,).
        unit: w^C, (D,).

    Example:
        >>> bias_encoding([100, 200], [10], [1, 2]).tolist()
        [[[111.0, 112.0]], [[211.0, 212.0]]]
    """
    session, position, unit = (np.asarray(x, np.float64) for x in (session, position, unit))
    return session[:, None, None] + position[None, :, None] + unit[None, None, :]


def session_interest(
    rows: Array,
    mask: Array,
    heads: int,
    weights: Extractor,
    scale: str = "model",
    residual: bool = True,
    average: str = "valid",
) -> Array:
    """Interest I_k of one session (equations 4 to 6).

    Args:
        rows: Q_k with its bias encoding, (T, D).
        mask: valid behaviours, (T,) booleans.
        heads: H.
        weights: of the extractor; the bias encoding is not read.
        scale: scores are divided by the root of D ("model", the paper) or of D / H ("head").
        residual: whether either part is added to its input.
        average: "valid" divides the sum of the valid rows by their number, "slots" by T.

    Returns:
        (D,); zero without a behaviour.

    Raises:
        ValueError: `scale` or `average` is an unknown name.
    """
    if scale not in ("model", "head"):
        raise ValueError(f"scale must be model or head; got {scale!r}")
    if average not in ("valid", "slots"):
        raise ValueError(f"average must be valid or slots; got {average!r}")
    rows, mask = np.asarray(rows, np.float64), np.asarray(mask, bool)
    if not mask.any():
        return np.zeros(rows.shape[1])
    queries, keys, values = np.split(dense(rows, *weights.projection), 3, axis=1)
    if scale == "model":
        queries = queries / np.sqrt(heads)
    found = multi_head(queries, keys, values, mask, heads, weights.output)
    if residual:
        found = rows + found
    if weights.norms:
        found = layer_norm(found, *weights.norms[0])
    first, second = weights.feed_forward
    fed = dense(dense(found, *first, "relu"), *second)
    if residual:
        fed = found + fed
    if weights.norms:
        fed = layer_norm(fed, *weights.norms[1])
    return fed[mask].sum(axis=0) / (mask.sum() if average == "valid" else len(mask))


def session_interests(
    rows: Array, mask: Array, heads: int, weights: Extractor, **options: object
) -> tuple[Array, Array]:
    """Interests of all sessions of one user (equations 2 to 6).

    Args:
        rows: Q, (K, T, D).
        mask: valid behaviours, (K, T) booleans.
        heads, weights, options: As in `session_interest`.

    Returns:
        I (K, D), zero for absent sessions, and the mask of present ones (K,).
    """
    encoding = bias_encoding(weights.bias_session, weights.bias_position, weights.bias_unit)
    encoded = np.asarray(rows, np.float64) + encoding
    found = [session_interest(q, m, heads, weights, **options) for q, m in zip(encoded, mask)]
    return np.array(found), np.any(mask, axis=1)


def lstm_step(x: Array, state: Array, cell: Array, weights: Lstm) -> tuple[Array, Array]:
    """State h_t and cell c_t of one step (equation 7).

    Args:
        x: I_t, (D,).
        state: h_{t-1}, (H,).
        cell: c_{t-1}, (H,).
        weights: of the cell.
    """

    def peep(values: Array, peephole: Array | None) -> Array | float:
        if peephole is None:
            return 0.0
        return values * peephole if np.ndim(peephole) == 1 else dense(values, peephole, None)

    w = weights
    entry = dense(x, w.input_input, w.bias_input) + dense(state, w.state_input, None)
    forget = dense(x, w.input_forget, w.bias_forget) + dense(state, w.state_forget, None)
    new = dense(x, w.input_cell, w.bias_cell) + dense(state, w.state_cell, None)
    exit_ = dense(x, w.input_output, w.bias_output) + dense(state, w.state_output, None)
    entry = sigmoid(entry + peep(cell, w.peep_input))
    forget = sigmoid(forget + peep(cell, w.peep_forget))
    cell = forget * cell + entry * np.tanh(new)
    state = sigmoid(exit_ + peep(cell, w.peep_output)) * np.tanh(cell)
    return state, cell


def bi_lstm(
    interests: Array, mask: Array, forward: Lstm, backward: Lstm, merge: str = "concat"
) -> Array:
    """H_t, both directions joined (equation 8).

    Args:
        interests: I, (K, D).
        mask: present sessions, (K,) booleans; absent ones are skipped in both directions.
        forward, backward: Weights with states of width H.
        merge: "concat", "sum" or "mean".

    Returns:
        (K, 2 H) or (K, H); zero for absent sessions.

    Raises:
        ValueError: `merge` is an unknown name.
    """
    directions = []
    for weights, step in ((forward, 1), (backward, -1)):
        state = cell = np.zeros(len(weights.bias_input))
        states = np.zeros((len(interests), len(state)))
        for k in list(range(len(interests)))[::step]:
            if mask[k]:
                state, cell = lstm_step(interests[k], state, cell, weights)
                states[k] = state
        directions.append(states)
    if merge == "concat":
        return np.concatenate(directions, axis=1)
    if merge == "sum":
        return directions[0] + directions[1]
    if merge == "mean":
        return (directions[0] + directions[1]) / 2.0
    raise ValueError(f"merge must be concat, sum or mean; got {merge!r}")


def activate_sessions(
    interests: Array,
    mask: Array,
    target: Array,
    weights: Array | Sequence[Layer],
    activation: Activation | Sequence[Activation] = "sigmoid",
) -> Array:
    """U = sum_k a_k I_k, with a the softmax of I_k W X^I (equations 9 and 10).

    Args:
        interests: I or H, (K, W).
        mask: present sessions, (K,) booleans.
        target: X^I, the target's vectors side by side, (A,).
        weights: W, (W, A), or the layers of DIN's activation unit (then A = W).
        activation: of that unit's hidden layers.

    Returns:
        (W,); zero without a session.
    """
    if not isinstance(weights, np.ndarray):
        return attention_pooling(target, interests, mask, weights, activation, normalise=True)
    scores = dense(interests, weights, None) @ np.asarray(target, np.float64)
    return softmax_masked(scores, mask) @ interests


def dsin_forward(
    user: Sequence[Array],
    rows: Array,
    mask: Array,
    target: Array,
    context: Sequence[Array],
    candidate: Sequence[Array],
    heads: int,
    extractor: Extractor,
    forward: Lstm,
    backward: Lstm,
    interest_weights: Array | Sequence[Layer],
    state_weights: Array | Sequence[Layer],
    mlp_layers: Sequence[Layer],
    mlp_activation: Activation | Sequence[Activation],
    merge: str = "concat",
    **options: object,
) -> Array:
    """Logits, mlp(concat[user, U^I, U^H, context, candidate]) per row.

    Args:
        user: Vectors of the user fields, (B, D_i) each; may be empty.
        rows: Behaviours of the sessions, (B, K, T, D), of `session_rows`.
        mask: valid behaviours, (B, K, T) booleans.
        target: X^I, (B, A).
        context: Vectors of the context fields, (B, D_i) each; may be empty.
        candidate: Vectors of the candidate fields, (B, D_i) each.
        heads, extractor, options: As in `session_interest`.
        forward, backward, merge: As in `bi_lstm`.
        interest_weights, state_weights: for U^I and U^H, as in `activate_sessions`.
        mlp_layers: (kernel, bias) pairs; the last one has one output and no activation.
        mlp_activation: of the hidden layers.

    Returns:
        (B,).
    """
    logits = np.zeros(len(mask))
    for i in range(len(mask)):
        interests, present = session_interests(rows[i], mask[i], heads, extractor, **options)
        states = bi_lstm(interests, present, forward, backward, merge)
        pooled = [
            activate_sessions(interests, present, target[i], interest_weights),
            activate_sessions(states, present, target[i], state_weights),
        ]
        sides = [[x[i] for x in side] for side in (user, context, candidate)]
        features = np.concatenate([*sides[0], *pooled, *sides[1], *sides[2]])
        logits[i] = mlp(features, mlp_layers, mlp_activation, final_linear=True).item()
    return logits


def dsin_count(
    behaviour: int,
    target: int,
    sessions: int,
    length: int,
    feed_forward: int,
    hidden: int,
    others: int,
    widths: Sequence[int],
    merge: str = "concat",
    peepholes: str | None = "matrix",
    norms: bool = True,
    bias: bool = False,
) -> int:
    """Trainable values without embeddings.

    K + T + D + (4 D^2 + 2 D F + F + 5 D) + 2 LSTMs of 4 (D H + H H + H) + peepholes (3 H^2 or 3 H)
    + (D + W) A + MLP, with W = 2 H or H by `merge`. Without norms 4 D fewer; biases of the
    projections, which the paper does not have, are 4 D.

    Args:
        behaviour: D.
        target: A.
        sessions: K.
        length: T.
        feed_forward: F.
        hidden: H of each direction.
        others: Joint width of the user, context and candidate fields.
        widths: of the MLP, output included.
        merge: As in `bi_lstm`.
        peepholes: "matrix", "vector" or None.
        norms: Whether the extractor has them.
        bias: Whether its projections have biases.
    """
    encoder = encoder_count(behaviour, feed_forward, bias) - (0 if norms else 4 * behaviour)
    peep = {"matrix": 3 * hidden * hidden, "vector": 3 * hidden, None: 0}[peepholes]
    lstm = 4 * dense_count(behaviour + hidden, hidden) + peep
    width = 2 * hidden if merge == "concat" else hidden
    activating = (behaviour + width) * target
    joined = others + behaviour + width
    encoding = sessions + length + behaviour
    return encoding + encoder + 2 * lstm + activating + mlp_count(joined, widths)
