"""The tables of an export: by name, whatever variables they lie in."""

import json

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.export import tables as export_tables
from ctr_tf.export.config import ExportConfig
from ctr_tf.export.export import export
from ctr_tf.export.self_check import ExportError
from ctr_tf.export.signatures import Signatures, saved_name
from ctr_tf.export.tables import ExportedTables
from ctr_tf.schema import Schema
from tests.export.samples import SCHEMAS, build, request

LAYOUTS = [None, 7, 1]


def written(folder, shard_rows, model="deepfm", schema="both", values=None, **embedding):
    """A model of that layout, of those values by table, and its SavedModel's folder."""
    config = {"shard_rows": shard_rows, **embedding}
    made, preprocessor = build(folder / "data", model, SCHEMAS[schema], embedding=config)
    for name, value in (values or {}).items():
        made.embedder.tables.write(name, 0, value)
    version = export(
        made, preprocessor, folder / "m", ExportConfig(check_requests=1, warmup_requests=1),
        [request(made.schema)],
    )  # fmt: skip
    return made, version


def test_the_tables_of_an_export_do_not_depend_on_the_layout(tmp_path):
    found, variables, values = [], [], None
    for shard_rows in LAYOUTS:
        model, version = written(tmp_path / str(shard_rows), shard_rows, values=values)
        tables = ExportedTables(version)
        own = model.embedder.tables
        values = {name: own.table(name) for name in own.specs}
        found.append({name: tables.read(name) for name in tables.specs})
        variables.append({p.variable for table in tables.specs.values() for p in table.pieces})
        for name, spec in own.specs.items():
            np.testing.assert_array_equal(found[-1][name], own.table(name))
            saved = tables.specs[name]
            assert (saved.rows, saved.width, saved.dtype) == (spec.rows, spec.width, spec.dtype)
            assert found[-1][name].shape == (spec.rows, spec.width)
        assert len(variables[-1]) == len(own.weights)
    # One variable a width, then shards.
    assert len(variables[0]) == 2 < len(variables[1]) < len(variables[2])
    for others in found[1:]:
        assert list(others) == list(found[0])
        for name, value in found[0].items():
            np.testing.assert_array_equal(others[name], value)


def test_what_the_asset_says(tmp_path):
    model, version = written(tmp_path, 30, "dcn_v2", "candidates", width=4)
    described = json.loads((version / "assets.extra/tables.json").read_text())
    # A missing value and 20 hashes; a missing value, 9 words and what is out of the vocabulary.
    assert model.rows == {"c1": 21, "c2": 11}
    kind = {"width": 4, "dtype": "float32"}
    names = [saved_name(0), saved_name(1)]
    # 32 rows in shards of 16.
    pieces = [(names[0], 0, 16), (names[1], 0, 5), (names[1], 5, 11)]
    pieces = [dict(zip(("variable", "start", "rows"), piece)) for piece in pieces]
    assert described == {
        "c1": {"rows": 21, **kind, "pieces": pieces[:2]},
        "c2": {"rows": 11, **kind, "pieces": pieces[2:]},
    }
    assert dict(tf.train.list_variables(str(version / "variables/variables")))[names[1]] == [16, 4]


@pytest.mark.parametrize("shard_rows", [None, 9])
def test_half_precision_tables(tmp_path, shard_rows):
    model, version = written(tmp_path, shard_rows, "dcn_v2", "candidates", dtype="bfloat16")
    tables = ExportedTables(version)
    assert {table.dtype for table in tables.specs.values()} == {"bfloat16"}
    for name in model.embedder.tables.specs:
        np.testing.assert_array_equal(tables.read(name), model.embedder.tables.table(name))


def test_a_model_without_tables(tmp_path):
    schema = Schema(features={"i1": {"kind": "numeric"}}, tasks={"click": {"column": "click"}})
    model, preprocessor = build(tmp_path / "data", "dcn_v2", schema)
    version = export(model, preprocessor, tmp_path / "m", ExportConfig(), [request(schema)])
    assert ExportedTables(version).specs == {}


def test_an_unknown_table(tmp_path):
    _, version = written(tmp_path, None, "dcn_v2", "candidates")
    with pytest.raises(KeyError, match=r"no table 'c3'; the export has \['c1', 'c2'\]"):
        ExportedTables(version).read("c3")


def test_a_differing_table_leaves_nothing(tmp_path, monkeypatch):
    """A row that no request of the self-check reads differs too."""
    save = Signatures.save

    def save_changed(self, folder):
        stack = self.model.embedder.tables.weights[0]
        kept = stack.numpy()
        # Row 5 of c1: the sample's hashes are others.
        stack.value[5].assign(kept[5] + 1)
        save(self, folder)
        stack.assign(kept)

    monkeypatch.setattr(Signatures, "save", save_changed)
    monkeypatch.setattr("ctr_tf.export.export.compare", lambda *args: 0.0)
    with pytest.raises(ExportError, match="table 'c1' of the export is not the model's"):
        written(tmp_path, None, "dcn_v2", "candidates")
    assert list((tmp_path / "m").iterdir()) == []


def test_a_missing_table_leaves_nothing(tmp_path, monkeypatch):
    saved = export_tables.saved_tables

    def without_the_last(model):
        return dict(list(saved(model).items())[:-1])

    monkeypatch.setattr(export_tables, "saved_tables", without_the_last)
    with pytest.raises(ExportError, match=r"has tables \['c1'\], the model \['c1', 'c2'\]"):
        written(tmp_path, None, "dcn_v2", "candidates")
    assert list((tmp_path / "m").iterdir()) == []
