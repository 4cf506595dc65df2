"""What each choice of the training step is worth: a step with all of them beside one without it.

    python benchmarks/choices.py --workspace workspace

One process at a time, every side once before any side twice; a finished run is not repeated.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.files import write_csv, write_text
from benchmarks.training import Comparison, Side, command_line

MODELS = ("deepfm", "din")
CASES = {
    ("w1", "deepfm"): "W1, DeepFM",
    ("w2", "din"): "W2, DIN, L = 50",
    ("w2_200", "din"): "W2, DIN, L = 200",
}
SIDES = {
    "base": Side("ours", MODELS),
    "one_step": Side("ours", MODELS, arguments=("--steps-per-call", "1")),
    "no_xla": Side("ours", ("din",), arguments=("--set", json.dumps({"xla": False}))),
    "no_onednn": Side("ours", MODELS, variables=(("TF_ENABLE_ONEDNN_OPTS", "0"),)),
}
TITLES = {
    "base": "all: ten steps a call, XLA, oneDNN",
    "one_step": "one step a call, not ten",
    "no_xla": "`train.xla: false`",
    "no_onednn": "`TF_ENABLE_ONEDNN_OPTS=0`",
}
COLUMNS = (
    "workload", "model", "side", "repeat", "outcome", "samples_per_second", "peak_mib",
    "cpu_us_per_sample", "loss", "steps", "seconds", "machine",
)  # fmt: skip


def page(runs: list[dict]) -> list[str]:
    """A row a side: its median rate on each workload, and that by the base's."""
    rates = {}
    for case in CASES:
        for side in SIDES:
            own = [r for r in runs if (r["workload"], r["model"], r["side"]) == (*case, side)]
            done = [r["samples_per_second"] for r in own if r["outcome"] == "done"]
            rates[case, side] = median(done) if done else None
    lines = [
        "# What each choice of the training step is worth",
        "",
        f"{runs[0]['machine']}; from memory, samples/s, medians of "
        f"{max(run['repeat'] for run in runs)} interleaved runs; in brackets by the rate "
        "with all.",
        "",
        f"| | {' | '.join(CASES.values())} |",
        "|---|" + "---|" * len(CASES),
    ]
    for side, title in TITLES.items():
        cells = []
        for case in CASES:
            rate, base = rates[case, side], rates[case, "base"]
            cells.append(f"{rate:,.0f} ({rate / base:.2f})" if rate and base else "–")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def write(folder: Path, runs: list[dict]) -> Path:
    """Writes `choices.csv` and `choices.md`; returns the latter."""
    write_csv(folder / "choices.csv", COLUMNS, runs)
    return write_text(folder / "choices.md", "\n".join(page(runs)) + "\n")


def main() -> None:
    """The command line."""
    parser = command_line(__doc__, repeats=3, seconds=5.0)
    options = parser.parse_args()
    comparison, runs = Comparison(options, SIDES), []
    for repeat in range(1, options.repeats + 1):
        for workload, model in CASES:
            for name, side in SIDES.items():
                if model in side.models:
                    runs.append(comparison.run(workload, model, name, repeat))
                    found = write(options.output, runs)
    print(found.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
