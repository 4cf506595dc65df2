"""What the folding benchmarks share: models, requests in NumPy, the ratio of times, its plot."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import keras
import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt

from benchmarks.files import write_figure
from ctr_tf.analysis.sizes import DAY, NOW, Sizes
from ctr_tf.config import load
from ctr_tf.data.vocabularies import sizes_of
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import REQUEST_TIME, Schema

ROOT = Path(__file__).parents[1]
MODELS = {
    "srp4ctr": "srp4ctr/scratch.yaml",
    "transformer": "movielens/transformer.yaml",
    "bst": "movielens/bst.yaml",
    "din": "movielens/din.yaml",
    "din_folded": "movielens/din_folded.yaml",
    "can": "movielens/can.yaml",
    "can_folded": "movielens/can_folded.yaml",
    "dcn_v2": "movielens/dcn_v2.yaml",
}
# All read the same log: a film is its id and the combination of its genres. With tables of the
# default's small scale all candidates would score alike.
SETTINGS = (
    "schema.sequences.history.max_length={length}",
    "schema.features.genres.multi=false",
    "model.embedding.scale=0.3",
)
OWN_SETTINGS = {
    "bst": ("model.length={length}",),
    "srp4ctr": ("model.encoder.positions={length}",),
    "transformer": ("model.encoder.positions={length}",),
}
WAYS = ("folded", "row_wise", "user_tower", "item_tower")
# Of the largest score: float32 sums in another order.
TOLERANCE = 1e-4
# Of MovieLens-1M.
VOCABULARIES = {
    "user_id": 6040, "gender": 2, "age": 7, "occupation": 21, "item_id": 3706, "genres": 301,
}  # fmt: skip

Features = dict[str, np.ndarray]


def model_of(name: str, length: int) -> CTRModel:
    """A model with random weights, over tables of MovieLens-1M's sizes, that keeps L behaviours."""
    given = [each.format(length=length) for each in (*SETTINGS, *OWN_SETTINGS.get(name, ()))]
    experiment = load(ROOT / "configs" / MODELS[name], given)
    encoders = experiment.log.encoders.items()
    rows = {n: 1 + sum(sizes_of(spec, VOCABULARIES.get(n, 0))) for n, spec in encoders}
    keras.utils.set_random_seed(1)
    return CTRModel(experiment.log, experiment.model, rows)


def request(model: CTRModel, length: int, candidates: int, seed: int = 1) -> Features:
    """One preprocessed request of random films, all of whose positions are valid."""
    rng = np.random.default_rng(seed)
    sizes, found = Sizes(candidates=candidates, length=length), {}
    for spec in model.schema.inputs:
        shape = tuple(sizes.axes(model.schema, spec).values())
        if spec.dtype == "bool":
            value = np.ones(shape, bool)
        elif spec.name == REQUEST_TIME:
            value = np.full(shape, NOW, "int64")
        elif spec.feature is None:
            value = NOW - DAY * np.arange(length, 0, -1)[None]
        else:
            rows = model.rows[model.schema.encoder(spec.feature, spec.sequence)]
            value = rng.integers(1, rows, shape, "int32")
        found[spec.name] = value
    return found


def tiled(schema: Schema, features: Features) -> Features:
    """A request of N candidates as N requests of one.

    Example:
        >>> schema = Schema(features={"age": {"kind": "numeric", "side": "user"},
        ...                           "item_id": {"kind": "categorical"}},
        ...                 tasks={"click": {"column": "click"}})
        >>> rows = tiled(schema, {"age": np.array([3.0]), "item_id": np.array([[1, 2]]),
        ...                       "candidates_mask": np.array([[True, True]])})
        >>> rows["age"].tolist(), rows["item_id"].tolist()
        ([3.0, 3.0], [[1], [2]])
    """
    candidate = {spec.name for spec in schema.inputs if spec.side == "candidate"}
    (count,) = features["candidates_mask"].shape[1:]
    return {
        name: value.reshape(count, 1, *value.shape[2:])
        if name in candidate
        else np.repeat(value, count, axis=0)
        for name, value in features.items()
    }


def difference(calls: Mapping[str, Callable[[], object]]) -> float:
    """The largest between the scores of a request by way, by the largest score.

    Args:
        calls: by way, `folded` first; the user tower has no scores.

    Raises:
        SystemExit: it is above the tolerance.
    """
    folded, *others = (np.asarray(calls[way]()).ravel() for way in calls if way != "user_tower")
    # NumPy's maximum, which a score that is no number does not get lost in.
    found = float(np.abs(np.stack(others) - folded).max() / folded.max())
    if not found <= TOLERANCE:
        raise SystemExit(f"the ways' scores differ by {found:.1e}, tolerance {TOLERANCE:g}")
    return found


def milliseconds(call: Callable[[], object], seconds: float) -> float:
    """The median time of a call, of as many as fit in that time and at least one."""
    call()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - began))
    return median(taken)


def of(rows: Sequence[dict], model: str, candidates: int) -> list[dict]:
    """The repeats of a model with that many candidates."""
    return [row for row in rows if (row["model"], row["candidates"]) == (model, candidates)]


def ratio(rows: Sequence[dict], model: str, candidates: int) -> float | None:
    """The row-wise median time by the folded one; None without a repeat.

    Example:
        >>> rows = [{"model": "din", "candidates": 10, "folded_ms": own, "row_wise_ms": 6.0}
        ...         for own in (1.0, 2.0, 9.0)]
        >>> ratio(rows, "din", 10)
        3.0
    """
    own = of(rows, model, candidates)
    if not own:
        return None
    return median(row["row_wise_ms"] for row in own) / median(row["folded_ms"] for row in own)


def spread(found: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{median(found):,.2f} ({min(found):,.2f}–{max(found):,.2f})"


def plot(
    path: Path,
    panels: Mapping[str, Sequence[dict]],
    bars: Mapping[int, float] | None = None,
    bars_label: str = "",
) -> None:
    """Writes row-wise by folded time over N: a panel for each title, a line for each model.

    Args:
        path: an SVG.
        panels: rows by title.
        bars: least ratios by N, drawn in every panel.
        bars_label: what the legend calls them.
    """
    size = (1 + 5 * len(panels), 4.5)
    figure, axes = plt.subplots(
        1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (title, rows) in zip(axes[0], panels.items()):
        for model in dict.fromkeys(row["model"] for row in rows):
            counts = sorted({row["candidates"] for row in rows if row["model"] == model})
            axis.plot(counts, [ratio(rows, model, n) for n in counts], marker="o", label=model)
        if bars:
            axis.plot(*zip(*bars.items()), "_", color="black", markersize=18, label=bars_label)
        axis.set(title=title, xlabel="candidates, N", xscale="log", yscale="log")
        candidates = sorted({row["candidates"] for row in rows})
        axis.set_xticks(candidates, [f"{n:,}" for n in candidates])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("row-wise time by folded time")
    axes[0, 0].legend()
    write_figure(path, figure)
