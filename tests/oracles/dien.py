"""Oracle of the Deep Interest Evolution Network (Zhou et al. 2019, arXiv:1809.03672).

Equations 2 to 6 are of the interest extractor layer, 8 to 12 of the interest evolving layer.

The paper multiplies column vectors from the left. Kernels here are (in, out), y = x @ kernel, so
that every kernel is the transpose of the paper's matrix. States start from zero.

Where the paper and other code part:

- The update gate u weighs the *new* value, h_t = (1 - u_t) * h_{t-1} + u_t * candidate (equation
  5). TensorFlow's and Keras's z weighs the old one, z = 1 - u: same function, negated weights.
- Equation 4 resets after the product, r_t * (U^h h_{t-1}), with one bias outside (`reset="after"`).
  Keras's `reset_after=True` (and cuDNN) has a second bias inside, r_t * (U^h h_{t-1} + b'); the
  released code (TensorFlow's `GRUCell`) and Keras's `reset_after=False` reset before,
  U^h (r_t * h_{t-1}) (`reset="before"`).
- The released code scores attention by DIN's unit instead of h_t W e_a, and its AUGRU scales the
  keep gate, z' = (1 - a) z, so that a = 0 leaves z as it is; in equation 11 it keeps the state.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .blocks import Activation, Array, Layer, dense, mlp, prelu, sigmoid, softmax_masked
from .counts import dense_count, mlp_count
from .din import activation_unit


class Gru(NamedTuple):
    """Weights of equations 2 to 4 for inputs of width D and states of width H.

    Attributes:
        input_update, input_reset, input_candidate: W^u, W^r, W^h, (D, H) each.
        state_update, state_reset, state_candidate: U^u, U^r, U^h, (H, H) each.
        bias_update, bias_reset, bias_candidate: b^u, b^r, b^h, (H,) each.
        bias_state: bias inside the reset product, (H,); the paper has none.
    """

    input_update: Array
    input_reset: Array
    input_candidate: Array
    state_update: Array
    state_reset: Array
    state_candidate: Array
    bias_update: Array
    bias_reset: Array
    bias_candidate: Array
    bias_state: Array | None = None


def gru_from_keras(kernel: Array, recurrent_kernel: Array, bias: Array) -> Gru:
    """The paper's weights of a Keras GRU, whose gates are z (keep), r, candidate, side by side.

    Args:
        kernel: (D, 3 H).
        recurrent_kernel: (H, 3 H).
        bias: (2, 3 H) of `reset_after=True`, input bias first; (3 H,) of `reset_after=False`.
    """
    inputs = np.split(np.asarray(kernel, np.float64), 3, axis=1)
    states = np.split(np.asarray(recurrent_kernel, np.float64), 3, axis=1)
    rows = np.atleast_2d(np.asarray(bias, np.float64))
    update, reset, _ = np.split(rows.sum(axis=0), 3)
    candidate = np.split(rows[0], 3)[2]
    inside = np.split(rows[1], 3)[2] if len(rows) == 2 else None
    return Gru(-inputs[0], *inputs[1:], -states[0], *states[1:], -update, reset, candidate, inside)


def gru_gates(x: Array, state: Array, weights: Gru, reset: str = "after") -> tuple[Array, Array]:
    """Update gate u_t and candidate of the state (equations 2 to 4).

    Args:
        x: Input i_t, (D,).
        state: h_{t-1}, (H,).
        weights: of the cell.
        reset: "after" the product with U^h (the paper) or "before" it.

    Raises:
        ValueError: `reset` is an unknown name.
    """
    update = sigmoid(
        dense(x, weights.input_update, weights.bias_update)
        + dense(state, weights.state_update, None)
    )
    gate = sigmoid(
        dense(x, weights.input_reset, weights.bias_reset) + dense(state, weights.state_reset, None)
    )
    if reset == "after":
        recurrent = gate * dense(state, weights.state_candidate, weights.bias_state)
    elif reset == "before":
        recurrent = dense(gate * state, weights.state_candidate, weights.bias_state)
    else:
        raise ValueError(f"reset must be after or before; got {reset!r}")
    candidate = np.tanh(dense(x, weights.input_candidate, weights.bias_candidate) + recurrent)
    return update, candidate


def gru_step(
    x: Array,
    state: Array,
    weights: Gru,
    attention: float = 1.0,
    kind: str = "gru",
    reset: str = "after",
) -> Array:
    """State h_t of one step.

    Args:
        x: Input, (D,).
        state: h_{t-1}, (H,).
        weights: of the cell; "agru" does not read its update gate.
        attention: a_t.
        kind: "gru" (equation 5), "aigru" (a_t times the input, equation 9), "agru" (a_t in place
            of the update gate, equation 10), "augru" (a_t times the update gate, equations 11 and
            12) or "augru_keep" (the released code: 1 - a_t times the keep gate).
        reset: As in `gru_gates`.

    Raises:
        ValueError: `kind` is an unknown name.
    """
    if kind == "aigru":
        x = attention * np.asarray(x, np.float64)
    update, candidate = gru_gates(x, state, weights, reset)
    if kind in ("gru", "aigru"):
        share = update
    elif kind == "agru":
        share = attention
    elif kind == "augru":
        share = attention * update
    elif kind == "augru_keep":
        share = 1.0 - (1.0 - attention) * (1.0 - update)
    else:
        raise ValueError(f"kind must be gru, aigru, agru, augru or augru_keep; got {kind!r}")
    return (1.0 - share) * state + share * candidate


def gru_states(
    inputs: Array,
    mask: Array,
    weights: Gru,
    attention: Array | None = None,
    kind: str = "gru",
    reset: str = "after",
) -> Array:
    """State after every step of one sequence.

    Args:
        inputs: (L, D).
        mask: valid steps, (L,) booleans.
        weights: of the cell.
        attention: a_t, (L,); None is 1 everywhere.
        kind, reset: As in `gru_step`.

    Returns:
        (L, H); a padded step repeats the state before it, so that the last row is the state after
        the last valid step, zero without one.
    """
    state = np.zeros(len(weights.bias_candidate))
    states = np.zeros((len(inputs), len(state)))
    for t, x in enumerate(inputs):
        if mask[t]:
            a = 1.0 if attention is None else attention[t]
            state = gru_step(x, state, weights, a, kind, reset)
        states[t] = state
    return states


def attention_weights(states: Array, mask: Array, target: Array, weight: Array) -> Array:
    """a_t, the softmax of h_t W e_a over the valid steps (equation 8).

    Args:
        states: Extracted interests h_t, (L, H).
        mask: valid steps, (L,) booleans.
        target: e_a, (A,).
        weight: W, (H, A).

    Returns:
        (L,); zero at padding.
    """
    return softmax_masked(dense(states, weight, None) @ np.asarray(target, np.float64), mask)


def attention_weights_unit(
    states: Array,
    mask: Array,
    target: Array,
    projection: Layer,
    alpha: Array,
    layers: Sequence[Layer],
    activation: Activation | Sequence[Activation] = "sigmoid",
) -> Array:
    """a_t of the released code: the softmax of DIN's activation unit.

    Args:
        states: (L, H).
        mask: valid steps, (L,) booleans.
        target: e_a, (A,).
        projection: (kernel (A, H), bias) that brings the target to the states' width.
        alpha: of the PReLU after it, (H,).
        layers, activation: of the unit, as in `din.activation_unit` (in = 4 H first).
    """
    query = prelu(dense(target, *projection), alpha)
    return softmax_masked(activation_unit(query, states, layers, activation), mask)


def auxiliary_loss(
    states: Array,
    behaviours: Array,
    negatives: Array,
    mask: Array,
    layers: Sequence[Layer] | None = None,
    activation: Activation | Sequence[Activation] = "sigmoid",
    reduction: str = "sequences",
) -> float:
    """Loss of telling the next behaviour from a sampled one (equation 6).

    -(1 / N) sum_i sum_t [log s(h_t, e_{t+1}) + log(1 - s(h_t, n_{t+1}))] over the steps whose next
    behaviour is valid. s is the logistic function of the inner product (so H = D); the paper
    writes [x_1, x_2], which the released code reads as an MLP over the concatenation. The code's
    batch normalisation before that MLP is left to the caller, its softmax over two outputs is the
    logistic function of their difference.

    Args:
        states: h_t, (B, L, H).
        behaviours: e_t, (B, L, D).
        negatives: n_t, what was sampled against behaviour t, (B, L, D); row 0 is not read.
        mask: valid behaviours, (B, L) booleans, padding at the end.
        layers: None for the inner product, else (kernel, bias) pairs of an MLP over [h, e] with one
            output and no activation on it.
        activation: of the MLP's hidden layers.
        reduction: what N counts: "sequences" (B, the paper), "steps" (predicted steps) or
            "positions" (B (L - 1), padding included, the released code).

    Returns:
        The loss; 0 where nothing is predicted.

    Raises:
        ValueError: `reduction` is an unknown name.
    """

    def score(state: Array, behaviour: Array) -> float:
        if layers is None:
            return float(np.dot(state, behaviour))
        joined = np.concatenate([state, behaviour])
        return mlp(joined, layers, activation, final_linear=True).item()

    batch, length = np.shape(mask)
    total, steps = 0.0, 0
    for i in range(batch):
        for t in range(length - 1):
            if mask[i][t] and mask[i][t + 1]:
                total += np.logaddexp(0.0, -score(states[i][t], behaviours[i][t + 1]))
                total += np.logaddexp(0.0, score(states[i][t], negatives[i][t + 1]))
                steps += 1
    counts = {"sequences": batch, "steps": steps, "positions": batch * (length - 1)}
    if reduction not in counts:
        raise ValueError(f"reduction must be sequences, steps or positions; got {reduction!r}")
    return float(total / max(counts[reduction], 1))


def dien_interest(
    behaviours: Array,
    mask: Array,
    target: Array,
    extractor: Gru,
    attention: Array,
    evolving: Gru,
    kind: str = "augru",
    reset: str = "after",
) -> Array:
    """Final interest h'_T of one sequence towards one candidate.

    Args:
        behaviours: (L, D).
        mask: valid behaviours, (L,) booleans.
        target: e_a, (A,).
        extractor: GRU over behaviours.
        attention: W of equation 8, (H, A).
        evolving: GRU over the extracted interests, inputs of width H.
        kind, reset: As in `gru_step`; `reset` holds for both.

    Returns:
        (H',); zero for an all-padding row.
    """
    states = gru_states(behaviours, mask, extractor, reset=reset)
    weights = attention_weights(states, mask, target, attention)
    return gru_states(states, mask, evolving, weights, kind, reset)[-1]


def dien_forward(
    user: Sequence[Array],
    behaviours: Array,
    mask: Array,
    target: Array,
    context: Sequence[Array],
    candidate: Sequence[Array],
    extractor: Gru,
    attention: Array,
    evolving: Gru,
    mlp_layers: Sequence[Layer],
    mlp_activation: Activation | Sequence[Activation],
    kind: str = "augru",
    reset: str = "after",
) -> Array:
    """Logits, mlp(concat[user, final interest, context, candidate]) per row.

    The released code joins the sum of the behaviours as well: pass it in `user`.

    Args:
        user: Vectors of the user fields, (B, D_i) each; may be empty.
        behaviours: (B, L, D).
        mask: valid behaviours, (B, L) booleans.
        target: e_a, (B, A).
        context: Vectors of the context fields, (B, D_i) each; may be empty.
        candidate: Vectors of the candidate fields, (B, D_i) each.
        extractor, attention, evolving, kind, reset: As in `dien_interest`.
        mlp_layers: (kernel, bias) pairs; the last one has one output and no activation.
        mlp_activation: of the hidden layers.

    Returns:
        (B,).
    """
    logits = np.zeros(len(mask))
    for i in range(len(mask)):
        interest = dien_interest(
            behaviours[i], mask[i], target[i], extractor, attention, evolving, kind, reset
        )
        sides = [[x[i] for x in side] for side in (user, context, candidate)]
        features = np.concatenate([*sides[0], interest, *sides[1], *sides[2]])
        logits[i] = mlp(features, mlp_layers, mlp_activation, final_linear=True).item()
    return logits


def dien_count(
    behaviour: int,
    target: int,
    hidden: int,
    others: int,
    widths: Sequence[int],
    kind: str = "augru",
) -> int:
    """Trainable values without embeddings: two GRUs of the paper, W and the MLP.

    3 (D H + H H + H) + H A + 3 (2 H H + H) + MLP; AGRU has no update gate: 2 instead of the
    second 3. A Keras GRU with `reset_after=True` has another 3 H per GRU, of which 2 H are
    redundant.

    Args:
        behaviour: D.
        target: A.
        hidden: H of both GRUs.
        others: Joint width of the user, context and candidate fields.
        widths: of the MLP, output included.
        kind: As in `gru_step`.
    """
    gates = 2 if kind == "agru" else 3
    extractor = 3 * dense_count(behaviour + hidden, hidden)
    evolving = gates * dense_count(2 * hidden, hidden)
    return extractor + hidden * target + evolving + mlp_count(hidden + others, widths)
