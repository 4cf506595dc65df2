"""Rounding that loses nothing on average."""

from __future__ import annotations

import tensorflow as tf

from ctr_tf.types import Tensor

# Bits of a float32's fraction that a half-precision float lacks.
_LOST_BITS = {tf.bfloat16: 16, tf.float16: 13}


def stochastic_round(x: Tensor, dtype: tf.DType, seed: Tensor) -> Tensor:
    """Rounds float32 up or down at random, so that the expected value is x.

    Rounded to nearest, an update of less than half the last place would never count. In float16
    this holds for normal numbers, from 6.1e-5 on.

    Args:
        x: finite float32.
        dtype: `tf.bfloat16` or `tf.float16`.
        seed: (2,) int32.

    Example:
        >>> x = tf.fill([4096], 1.0 + 2.0**-9)  # A quarter of bfloat16's last place above 1.
        >>> y = tf.cast(stochastic_round(x, tf.bfloat16, tf.constant([1, 2])), tf.float32).numpy()
        >>> sorted(set(y.tolist())), bool(0.2 < (y > 1).mean() < 0.3)
        ([1.0, 1.0078125], True)
    """
    bits = _LOST_BITS[dtype]
    noise = tf.random.stateless_uniform(tf.shape(x), seed, 0, 1 << bits, tf.int32)
    kept = tf.constant(-(1 << bits), tf.int32)
    raised = tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32) + noise, kept)
    return tf.cast(tf.bitcast(raised, tf.float32), dtype)
