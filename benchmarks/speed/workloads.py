"""The arrays that every side of the speed comparison trains on; NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.files import write_arrays


@dataclass(frozen=True)
class Workload:
    """A synthetic log.

    Args:
        name: of its file.
        batch: impressions a step.
        rows: requests in all.
        fields: categorical fields and their ids, row 0 being kept for padding.
        numeric: numeric fields.
        length: the longest history; 0 for none.
        history: the fields that every behaviour has.
        used: ids of each field that occur; all by default.
        impressions: of each request, which share all but the fields of a behaviour.
        scoring: whether batches are scored instead of trained on.
    """

    name: str
    batch: int
    rows: int
    fields: dict[str, int]
    numeric: int = 0
    length: int = 0
    history: tuple[str, ...] = ()
    used: int | None = None
    impressions: int = 1
    scoring: bool = False


W1 = Workload("w1", 4096, 500_000, {f"c{i}": 100_000 for i in range(26)}, numeric=13)
W2 = Workload(
    "w2",
    2048,
    60_000,
    {"item": 500_000, "category": 10_000, **{f"u{i}": 10_000 for i in range(8)}},
    length=50,
    history=("item", "category"),
)
# A request log: as many impressions in all and in a step, whatever the impressions of a request.
W3 = {
    impressions: Workload(
        f"w3_{impressions}",
        1024,
        32_768 // impressions,
        {"item": 500_000, "category": 10_000, **{f"u{i}": 10_000 for i in range(3)}},
        length=200,
        history=("item", "category"),
        impressions=impressions,
    )
    for impressions in (1, 2, 4, 8, 16)
}
WORKLOADS = {
    "w1": W1,
    "w1_large": replace(W1, name="w1_large", fields={f"c{i}": 1_000_000 for i in range(26)}),
    "w2": W2,
    "w2_200": replace(W2, name="w2_200", length=200),
    "w2_scored": replace(W2, name="w2_scored", batch=1000, scoring=True),
    "w2_200_scored": replace(W2, name="w2_200_scored", batch=1000, length=200, scoring=True),
}
WORKLOADS |= {workload.name: workload for workload in W3.values()}
# Tables of that many million rows in all, of which the same number of ids occurs.
TABLE_ROWS = (1, 10, 50)
WORKLOADS |= {
    f"rows_{millions}m": replace(
        W1,
        name=f"rows_{millions}m",
        rows=200_000,
        fields={f"c{i}": millions * 1_000_000 // 26 for i in range(26)},
        used=38_000,
    )
    for millions in TABLE_ROWS
}


def zipf(
    rng: np.random.Generator,
    ids: int,
    shape: tuple[int, ...],
    used: int | None = None,
    power: float = 1.1,
):
    """Ids from 1 to `ids`, the k-th most frequent as often as k to the power of -1.1.

    Of them `used` occur, anywhere in the range; all by default.

    Example:
        >>> found = zipf(np.random.default_rng(0), 3, (6000,))
        >>> sorted(int(round((found == k).mean() * 10)) for k in (1, 2, 3))
        [2, 3, 6]
    """
    mass = np.cumsum(np.arange(1, (used or ids) + 1, dtype=np.float64) ** -power)
    found = np.searchsorted(mass, rng.random(shape) * mass[-1]) + 1
    # Frequent ids lie anywhere in a table, not side by side.
    return rng.permutation(ids).astype(np.int32)[found - 1] + 1


def make(workload: Workload, seed: int = 1) -> dict[str, np.ndarray]:
    """Arrays by name: fields (R,), `numeric` (R, 13), `history_<field>` (R, L), `length`, `label`.

    Of several impressions a request, the label and the fields of a behaviour are (R, N). Histories
    have 1 to L behaviours, equally often; positions from the length on hold 0.
    """
    rng = np.random.default_rng(seed)
    rows = workload.rows
    each = (rows, workload.impressions) if workload.impressions > 1 else (rows,)
    arrays = {
        name: zipf(rng, ids, each if name in workload.history else (rows,), workload.used)
        for name, ids in workload.fields.items()
    }
    if workload.numeric:
        arrays["numeric"] = rng.random((rows, workload.numeric), dtype=np.float32)
    if workload.length:
        arrays["length"] = rng.integers(1, workload.length + 1, rows).astype(np.int32)
        valid = np.arange(workload.length) < arrays["length"][:, None]
        for name in workload.history:
            drawn = zipf(rng, workload.fields[name], valid.shape)
            arrays[f"history_{name}"] = np.where(valid, drawn, 0)
    arrays["label"] = (rng.random(each) < 0.25).astype(np.float32)
    return arrays


def path(folder: Path, workload: Workload) -> Path:
    """The file of a workload's arrays, made if it is not there."""
    found = folder / f"{workload.name}.npz"
    if not found.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_arrays(found, make(workload))
    return found
