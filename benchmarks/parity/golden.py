"""The rows and weights that every peer is run on, and the files of what it makes; NumPy alone."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

WIDTH, REQUESTS, CANDIDATES, LENGTH, SESSIONS = 4, 4, 3, 4, 2
FIELDS = {"gender": 3, "city": 5, "hour": 4, "item": 7, "category": 4, "brand": 5}
"""Categorical fields and the rows of their tables, of which row 0 is padding."""
PER_CANDIDATE = ("item", "category", "brand", "price")
COMPARED = ["item", "category"]
"""What a behaviour has, too."""


def batch() -> dict[str, np.ndarray]:
    """Four requests of three candidates; the third user has no behaviour.

    Returns:
        fields of the user and of the request (B,), of candidates (B, N), the number `price`
        among them; `history_<field>` (B, L), zeros at the end, and `history_length` (B,).

    Example:
        >>> found = batch()
        >>> found["item"].shape, found["history_item"][:, 0] > 0
        ((4, 3), array([ True,  True, False,  True]))
    """
    rng = np.random.default_rng(11)
    found = {}
    for name, rows in FIELDS.items():
        shape = (REQUESTS, CANDIDATES) if name in PER_CANDIDATE else (REQUESTS,)
        found[name] = rng.integers(1, rows, shape, dtype=np.int32)
    found["price"] = rng.normal(size=(REQUESTS, CANDIDATES)).astype(np.float32)
    lengths = np.array([LENGTH, 2, 0, 1], np.int32)
    for name in COMPARED:
        ids = rng.integers(1, FIELDS[name], (REQUESTS, LENGTH), dtype=np.int32)
        found[f"history_{name}"] = np.where(np.arange(LENGTH) < lengths[:, None], ids, 0)
    found["history_length"] = lengths
    return found


def rows(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The batch as peers read it: a row a candidate, with the user side repeated.

    Example:
        >>> rows(batch())["history_item"].shape
        (12, 4)
    """
    return {
        name: value.reshape(-1) if name in PER_CANDIDATE else np.repeat(value, CANDIDATES, axis=0)
        for name, value in found.items()
    }


def draw(title: str, name: str, shape: Iterable[int]) -> np.ndarray:
    """Values of one weight or input, biases included: initialisers may give zeros.

    Args:
        title: of the model; with `name` it seeds the generator.
        name: of the weight; variances are positive.
        shape: of it.

    Example:
        >>> bool(draw("a", "moving_variance", (9,)).min() > 0)
        True
    """
    rng = np.random.default_rng(zlib.crc32(f"{title} {name}".encode()))
    if name.endswith(("moving_variance", "running_var")):
        values = rng.uniform(0.5, 2.0, tuple(shape))
    else:
        # Embeddings are of about the size of what layers make of them.
        values = rng.normal(0.0, 1.0 if "emb" in name else 0.5, tuple(shape))
    # Few bits each, which a file packs well.
    return (np.round(values * 256) / 256).astype(np.float32)


def save(
    path: Path,
    inputs: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    parameters: int,
    versions: str,
) -> None:
    """Writes one model's file.

    Args:
        path: of the file.
        inputs, weights, outputs: by name, which stands behind `input/`, `weight/` or `output/`.
        parameters: the peer's own count of what it trains.
        versions: of the peer and of what it runs on.
    """
    arrays = {"parameters": np.array(parameters), "versions": np.array(versions)}
    for kind, values in (("input", inputs), ("weight", weights), ("output", outputs)):
        arrays |= {f"{kind}/{name}": np.asarray(value) for name, value in values.items()}
    np.savez_compressed(path, **arrays)
