"""Writes a report: `report.json` and one self-contained HTML page."""

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from ctr_tf.evaluation.curves import Curves
from ctr_tf.evaluation.evaluate import Report
from ctr_tf.evaluation.text import metric_title, note_of, value_text


def write_report(
    folder: str | os.PathLike,
    report: Report,
    curves: Mapping[str, Curves] | None = None,
    title: str = "Evaluation report",
) -> Path:
    """Writes `report.json` and `report.html` into a folder, each whole or not at all.

    Args:
        folder: made when it does not exist.
        report: the result of `evaluate`.
        curves: learning curves by what was trained, such as `Training`, where there are any.
        title: heading of the page.

    Returns:
        The path of the page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    page = render_page(report, curves or {}, title)
    _write(folder / "report.json", json.dumps(report, indent=2, allow_nan=False) + "\n")
    return _write(folder / "report.html", page)


def render_page(report: Report, curves: Mapping[str, Curves], title: str) -> str:
    """The page as HTML, with its style and plots inside: it loads nothing."""
    # Matplotlib takes a second to import, and only a page needs it.
    from ctr_tf.evaluation import plots

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(metric_title=metric_title, value_text=value_text, utc=_utc)
    return environment.get_template("report.html.jinja").render(
        title=title,
        report=report,
        trainings=[(name, plots.learning_curves(own), own.rejects) for name, own in curves.items()],
        tasks=[_task(name, result) for name, result in report["tasks"].items()],
        config_json=json.dumps(report["config"], indent=2),
    )


def _task(name: str, result: dict[str, Any]) -> dict[str, Any]:
    from ctr_tf.evaluation import plots

    frequency, history = result["item_frequency"], result["history_length"]
    overall = result["metrics"]["auc"]["value"]
    return {
        "name": name,
        "counts": result["counts"],
        "rate": _rate(result["counts"]),
        "metrics": [
            (key, metric, note_of(key, metric)) for key, metric in result["metrics"].items()
        ],
        "plots": {
            "calibration": plots.calibration(result["score_bins"]),
            "scores by class": plots.score_histogram(result["score_bins"]),
            "AUC by training frequency of the item": plots.auc_by_bucket(
                frequency["buckets"],
                overall,
                "AUC by item frequency",
                "occurrences of the item in training rows",
            ),
            "AUC by history length": plots.auc_by_bucket(
                history["buckets"],
                overall,
                "AUC by history length",
                "behaviours before the request",
            ),
        },
        "slices": [
            ("AUC by training frequency of the item", "occurrences", frequency),
            ("AUC by history length", "behaviours", history),
        ],
    }


def _utc(date: str) -> str:
    return datetime.fromisoformat(date).strftime("%Y-%m-%d %H:%M UTC")


def _rate(counts: dict[str, int]) -> float | None:
    return counts["positives"] / counts["impressions"] if counts["impressions"] else None


def _write(path: Path, text: str) -> Path:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path
