"""Recurrent layers: GRU with or without attention, LSTM in both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import keras
from keras import ops

from ctr_tf.layers.names import Recurrence
from ctr_tf.types import Tensor


def scan(
    step: Callable[[Tensor, list[Tensor]], Tensor],
    state: Tensor,
    inputs: Sequence[Tensor],
    every: bool,
) -> Tensor:
    """The state after the last step, or after each: one loop, whatever the number of steps.

    Args:
        step: of the state before it and the inputs at it, to the state after it.
        state: the first one.
        inputs: time first; after a step of zeros alone the state must be what it was.
        every: whether the states after all steps are returned, time first.

    Example:
        >>> add = lambda state, inputs: state + inputs[0]
        >>> scan(add, ops.zeros((1,)), [ops.ones((3, 1))], every=True).numpy().tolist()
        [[1.0], [2.0], [3.0]]
    """
    if keras.backend.backend() != "tensorflow":
        last, states = ops.scan(lambda s, x: (step(s, x),) * 2, state, list(inputs))
        return states if every else last
    import tensorflow as tf

    given = tf.shape(inputs[0])[0]
    # A step of zeros where there is none: a list of no tensors has no shape to be stacked in.
    steps = tf.maximum(given, 1)
    arrays = [
        tf.TensorArray(x.dtype, size=steps, element_shape=x.shape[1:]).unstack(
            tf.pad(x, [[0, steps - given], *[[0, 0]] * (len(x.shape) - 1)])
        )
        for x in inputs
    ]
    states = tf.TensorArray(state.dtype, size=steps if every else 0, element_shape=state.shape)

    def body(t: Tensor, state: Tensor, states: tf.TensorArray):
        after = step(state, [array.read(t) for array in arrays])
        after.set_shape(state.shape)
        return t + 1, after, states.write(t, after) if every else states

    _, last, states = tf.while_loop(lambda t, *_: t < steps, body, (0, state, states))
    return states.stack()[:given] if every else last


class GRU(keras.layers.Layer):
    """A gated recurrent unit whose steps attention can weigh.

    Zhou et al. 2019, arXiv:1809.03672, equations 2 to 5: u = sigmoid(x W^u + h U^u + b^u),
    r = sigmoid(x W^r + h U^r + b^r), c = tanh(x W^h + r * (h U^h) + b^h) and
    h' = (1 - u) * h + u * c, from h = 0. With an attention a, one number a step, AIGRU (equation 9)
    has a x for x, AGRU (equation 10) a for u, AUGRU (equations 11 and 12) a u for u. In the
    authors' code, here `augru_keep`, 1 - a scales what is kept, 1 - u: a step of no attention is a
    plain one. What is linear in x is of no loop: it is computed once a user, however many
    candidates attend.

    Args:
        width: H, of the state.
        inputs: D, of a step's input.
        kind: `gru`, `aigru`, `agru`, `augru` or `augru_keep`.

    Shapes:
        projected (B, L, G H), of `project`, G = 3 or for `agru` 2; mask (B, L), a masked step
        keeps the state; attention (B, N, L), for `gru` none. Returns the state after the last step,
        (B, N, H) or for `gru` (B, H), or with `every` those after each, (B, L, H), of `gru` alone.

    Example:
        >>> gru = GRU(3, inputs=4, kind="augru")
        >>> mask, attention = ops.ones((2, 5), "bool"), ops.ones((2, 7, 5))
        >>> gru(gru.project(ops.ones((2, 5, 4))), mask, attention).shape
        TensorShape([2, 7, 3])
    """

    def __init__(self, width: int, inputs: int, kind: Recurrence = "gru", **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.kind = kind
        total = width * (2 if kind == "agru" else 3)
        self.kernel = self.add_weight(name="kernel", shape=(inputs, total))
        self.recurrent = self.add_weight(
            name="recurrent", shape=(width, total), initializer="orthogonal"
        )
        self.bias = self.add_weight(name="bias", shape=(total,), initializer="zeros")
        self.built = True

    def project(self, x: Tensor) -> Tensor:
        """What a step makes of its input alone: x (..., D) to (..., G H).

        Gates are side by side: update, which `agru` has none of, reset, candidate.
        """
        projected = ops.matmul(x, ops.cast(self.kernel, x.dtype))
        # Attention weighs the input, not the bias.
        return projected if self.kind == "aigru" else projected + ops.cast(self.bias, x.dtype)

    def call(
        self,
        projected: Tensor,
        mask: Tensor,
        attention: Tensor | None = None,
        every: bool = False,
    ) -> Tensor:
        dtype = projected.dtype
        valid = ops.cast(mask, dtype)[:, None, :]
        weights = valid if attention is None else ops.cast(attention, dtype) * valid
        shape = ops.shape(weights)
        # Time first; (L, B, 1, G H), and (L, B, N, 1) each.
        inputs = [ops.transpose(projected, (1, 0, 2))[:, :, None, :]]
        inputs.append(ops.transpose(weights, (2, 0, 1))[..., None])
        if self.kind in ("aigru", "augru_keep"):
            inputs.append(ops.transpose(valid, (2, 0, 1))[..., None])
        kernel, bias = ops.cast(self.recurrent, dtype), ops.cast(self.bias, dtype)

        def step(state: Tensor, inputs: list[Tensor]) -> Tensor:
            x, weight, *keep = inputs
            flat = ops.matmul(ops.reshape(state, (-1, self.width)), kernel)
            recurrent = ops.reshape(flat, (shape[0], shape[1], kernel.shape[-1]))
            if self.kind == "aigru":
                x = x * weight + bias
            gates, of_state = self._gates(x), self._gates(recurrent)
            reset = ops.sigmoid(gates[-2] + of_state[-2])
            candidate = ops.tanh(gates[-1] + reset * of_state[-1])
            share = keep[0] if keep else weight
            if self.kind != "agru":
                update = ops.sigmoid(gates[0] + of_state[0])
                if self.kind == "augru_keep":
                    update = 1.0 - (1.0 - weight) * (1.0 - update)
                share = share * update
            return state + share * (candidate - state)

        first = ops.zeros((shape[0], shape[1], self.width), dtype)
        states = scan(step, first, inputs, every)
        if attention is not None:
            return states
        return ops.transpose(states[:, :, 0], (1, 0, 2)) if every else states[:, 0]

    def _gates(self, x: Tensor) -> list[Tensor]:
        return ops.split(x, x.shape[-1] // self.width, axis=-1)


class LSTM(keras.layers.Layer):
    """A long short-term memory whose gates see the cell.

    Feng et al. 2019, arXiv:1905.06482, equation 7: i = sigmoid(x W_xi + h W_hi + c W_ci + b_i),
    f likewise, c' = f * c + i * tanh(x W_xc + h W_hc + b_c),
    o = sigmoid(x W_xo + h W_ho + c' W_co + b_o) and h' = o * tanh(c'), from h = c = 0.

    Args:
        width: H, of the state.
        inputs: D, of a step's input.
        peepholes: whether gates see the cell, by matrices as the equation has it.

    Shapes:
        x (B, L, D); mask (B, L), a masked step keeps the state; returns (B, L, H), zeros at
        masked steps.

    Example:
        >>> LSTM(3, inputs=4)(ops.ones((2, 5, 4)), ops.ones((2, 5), "bool")).shape
        TensorShape([2, 5, 3])
    """

    def __init__(self, width: int, inputs: int, peepholes: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.kernel = self.add_weight(name="kernel", shape=(inputs, 4 * width))
        self.recurrent = self.add_weight(
            name="recurrent", shape=(width, 4 * width), initializer="orthogonal"
        )
        # Forgetting starts at sigmoid(1), as is usual.
        self.bias = self.add_weight(
            name="bias",
            shape=(4 * width,),
            initializer=lambda shape, dtype=None: ops.cast(
                ops.repeat(ops.array([0.0, 1.0, 0.0, 0.0]), shape[0] // 4), dtype
            ),
        )
        self.peepholes = (
            self.add_weight(name="peepholes", shape=(width, 3 * width)) if peepholes else None
        )
        self.built = True

    def call(self, x: Tensor, mask: Tensor) -> Tensor:
        dtype = x.dtype
        projected = ops.matmul(x, ops.cast(self.kernel, dtype)) + ops.cast(self.bias, dtype)
        valid = ops.cast(mask, dtype)[..., None]
        recurrent = ops.cast(self.recurrent, dtype)
        peepholes = None if self.peepholes is None else ops.cast(self.peepholes, dtype)

        def step(both: Tensor, inputs: list[Tensor]) -> Tensor:
            x, keep = inputs
            state, cell = ops.split(both, 2, axis=-1)
            gates = ops.split(x + ops.matmul(state, recurrent), 4, axis=-1)
            if peepholes is not None:
                seen = ops.matmul(cell, peepholes[:, : 2 * self.width])
                gates[:2] = [a + b for a, b in zip(gates, ops.split(seen, 2, axis=-1))]
            after = ops.sigmoid(gates[1]) * cell + ops.sigmoid(gates[0]) * ops.tanh(gates[2])
            if peepholes is not None:
                gates[3] = gates[3] + ops.matmul(after, peepholes[:, 2 * self.width :])
            found = ops.concatenate([ops.sigmoid(gates[3]) * ops.tanh(after), after], axis=-1)
            return both + keep * (found - both)

        first = ops.zeros((ops.shape(x)[0], 2 * self.width), dtype)
        inputs = [ops.transpose(projected, (1, 0, 2)), ops.transpose(valid, (1, 0, 2))]
        states = scan(step, first, inputs, every=True)[..., : self.width]
        return ops.transpose(states, (1, 0, 2)) * valid


class BiLSTM(keras.layers.Layer):
    """An LSTM in either direction, their states side by side or added up.

    Feng et al. 2019, arXiv:1905.06482, equation 8.

    Args:
        width: H, of either direction's state.
        inputs: D, of a step's input.
        merge: `concat` or `sum`.
        peepholes: as of `LSTM`.

    Shapes:
        x (B, L, D); mask (B, L); returns (B, L, 2 H), or for `sum` (B, L, H), zeros at masked
        steps.

    Example:
        >>> BiLSTM(3, inputs=4)(ops.ones((2, 5, 4)), ops.ones((2, 5), "bool")).shape
        TensorShape([2, 5, 6])
    """

    def __init__(
        self,
        width: int,
        inputs: int,
        merge: Literal["concat", "sum"] = "concat",
        peepholes: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.merge = merge
        with keras.name_scope(self.name):
            self.directions = [
                LSTM(width, inputs, peepholes, name=name) for name in ("ahead", "back")
            ]
        self.built = True

    def call(self, x: Tensor, mask: Tensor) -> Tensor:
        ahead, back = self.directions
        reverse = back(ops.flip(x, axis=1), ops.flip(mask, axis=1))
        both = [ahead(x, mask), ops.flip(reverse, axis=1)]
        return ops.concatenate(both, axis=-1) if self.merge == "concat" else both[0] + both[1]
