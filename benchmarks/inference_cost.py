"""What folded inference costs DIN, CAN and SRP4CTR: Han et al. 2024, table 4.

    python benchmarks/inference_cost.py

Counts, op by op, a call of one user with as many behaviours as `configs/srp4ctr` keeps: with one
candidate (efficiency-FLOPs) and with 100 (inference-FLOPs).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.files import write_csv, write_text

ROOT = Path(__file__).parents[1]
COLUMNS = (
    "model", "form", "user_flops", "candidate_flops", "efficiency_flops", "inference_flops",
    "paper_efficiency_flops", "paper_inference_flops",
)  # fmt: skip
# Encoders of SRP4CTR are as wide as the tables that they read.
SETTINGS = ("model.embedding.width=64",)


@dataclass(frozen=True)
class Line:
    """A column of the paper's table.

    Args:
        title: of the model.
        config: in `configs/srp4ctr`.
        folded: whether the user's part is computed once; otherwise the user is tiled.
        paper: efficiency- and inference-FLOPs of the paper.
    """

    title: str
    config: str
    folded: bool = True
    paper: tuple[float, float] | None = None


LINES = (
    Line("DIN", "din", folded=False, paper=(10.01e6, 989.59e6)),
    Line("DIN, split", "din"),
    Line("DIN†", "din_folded", paper=(8.96e6, 51.22e6)),
    Line("CAN", "can", folded=False, paper=(10.12e6, 1002.21e6)),
    Line("CAN, split", "can"),
    Line("CAN†", "can_folded", paper=(8.99e6, 59.64e6)),
    Line("SRP4CTR", "srp4ctr", paper=(26.88e6, 64.56e6)),
)


def measure(line: Line, candidates: int) -> dict:
    """The row of a model."""
    from ctr_tf.analysis.cost import bare_model, model_cost
    from ctr_tf.analysis.sizes import Sizes
    from ctr_tf.config import load

    experiment = load(ROOT / "configs" / "srp4ctr" / f"{line.config}.yaml", list(SETTINGS))
    cost = model_cost(bare_model(experiment.log, experiment.model), Sizes(candidates=candidates))
    paper = line.paper or (None, None)
    return {
        "model": line.title,
        "form": "folded" if line.folded else "user tiled",
        "user_flops": cost.user.total if line.folded else 0,
        "candidate_flops": (cost.candidate if line.folded else cost.row).total,
        "efficiency_flops": cost.single.total,
        "inference_flops": (cost.folded if line.folded else cost.row_wise).total,
        "paper_efficiency_flops": paper[0],
        "paper_inference_flops": paper[1],
    }


def page(rows: list[dict], candidates: int, length: int) -> list[str]:
    """The table, ours beside the paper's.

    Example:
        >>> row = {"model": "DIN", "form": "folded", "user_flops": 2e6, "candidate_flops": 1e6,
        ...        "efficiency_flops": 3e6, "inference_flops": 102e6,
        ...        "paper_efficiency_flops": None, "paper_inference_flops": None}
        >>> page([row], 100, 200)[-1]
        '| DIN | folded | 2.00 | 1.000 | 3.00 | 102.00 | 34.00 | – | – | – |'
    """
    lines = [
        "# FLOPs of folded inference",
        "",
        f"`python benchmarks/inference_cost.py`. One user with {length} behaviours, tables of "
        f"width 64; efficiency-FLOPs are of one candidate, inference-FLOPs of {candidates}, from "
        "preprocessed features to scores. A tiled user is computed anew for each candidate, as "
        "the paper has it of DIN and CAN; split, the same model computes once what depends on the "
        "user alone; † marks its variants that fold, here a reading of their description. In "
        "millions; the paper's are of Han et al. 2024, table 4.",
        "",
        "| model | form | user | candidate | efficiency | inference | ratio "
        "| paper's efficiency | inference | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["model"], row["form"], f"{row['user_flops'] / 1e6:.2f}"]
        cells.append(f"{row['candidate_flops'] / 1e6:.3f}")
        for prefix in ("", "paper_"):
            single, whole = (row[f"{prefix}{kind}_flops"] for kind in ("efficiency", "inference"))
            if single is None:
                cells += ["–"] * 3
            else:
                cells += [f"{single / 1e6:.2f}", f"{whole / 1e6:.2f}", f"{whole / single:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    from ctr_tf.config import load

    rows = [measure(line, options.candidates) for line in LINES]
    write_csv(options.output / "inference_cost.csv", COLUMNS, rows)
    log = load(ROOT / "configs" / "srp4ctr" / "srp4ctr.yaml").log
    (sequence,) = log.sequences.values()
    text = "\n".join(page(rows, options.candidates, sequence.max_length)) + "\n"
    print(write_text(options.output / "inference_cost.md", text).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
