"""What each precision of an export saves, and what it changes on real requests.

    python benchmarks/precision.py --workspace workspace

Each experiment is trained if it is not, then exported in every precision: bytes by part, the change
of metrics on the whole test split, paired, and the time of a call. Then a SavedModel over one large
table, which is not trained.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.files import write_csv, write_text
from benchmarks.folding_cases import milliseconds
from benchmarks.training import bound_memory, machine
from ctr_tf import registry, stages
from ctr_tf.config import load
from ctr_tf.data.preprocess import Preprocessor
from ctr_tf.export.config import ChangeTolerances, ExportConfig
from ctr_tf.export.export import export
from ctr_tf.export.precision import served_model
from ctr_tf.export.signatures import SERVING, Signatures
from ctr_tf.export.sizes import Sizes, sizes_by_part
from ctr_tf.export.table import PRECISION_FILE
from ctr_tf.export.tables import write_tables
from ctr_tf.export.warmup import requests_of_every_size
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import Schema
from ctr_tf.workspace import Workspace

ROOT = Path(__file__).parents[1]
MODELS = {
    "din": "movielens/din.yaml",
    "dcn_v2": "movielens/dcn_v2.yaml",
    "deepfm": "movielens/deepfm.yaml",
    "srp4ctr": "srp4ctr/scratch.yaml",
}
# Tables and dense weights.
PRECISIONS = (
    ("float32", "float32"),
    ("float16", "float32"),
    ("int8", "float32"),
    ("float32", "bfloat16"),
    ("int8", "bfloat16"),
    ("int8", "float16"),
)
CANDIDATES = 100
# What a production export would refuse is to be seen here.
ANY = ChangeTolerances(auc=1, log_loss=100, score=1, mean_score=1)
# The least of a 5-million-row table's SavedModel, in float32 by in int8.
BAR = 3.0
BAR_AUC = 0.0005
COLUMNS = (
    "model", "tables", "dense", "tables_bytes", "tables_float32_bytes", "bytes", "float32_bytes",
    "rows", "auc_before", "auc_change", "auc_low", "auc_high", "log_loss_change", "score_largest",
    "score_mean", "call_ms", "environment",
)  # fmt: skip
LARGE_COLUMNS = (
    "ids", "rows", "width", "tables", "tables_bytes", "vocabulary_bytes", "bytes", "times_smaller",
)  # fmt: skip


def totals(sizes: Sizes) -> dict[str, int]:
    """The columns of an export's sizes.

    Example:
        >>> totals({"tables": {"bytes": 2, "float32_bytes": 8},
        ...         "graph": {"bytes": 5, "float32_bytes": 5}})["float32_bytes"]
        13
    """
    return {
        "tables_bytes": sizes["tables"]["bytes"],
        "tables_float32_bytes": sizes["tables"]["float32_bytes"],
        "bytes": sum(part["bytes"] for part in sizes.values()),
        "float32_bytes": sum(part["float32_bytes"] for part in sizes.values()),
    }


def measure(name: str, workspace: Workspace, seconds: float) -> Iterator[dict]:
    """A row a precision, of a trained experiment."""
    data = stages.open_data(workspace)
    model = stages.trained_model(workspace, data)
    requests = data.raw_requests("test", 16)
    (*_, largest) = requests_of_every_size(model.schema, requests, CANDIDATES)
    inputs = {key: tf.constant(value) for key, value in largest.items()}
    for tables, dense in PRECISIONS:
        config = ExportConfig(tables=tables, dense=dense, warmup_candidates=1, changes=ANY)
        with tempfile.TemporaryDirectory() as place:
            folder = export(
                model, data.preprocessor, Path(place) / name, config, requests,
                labelled=data.evaluation("test"),
            )  # fmt: skip
            found = json.loads((folder / PRECISION_FILE).read_text(encoding="utf-8"))
            call = tf.saved_model.load(str(folder)).signatures[SERVING]
            row = {"model": name, "tables": tables, "dense": dense, **totals(found["bytes"])}
            row["call_ms"] = milliseconds(lambda call=call: call(**inputs), seconds)
        # The first task's.
        for changes in list(found["changes"].values())[:1]:
            change = changes["auc"]["change"]
            row |= {
                "rows": changes["rows"],
                "auc_before": changes["auc"]["before"]["value"],
                "auc_change": change["value"],
                "auc_low": change["low"],
                "auc_high": change["high"],
                "log_loss_change": changes["log_loss"]["change"]["value"],
                "score_largest": changes["score"]["largest"],
                "score_mean": changes["score"]["mean"],
            }
        yield row


def large_table(rows: int, width: int, hashed: bool) -> Iterator[dict]:
    """A row a type of the table, of a SavedModel over one table of that many rows."""
    feature = {"kind": "categorical"}
    if hashed:
        feature |= {"encoding": "hashed", "size": rows - 1}
    schema = Schema(features={"item_id": feature}, tasks={"click": {"column": "click"}})
    with tempfile.TemporaryDirectory() as place:
        prepared = Path(place) / "prepared"
        (prepared / "vocabularies").mkdir(parents=True)
        (prepared / "statistics.json").write_text("{}", encoding="utf-8")
        if not hashed:
            # A row stands for a missing value, one for unknown ones.
            with (prepared / "vocabularies" / "item_id.txt").open("w", encoding="utf-8") as file:
                file.writelines(f"{10_000_000 + each}\n" for each in range(rows - 2))
        preprocessor = Preprocessor(schema, prepared)
        config = registry.get("dcn_v2").config(name="dcn_v2", embedding={"width": width})
        model = CTRModel(schema, config, preprocessor.rows)
        whole = None
        for tables in ("float32", "float16", "int8"):
            folder = Path(place) / tables
            served = served_model(model, ExportConfig(tables=tables))
            Signatures(served, preprocessor).save(folder)
            (folder / "assets.extra").mkdir()
            write_tables(folder, served)
            sizes = sizes_by_part(folder)
            found = totals(sizes)
            whole = whole or found["bytes"]
            yield {
                "ids": "hashed" if hashed else "vocabulary",
                "rows": rows,
                "width": width,
                "tables": tables,
                "vocabulary_bytes": sizes["vocabularies"]["bytes"],
                "times_smaller": whole / found["bytes"],
                **found,
            }


def page(rows: list[dict], large: list[dict]) -> list[str]:
    """Both tables, and the verdicts."""
    lines = ["# Precision and size of exports"]
    if rows:
        lines += [
            "",
            f"{rows[0]['environment']}. Changes are on the test split, paired, beside the trained "
            "model, with 95 % intervals over resampled users; a call is one of `serving_default` "
            f"with {CANDIDATES} candidates and the most behaviours.",
            "",
            "| model | tables | dense | KB of tables | times smaller | KB in all | AUC | its change"
            " | change of log loss | largest change of a score | ms a call |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    changed = [
        abs(row["auc_change"])
        for row in rows
        if "auc_change" in row and (row["tables"], row["dense"]) == ("int8", "float32")
    ]
    if changed:
        said = "PASS" if max(changed) < BAR_AUC else "MISS"
        lines += ["", f"int8 tables: AUC within {max(changed):.6f}, bar {BAR_AUC}: {said}."]
    lines += [
        "",
        "## One large table",
        "",
        "DCN-v2 over one feature, the whole SavedModel.",
        "",
        "| ids | rows | width | tables | MB of tables | MB of vocabulary | MB in all "
        "| times smaller |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in large:
        cells = [row["ids"], f"{row['rows']:,}", str(row["width"]), row["tables"]]
        cells += [f"{row[key] / 1e6:,.1f}" for key in ("tables_bytes", "vocabulary_bytes", "bytes")]
        lines.append(f"| {' | '.join(cells)} | {row['times_smaller']:.2f} |")
    for row in large:
        if row["tables"] == "int8":
            times = row["times_smaller"]
            said = "PASS" if times >= BAR else "MISS"
            what = f"int8, {row['ids']} ids, width {row['width']}"
            lines += ["", f"{what}: {times:.2f} times smaller, bar {BAR:g}: {said}."]
    return lines


def _cells(row: dict) -> list[str]:
    cells = [row["model"], row["tables"], row["dense"], f"{row['tables_bytes'] / 1000:,.0f}"]
    cells += [f"{row['tables_float32_bytes'] / row['tables_bytes']:.2f}"]
    cells += [f"{row['bytes'] / 1000:,.0f}"]
    if "auc_change" in row:
        interval = f"[{row['auc_low']:+.6f}, {row['auc_high']:+.6f}]"
        cells += [f"{row['auc_before'] + row['auc_change']:.6f}"]
        cells += [f"{row['auc_change']:+.6f} {interval}", f"{row['log_loss_change']:+.6f}"]
        cells += [f"{row['score_largest']:.5f}"]
    else:
        cells += [""] * 4
    return [*cells, f"{row['call_ms']:.2f}"]


def write(folder: Path, rows: list[dict], large: list[dict]) -> Path:
    """Writes `precision.csv`, `precision_large_table.csv` and `precision.md`; returns that."""
    write_csv(folder / "precision.csv", COLUMNS, rows)
    write_csv(folder / "precision_large_table.csv", LARGE_COLUMNS, large)
    return write_text(folder / "precision.md", "\n".join(page(rows, large)) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--set", action="append", default=[], help="override a key of all configs")
    parser.add_argument("--rows", type=int, default=5_000_000, help="of the large table")
    parser.add_argument("--widths", nargs="*", type=int, default=[16, 32])
    parser.add_argument("--seconds", type=float, default=2.0, help="of calls, each export")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    bound_memory()
    environment = f"{machine()}, TensorFlow {tf.__version__}"
    rows = []
    for name in options.models:
        experiment = load(ROOT / "configs" / MODELS[name], options.set)
        workspace = Workspace(options.workspace.absolute(), experiment)
        stages.fetch(workspace)
        stages.prepare(workspace)
        stages.train(workspace)
        for row in measure(name, workspace, options.seconds):
            rows.append(row | {"environment": environment})
            print(rows[-1], flush=True)
    large = [
        row
        for width in options.widths
        for hashed in (True, False)
        for row in large_table(options.rows, width, hashed)
    ]
    print(write(options.output, rows, large).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
