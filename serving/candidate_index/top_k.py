"""TensorFlow Recommenders' factorized top-k, which stays within this module.

It is written for Keras 2, which `tf.keras` is where TF_USE_LEGACY_KERAS is set before its first
use, as `start_tensorflow` does; `keras` is not touched by that.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Literal

import numpy as np

Kind = Literal["brute_force", "streaming", "scann"]

MOST_STREAMED = 2**30
"""Bytes: a streaming index keeps the vectors in its graph, which holds 2 GiB at most."""
_STREAMED_AT_ONCE = 4096


class UnavailableError(RuntimeError):
    """An index of that kind cannot be made here."""


def top_k_layer(kind: Kind, keys: list[str], vectors: np.ndarray, k: int) -> Any:
    """A layer from queries (B, E) to scores and keys (B, k) of the largest inner products.

    Args:
        kind: `brute_force` multiplies with all vectors at once; `streaming` with some at a time,
            in less memory; `scann` looks at the likely ones alone, and is not exact.
        keys: of the items.
        vectors: (rows, E).
        k: at most the number of items.

    Raises:
        UnavailableError: ScaNN is not there or does not load, the vectors are too many for a
            streaming index, or `tf.keras` is Keras 3 already in this process.
    """
    import tensorflow as tf

    module = _factorized_top_k(kind)
    identifiers, candidates = tf.constant(keys), tf.constant(vectors, tf.float32)
    if kind == "streaming":
        if vectors.nbytes > MOST_STREAMED:
            raise UnavailableError(
                f"streaming keeps vectors in the graph, at most {MOST_STREAMED / 2**30:g} GiB; "
                f"got {vectors.nbytes / 2**30:.1f}: use brute_force"
            )
        rows = tf.data.Dataset.from_tensor_slices((identifiers, candidates))
        return module.Streaming(k=k).index_from_dataset(rows.batch(_STREAMED_AT_ONCE))
    layer = module.BruteForce(k=k) if kind == "brute_force" else _scann(module, len(keys), k)
    return layer.index(candidates, identifiers)


def _scann(module: ModuleType, rows: int, k: int) -> Any:
    """ScaNN with the square root of the rows as leaves, a tenth of which are searched."""
    leaves = max(1, round(rows**0.5))
    return module.ScaNN(
        k=k,
        num_leaves=leaves,
        num_leaves_to_search=max(1, leaves // 10),
        num_reordering_candidates=max(100, 3 * k),
        training_iterations=12,
    )


def _factorized_top_k(kind: Kind) -> ModuleType:
    import tensorflow as tf

    if not tf.keras.Model.__module__.startswith("tf_keras"):
        raise UnavailableError("tf.keras is Keras 3: set TF_USE_LEGACY_KERAS=1 in the environment")
    if kind == "scann":
        try:
            import scann as scann
        except (ImportError, tf.errors.OpError) as error:
            raise UnavailableError(
                f"ScaNN cannot be used with TensorFlow {tf.__version__}: {error}"
            ) from error
    hidden = kind != "scann" and "scann" not in sys.modules
    if hidden:
        # One that does not load would take TensorFlow Recommenders with it.
        sys.modules["scann"] = None
    try:
        from tensorflow_recommenders.layers import factorized_top_k
    finally:
        if hidden:
            del sys.modules["scann"]
    return factorized_top_k
