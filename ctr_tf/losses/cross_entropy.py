"""Cross-entropy of binary labels from logits."""

from __future__ import annotations

from keras import ops

from ctr_tf.types import Tensor


def binary_cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    """-y log s(x) - (1 - y) log(1 - s(x)) element by element, stable for any logit.

    Args:
        labels: (...), 0 or 1.
        logits: (...), x.

    Example:
        >>> round(float(binary_cross_entropy(ops.array(1.0), ops.array(0.0))), 6)
        0.693147
    """
    return ops.maximum(logits, 0) - logits * labels + ops.log1p(ops.exp(-ops.abs(logits)))
