"""The export stage: what lower precision is measured on."""

from types import SimpleNamespace

import pytest

from ctr_tf import stages
from ctr_tf.config import load
from ctr_tf.workspace import Workspace

CONFIG = """\
schema:
  features: {item_id: {kind: categorical}}
  tasks: {click: {column: click}}
prepare: {impressions: {path: LOG}, split: {by: none}}
model: {name: dcn_v2}
"""


class Batches(list):
    """Numbers in the place of a dataset's batches."""

    def take(self, count):
        return self[:count]


@pytest.mark.parametrize("tables, measured", [("float32", None), ("int8", [0, 1, 2, 3])])
def test_whole_batches_of_the_validation_split(tmp_path, monkeypatch, tables, measured):
    log = tmp_path / "log.csv"
    log.write_text("item_id,click\na,1\n")
    path = tmp_path / "local.yaml"
    path.write_text(CONFIG.replace("LOG", str(log)))
    found = Workspace(
        tmp_path, load(path, [f"export.tables={tables}", "export.measure_requests=10"])
    )
    splits, given = [], []

    def run(model, preprocessor, folder, config, requests, extra_files, labelled=None):
        given.append(labelled)
        (folder / "1").mkdir(parents=True)
        return folder / "1"

    # Ten requests, three a batch.
    data = SimpleNamespace(
        preprocessor=None,
        raw_requests=lambda split, count: [],
        requests_per_batch={"validation": 3}.get,
        evaluation={"validation": Batches(range(9))}.get,
    )
    monkeypatch.setattr("ctr_tf.export.export.export", run)
    monkeypatch.setattr(stages, "open_data", lambda _: data)
    monkeypatch.setattr(stages, "trained_model", lambda *_: None)
    monkeypatch.setattr(stages, "check_trained", lambda _: None)
    monkeypatch.setattr(stages, "check_prepared", lambda _, split: splits.append(split))
    stages.export(found)
    assert given == [measured]
    assert splits == ["test", "validation"][: 1 + (measured is not None)]
