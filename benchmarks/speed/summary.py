"""Tables and verdicts of the runs of the speed comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.files import write_csv, write_text

SIDES = {
    "ours": "ctr_tf, lazy Adam",
    "ours_row_wise": "ctr_tf, row-wise Adagrad",
    "fuxictr": "FuxiCTR, Adam",
    "deepctr": "DeepCTR, Adam",
    "torchrec": "TorchRec, fused row-wise Adagrad",
    "keras": "Keras `fit`, Adam",
}
CASES = {
    ("w1", "deepfm"): "W1, DeepFM",
    ("w1", "dcn_v2"): "W1, DCN-v2",
    ("w1_large", "deepfm"): "W1 with tables ten times larger, DeepFM",
    ("w2", "din"): "W2, DIN, L = 50",
    ("w2_200", "din"): "W2, DIN, L = 200",
    ("w2_scored", "din"): "W2, DIN, L = 50, scoring batches of 1,000",
    ("w2_200_scored", "din"): "W2, DIN, L = 200, scoring batches of 1,000",
}
COLUMNS = (
    "workload", "model", "side", "repeat", "outcome", "samples_per_second", "peak_mib",
    "cpu_us_per_sample", "loss", "parameters", "steps", "seconds", "machine",
)  # fmt: skip
DIFFERENCES = {
    ("w1", "deepfm"): [
        "ctr_tf, FuxiCTR, Keras and TorchRec embed the 13 numbers, so that their first layer has "
        "624 inputs; DeepCTR's has 429, as it takes numbers as they are and leaves them out of "
        "the pairs: theirs are 1.16 times its multiplications.",
        "TorchRec's has no first-order weights, since its tables have widths of a multiple of 4.",
    ],
    ("w1", "dcn_v2"): [
        "All have 429 inputs. FuxiCTR scales each number by a weight, DeepCTR adds a linear part "
        "of the numbers: 13 parameters each.",
    ],
    ("w2", "din"): [
        "All have the same matrices. FuxiCTR and DeepCTR compute padding and mask it away; ctr_tf "
        "packs the behaviours, which is timed.",
    ],
}
DIFFERENCES["w1_large", "deepfm"] = DIFFERENCES["w1", "deepfm"]
for _workload in ("w2_200", "w2_scored", "w2_200_scored"):
    DIFFERENCES[_workload, "din"] = DIFFERENCES["w2", "din"]


@dataclass(frozen=True)
class Bar:
    """How many times a peer's rate ours is to reach.

    Args:
        workload, model: where.
        ours: which side of ours.
        peer: which other side.
        ratio: of the medians, at least.
    """

    workload: str
    model: str
    ours: str
    peer: str
    ratio: float


BARS = (
    Bar("w1", "deepfm", "ours", "fuxictr", 2.5),
    Bar("w1", "deepfm", "ours", "deepctr", 1.8),
    Bar("w1", "deepfm", "ours", "keras", 1.4),
    Bar("w1", "deepfm", "ours", "torchrec", 1.0),
    Bar("w1", "deepfm", "ours_row_wise", "torchrec", 1.0),
    Bar("w1", "dcn_v2", "ours", "keras", 1.2),
    Bar("w1", "dcn_v2", "ours", "deepctr", 2.0),
    Bar("w1", "dcn_v2", "ours", "torchrec", 1.0),
    Bar("w1", "dcn_v2", "ours_row_wise", "torchrec", 1.0),
    Bar("w1_large", "deepfm", "ours", "fuxictr", 20.0),
    Bar("w1_large", "deepfm", "ours", "deepctr", 20.0),
    Bar("w1_large", "deepfm", "ours", "keras", 20.0),
    Bar("w1_large", "deepfm", "ours", "torchrec", 1.0),
    Bar("w1_large", "deepfm", "ours_row_wise", "torchrec", 1.0),
    Bar("w2", "din", "ours", "fuxictr", 3.0),
    Bar("w2", "din", "ours", "deepctr", 3.0),
    Bar("w2_200", "din", "ours", "fuxictr", 4.0),
    Bar("w2_200", "din", "ours", "deepctr", 3.0),
    Bar("w2_scored", "din", "ours", "fuxictr", 4.0),
    Bar("w2_scored", "din", "ours", "deepctr", 2.0),
    Bar("w2_200_scored", "din", "ours", "fuxictr", 4.0),
    Bar("w2_200_scored", "din", "ours", "deepctr", 2.0),
)


def rates(runs: Sequence[dict], workload: str, model: str, side: str) -> list[float]:
    """Samples per second of each finished run."""
    return [
        run["samples_per_second"]
        for run in _of(runs, workload, model, side)
        if run["outcome"] == "done"
    ]


def ratio(runs: Sequence[dict], workload: str, model: str, ours: str, peer: str) -> float | None:
    """Our median rate by a peer's; None where a side has no finished run.

    Example:
        >>> of = {"workload": "w1", "model": "din", "outcome": "done"}
        >>> runs = [of | {"side": "ours", "samples_per_second": rate} for rate in (2.0, 3.0, 9.0)]
        >>> runs.append(of | {"side": "fuxictr", "samples_per_second": 1.5})
        >>> ratio(runs, "w1", "din", "ours", "fuxictr")
        2.0
    """
    own, theirs = (rates(runs, workload, model, side) for side in (ours, peer))
    return median(own) / median(theirs) if own and theirs else None


def verdict(runs: Sequence[dict], bar: Bar) -> str:
    """PASS or MISS with the ratio, or why there is none."""
    found = ratio(runs, bar.workload, bar.model, bar.ours, bar.peer)
    if found is not None:
        return f"{found:.2f} | {'PASS' if found >= bar.ratio else 'MISS'}"
    for side in (bar.ours, bar.peer):
        if not rates(runs, bar.workload, bar.model, side):
            outcomes = _distinct(_of(runs, bar.workload, bar.model, side), "outcome")
            return f"none | {side}: {', '.join(outcomes) or 'not run'}"
    raise AssertionError("a ratio is missing though both sides have rates")


def write(folder: Path, runs: Sequence[dict]) -> Path:
    """Writes `training.csv`, a row a run, and `training.md`; returns the latter.

    Args:
        folder: of both files.
        runs: see `COLUMNS`; of a finished run also `versions`.
    """
    write_csv(folder / "training.csv", COLUMNS, runs)
    return write_text(folder / "training.md", "\n".join(_page(runs)) + "\n")


def _page(runs: Sequence[dict]) -> list[str]:
    lines = [
        "# Training speed from memory",
        "",
        f"{'; '.join(_distinct(runs, 'machine'))}. One process at a time, the sides interleaved "
        "within each repeat. A ratio is of the medians, ctr_tf with lazy Adam by the row's side; "
        "peak memory is the largest of the runs. `cores` is how many a side kept busy: far below "
        "the machine's, other work had them and the rate means nothing. `../README.md` says what "
        "is equal.",
    ]
    for (workload, model), title in CASES.items():
        found = {side: _of(runs, workload, model, side) for side in SIDES}
        found = {side: own for side, own in found.items() if own}
        if not found:
            continue
        lines += ["", f"## {title}", ""]
        lines += [
            "| side | runs | samples/s | min–max | cores | peak MiB | ratio | loss | parameters |"
        ]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        lines += [
            _row(side, own, ratio(runs, workload, model, "ours", side))
            for side, own in found.items()
        ]
        lines += ["", *(f"- {text}" for text in DIFFERENCES[workload, model])]
    bars = [
        bar
        for bar in BARS
        if all(_of(runs, bar.workload, bar.model, side) for side in (bar.ours, bar.peer))
    ]
    if bars:
        lines += ["", "## Bars", "", "| case | ours | peer | bar | ratio | |"]
        lines += ["|---|---|---|---|---|---|"]
        lines += [
            f"| {CASES[bar.workload, bar.model]} | {SIDES[bar.ours]} | {SIDES[bar.peer]} "
            f"| {bar.ratio:g} | {verdict(runs, bar)} |"
            for bar in bars
        ]
    lines += ["", "## Versions", ""]
    for side in SIDES:
        versions = [run["versions"] for run in runs if run["side"] == side and run.get("versions")]
        if versions:
            said = ", ".join(f"{name} {version}" for name, version in sorted(versions[0].items()))
            lines.append(f"- {SIDES[side]}: {said}")
    return lines


def _row(side: str, runs: list[dict], times: float | None) -> str:
    done = [run for run in runs if run["outcome"] == "done"]
    failed = [run["outcome"] for run in runs if run["outcome"] != "done"]
    counts = [str(len(done))] if done else []
    counts += [f"{failed.count(outcome)} {outcome}" for outcome in dict.fromkeys(failed)]
    cells = [SIDES[side], ", ".join(counts)]
    if not done:
        return f"| {' | '.join(cells + ['–'] * 6)} |"
    found = [run["samples_per_second"] for run in done]
    cells += [f"{median(found):,.0f}", f"{min(found):,.0f}–{max(found):,.0f}"]
    busy = [run["samples_per_second"] * run["cpu_us_per_sample"] / 1e6 for run in done]
    cells.append(f"{median(busy):.1f}")
    cells.append(f"{max(run['peak_mib'] for run in done):,}")
    cells.append("–" if times is None else f"{times:.2f}")
    losses = [run["loss"] for run in done if run["loss"] is not None]
    cells.append(f"{median(losses):.3f}" if losses else "–")
    cells.append(f"{done[0]['parameters']:,}")
    return f"| {' | '.join(cells)} |"


def _of(runs: Sequence[dict], workload: str, model: str, side: str) -> list[dict]:
    wanted = (workload, model, side)
    return [run for run in runs if (run["workload"], run["model"], run["side"]) == wanted]


def _distinct(runs: Sequence[dict], key: str) -> list:
    return list(dict.fromkeys(run[key] for run in runs))
