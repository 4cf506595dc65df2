"""Interests of a user's sessions."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.layers.sequence.sessions import Sessions
from ctr_tf.layers.sequence.transformer import EncoderBlock
from ctr_tf.types import Tensor


class SessionInterests(keras.layers.Layer):
    """Self-attention within each session, its weights shared by all, pooled to one vector.

    Feng et al. 2019, arXiv:1905.06482, equations 2 to 6: rows of session k take the bias encoding
    BE(k, t, c) = w^K_k + w^T_t + w^C_c, pass through a transformer block and are averaged over the
    session's behaviours. Scores are divided by the root of a head's width, as is usual.

    Args:
        width: D, of a behaviour.
        heads: of attention, a divisor of D.
        feed_forward: hidden width; 4 D by default.
        sessions, length: K and T.
        dropout: rate of the attention weights and of what each part adds.

    Shapes:
        behaviours (B, L, D); returns (B, K, D), zeros for a session that there is not.

    Raises:
        ValueError: `heads` does not divide D.

    Example:
        >>> times, mask = ops.array([[0, 10, 9000]]), ops.ones((1, 3), "bool")
        >>> sessions = Sessions(times, mask, sessions=2, length=2, gap=1800)
        >>> layer = SessionInterests(4, heads=2, sessions=2, length=2)
        >>> layer(ops.ones((1, 3, 4)), sessions=sessions).shape
        TensorShape([1, 2, 4])
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int | None = None,
        sessions: int = 5,
        length: int = 10,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.width = width
        self.bias_session, self.bias_position, self.bias_unit = (
            self.add_weight(
                name=f"bias_{name}",
                shape=(size,),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
            )
            for name, size in (("session", sessions), ("position", length), ("unit", width))
        )
        with keras.name_scope(self.name):
            self.block = EncoderBlock(width, heads, feed_forward, dropout=dropout, name="block")
            self.block.build((None, width))
        self.built = True

    def call(self, behaviours: Tensor, sessions: Sessions, training: bool = False) -> Tensor:
        rows, packing = sessions.rows(behaviours), sessions.packing
        encoding = [ops.cast(ops.convert_to_tensor(w), rows.dtype) for w in (
            self.bias_session, self.bias_position, self.bias_unit
        )]  # fmt: skip
        rows = rows + encoding[0][:, None, None] + encoding[1][:, None] + encoding[2]
        shape = ops.shape(rows)
        packed = packing.pack(ops.reshape(rows, (-1, shape[2], self.width)))
        interests = packing.mean(self.block(packed, packing=packing, training=training))
        return ops.reshape(interests, (shape[0], shape[1], self.width))
