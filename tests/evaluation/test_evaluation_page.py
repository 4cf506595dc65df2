"""The page, the table and the learning curves."""

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from ctr_tf.evaluation import plots
from ctr_tf.evaluation.config import EvaluationConfig
from ctr_tf.evaluation.curves import Curves, read_curves
from ctr_tf.evaluation.evaluate import evaluate
from ctr_tf.evaluation.page import write_report
from ctr_tf.evaluation.predictions import Predictions
from ctr_tf.evaluation.table import print_report


@pytest.fixture(name="report", scope="module")
def make_report():
    rng = np.random.default_rng(2)
    scores = rng.random(400)
    predictions = Predictions.from_columns(
        {
            "request_id": [f"r{i // 4}" for i in range(400)],
            "user_id": [f"u{i // 20}" for i in range(400)],
            "time": np.arange(400),
            "item_id": [f"i{i % 30}" for i in range(400)],
            "item_frequency": np.arange(400) % 30,
            "history_length": np.arange(400) // 20,
            "label.<b>&": (rng.random(400) < scores).astype(float),
            "weight.<b>&": np.ones(400),
            "score.<b>&": scores,
        }
    )
    return evaluate(predictions, EvaluationConfig(bootstrap_replicates=10))


class Page(HTMLParser):
    """Collects the addresses, images and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.alternatives, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [attributes[k] for k in ("src", "href") if k in attributes]
        if tag == "img":
            self.alternatives.append(attributes["alt"])

    def handle_data(self, data):
        self.text += data


RECORDS = [
    {"step": step, "epoch": 0, "split": split, "loss": 1 / step, "click_auc": 0.5 + step / 100}
    for split in ("train", "validation")
    for step in (1, 2, 3)
]


def test_page_is_self_contained_and_holds_the_numbers(report, tmp_path):
    path = write_report(tmp_path / "run", report, {"Training": Curves(RECORDS)}, title="A <run>")
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html", "report.json"]
    assert json.loads((path.parent / "report.json").read_text()) == report
    page = Page(path.read_text())
    assert len(page.alternatives) == 5
    assert all(a.startswith("data:image/svg+xml;base64,") for a in page.addresses)
    assert "A <run>" in page.text
    assert "Task: <b>&" in page.text
    for metric in report["tasks"]["<b>&"]["metrics"].values():
        assert f"{metric['value']:.4f}" in page.text
    assert "400" in page.text


def test_every_task_has_a_line_of_its_own():
    records = [r | {"buy_loss": 0.3, "like_loss": 0.4} for r in RECORDS if r["split"] == "train"]
    drawn = plots.learning_curves(Curves([*records, *RECORDS[3:]]))
    text = base64.b64decode(drawn.partition(",")[2]).decode()
    for label in ("loss, train", "loss, validation", "buy loss, train", "like loss, train"):
        assert f"<!-- {label} -->" in text


def test_same_report_same_page(report, tmp_path):
    first, second = (
        write_report(tmp_path / name, report, {"Training": Curves(RECORDS)}).read_bytes()
        for name in "ab"
    )
    assert first == second


def test_page_of_undefined_metrics_says_why(tmp_path):
    predictions = Predictions.from_columns(
        {"request_id": ["a", "b"], "label.t": [1, 1], "weight.t": [1, 1], "score.t": [0.5, 0.5]}
    )
    page = Page(write_report(tmp_path, evaluate(predictions)).read_text())
    assert "one class only: 2 positives, 0 negatives" in page.text
    assert "Requests without times" in page.text
    assert len(page.alternatives) == 2


def test_page_of_a_task_without_valid_rows(tmp_path):
    predictions = Predictions.from_columns(
        {"request_id": ["a"], "label.t": [None], "weight.t": [0], "score.t": [0.5]}
    )
    page = Page(write_report(tmp_path, evaluate(predictions)).read_text())
    assert page.alternatives == []
    assert "undefined" in page.text


def test_table_holds_values_intervals_and_notes(report):
    console = Console(width=160, record=True, file=io.StringIO())
    print_report(report, console)
    text = console.export_text()
    metrics = report["tasks"]["<b>&"]["metrics"]
    auc = metrics["auc"]
    row = next(line for line in text.splitlines() if re.match(r"\W+AUC ", line))
    assert f"{auc['value']:.4f}" in row
    assert f"{auc['low']:.4f} to {auc['high']:.4f}" in row
    assert f"{metrics['gauc']['details']['users']} users" in text
    assert "6 least frequent of 30 items" in text


def test_curves_keep_the_last_record_of_a_step_and_reject_torn_lines(tmp_path):
    path = tmp_path / "history.jsonl"
    lines = [json.dumps(record) for record in [*RECORDS, RECORDS[1] | {"loss": 9.0}]]
    path.write_text("\n".join([*lines, "[1]", '{"epoch": 3}', '{"step": 4, "spl']))
    curves = read_curves(path)
    assert curves.series("loss")["train"] == ([1, 2, 3], [1.0, 9.0, 1 / 3])
    assert curves.series("click_auc")["validation"] == ([1, 2, 3], [0.51, 0.52, 0.53])
    assert [reject.split(":")[0] for reject in curves.rejects] == ["line 8", "line 9", "line 10"]
    assert curves.names_ending("_auc") == ["click_auc"]
    assert read_curves(tmp_path / "absent.jsonl") == Curves()


def test_import_needs_neither_matplotlib_nor_tensorflow():
    code = (
        "import sys, ctr_tf.evaluation.evaluate, ctr_tf.evaluation.page, ctr_tf.metrics; "
        "print({'matplotlib', 'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
