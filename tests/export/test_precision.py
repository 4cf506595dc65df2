"""Exports in lower precision: what they score, hold and weigh."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from ctr_tf.export.config import ChangeTolerances, ExportConfig
from ctr_tf.export.export import export
from ctr_tf.export.kernels import nodes_without_gpu_kernel, placed_nodes
from ctr_tf.export.precision import served_model
from ctr_tf.export.reload_script import scores
from ctr_tf.export.self_check import ExportError, compare, score_in_process
from ctr_tf.export.signatures import SERVING, USER_TOWER, Signatures
from ctr_tf.export.sizes import sizes_by_part
from ctr_tf.export.table import print_precision
from ctr_tf.export.tables import ExportedTables, check_tables, write_tables
from ctr_tf.schema import Schema
from tests.export.samples import SCHEMAS, build, request

VECTORS = Schema(
    features={
        "poster": {"kind": "vector", "width": 4, "table": "posters.npz"},
        "item_id": {"kind": "categorical"},
    },
    tasks={"click": {"column": "click"}},
)
# Of any size; what is small enough to be refused is tested by itself.
ANY = ChangeTolerances(auc=1, log_loss=1, score=1, mean_score=1)


def labelled(model, preprocessor, requests=40):
    """A batch as `Input.evaluation` makes it, of random requests and labels."""
    raw = request(model.schema, 3, requests, 5, 3)
    rng = np.random.default_rng(4)
    shape = raw["candidates_mask"].shape
    names = np.array([str(i) for i in range(requests)], object)
    return tf.data.Dataset.from_tensors(
        {
            "features": preprocessor({name: tf.constant(v) for name, v in raw.items()}),
            "labels": {t: rng.integers(0, 2, shape).astype("float32") for t in model.schema.tasks},
            "weights": {t: np.ones(shape, "float32") for t in model.schema.tasks},
            "ids": {"request": names, "user": names},
        }
    )


def saved(folder, model, preprocessor, **config):
    """A SavedModel with its tables' names, without what else an export does."""
    config = ExportConfig(**config)
    served = served_model(model, config)
    Signatures(served, preprocessor, config.dense).save(folder / "m")
    (folder / "m" / "assets.extra").mkdir()
    write_tables(folder / "m", served)
    check_tables(folder / "m", model)
    return folder / "m"


def exported(folder, model, preprocessor, **config):
    given = {"check_requests": 2, "warmup_requests": 1, "warmup_candidates": 1, "changes": ANY}
    return export(
        model, preprocessor, folder / "m", ExportConfig(**{**given, **config}),
        [request(model.schema, seed) for seed in range(2)],
        labelled=labelled(model, preprocessor),
    )  # fmt: skip


def score_reloaded(folder, model, raw):
    candidates = {spec.name for spec in model.schema.inputs if spec.side == "candidate"}
    return scores(tf.saved_model.load(str(folder)), raw, candidates)


@pytest.mark.parametrize("tables, shard_rows", [("float16", None), ("int8", None), ("int8", 9)])
def test_an_export_scores_as_the_model_of_the_tables_that_it_holds(tmp_path, tables, shard_rows):
    embedding = {"shard_rows": shard_rows}
    model, preprocessor = build(tmp_path, "deepfm", SCHEMAS["candidates"], embedding=embedding)
    trained = [variable.numpy() for variable in model.variables]
    raw = request(model.schema, 5, 3, 4)
    before = score_in_process(model, preprocessor, raw)
    version = saved(tmp_path, model, preprocessor, tables=tables)
    for variable, value in zip(model.variables, trained, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    found, own = ExportedTables(version), model.embedder.tables
    # First-order weights are tables of width 1.
    kinds = {(spec.width, spec.dtype) for spec in found.specs.values()}
    assert kinds == {(16, tables), (1, "float16")}
    for name in own.specs:
        assert np.abs(found.read(name) - own.table(name)).max() > 0
        own.write(name, 0, found.read(name).astype("float32"))
    expected = score_in_process(model, preprocessor, raw)
    assert compare([expected], [score_reloaded(version, model, raw)], 1e-6) < 1e-6
    assert compare([before], [{"folded": expected}], 1) > 1e-6


@pytest.mark.parametrize(
    "name, tables, dense",
    [("din", "int8", "bfloat16"), ("transformer", "int8", "float16"), ("fm", "float16", "float32")],
)
def test_lower_precision_needs_no_other_kernels_and_one_gather_a_stack(
    tmp_path, name, tables, dense
):
    model, preprocessor = build(tmp_path, name, SCHEMAS["both"])
    served = served_model(model, ExportConfig(tables=tables, dense=dense))
    functions = Signatures(served, preprocessor, dense).functions
    for signature, function in functions.items():
        assert nodes_without_gpu_kernel(function) == [], signature
    gathers = [n for n, _ in placed_nodes(functions[SERVING]) if n.op == "ResourceGather"]
    assert len(gathers) == len(model.embedder.tables.stacks)


@pytest.mark.parametrize("tables, dense", [("int8", "float32"), ("float16", "bfloat16")])
def test_what_training_alone_reads_is_left_out(tmp_path, tables, dense):
    model, preprocessor = build(tmp_path, "two_tower", SCHEMAS["both"])
    served = served_model(model, ExportConfig(tables=tables, dense=dense))
    raw = request(model.schema, 5, 3, 4, 3)
    found, expected = (score_in_process(m, preprocessor, raw) for m in (served, model))
    np.testing.assert_allclose(found["click"], expected["click"], atol=0.1)
    assert np.abs(found["click"] - expected["click"]).max() > 1e-6


@pytest.mark.parametrize("dense", ["float16", "bfloat16"])
def test_dense_weights_are_stored_and_computed_in_half_precision(tmp_path, dense):
    model, preprocessor = build(tmp_path, "din", SCHEMAS["both"])
    version = saved(tmp_path, model, preprocessor, dense=dense)
    reader = tf.train.load_checkpoint(str(version / "variables/variables"))
    kinds = {}
    for name, dtype in reader.get_variable_to_dtype_map().items():
        kinds.setdefault(name.split("/")[0], set()).add(dtype.name)
    # Dice's moving statistics stay, and tables are as they were.
    assert kinds["dense"] == {dense, "float32"} and kinds["tables"] == {"float32"}
    statistics = [v for v in model.variables if "/moving_" in v.path]
    kept = [n for n, d in reader.get_variable_to_dtype_map().items() if d == tf.float32]
    assert len(kept) == len(statistics) + len(model.embedder.tables.weights)
    state = tf.saved_model.load(str(version)).signatures[USER_TOWER].structured_outputs
    assert dense in {value.dtype.name for value in state.values()}
    raw = request(model.schema, 5, 3, 4, 3)
    trained = score_in_process(model, preprocessor, raw)
    difference = compare([trained], [score_reloaded(version, model, raw)], 0.02)
    assert difference > 1e-6


@pytest.mark.parametrize("tables", ["float32", "float16", "int8"])
def test_cached_vectors_are_tables(tmp_path, monkeypatch, tables):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(2).normal(size=(4, 4)).astype("float32")
    np.savez("posters.npz", ids=np.array(["v0", "v1", "v2", "v3"]), vectors=rows)
    model, preprocessor = build(tmp_path, "deepfm", VECTORS)
    version = saved(tmp_path, model, preprocessor, tables=tables)
    found = ExportedTables(version)
    spec = found.specs["poster"]
    assert (spec.rows, spec.width, spec.dtype) == (5, 4, tables)
    vectors = found.read("poster").astype("float32")
    bound = {"float32": 0, "float16": 2**-11 * 4, "int8": 4 / 127 / 2}[tables]
    errors = np.abs(vectors - np.concatenate([np.zeros((1, 4)), rows]))
    assert errors.max() <= bound and (errors.max() > 0) == (tables != "float32")
    model.embedder.vectors["poster"].assign(vectors)
    for name in model.embedder.tables.specs:
        model.embedder.tables.write(name, 0, found.read(name).astype("float32"))
    raw = request(VECTORS, 5, 2, 6) | {"poster": np.array([["v0", "v3", "", "v1", "v2", "?"]] * 2)}
    expected = score_in_process(model, preprocessor, raw)
    assert compare([expected], [score_reloaded(version, model, raw)], 1e-6) < 1e-6


def test_bytes_by_part(tmp_path):
    model, preprocessor = build(tmp_path, "deepfm", SCHEMAS["candidates"])
    version = exported(tmp_path, model, preprocessor, tables="int8", dense="float16")
    found = json.loads((version / "assets.extra/precision.json").read_text())
    assert (found["tables"], found["dense"]) == ("int8", "float16")
    sizes = found["bytes"]
    rows = sum(spec.rows for spec in model.embedder.tables.specs.values()) // 2
    # 16 columns and a scale, and one column of float16.
    assert sizes["tables"] == {"bytes": rows * (18 + 2), "float32_bytes": rows * (64 + 4)}
    assert sizes["dense weights"]["float32_bytes"] == 2 * sizes["dense weights"]["bytes"]
    vocabularies = sum(path.stat().st_size for path in (version / "assets").iterdir())
    assert sizes["vocabularies"] == {"bytes": vocabularies, "float32_bytes": vocabularies}
    whole = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
    own = (version / "assets.extra/precision.json").stat().st_size
    assert sum(part["bytes"] for part in sizes.values()) == whole - own
    assert {task: changes["rows"] for task, changes in found["changes"].items()} == {"click": 160}
    console = Console(record=True, width=120)
    print_precision(version, console)
    shown = console.export_text()
    assert "bytes: tables int8, dense weights float16" in shown and "3.40 times" in shown
    assert "click: 160 rows" in shown and " on average, " in shown


def test_a_large_table_makes_the_whole_a_third(tmp_path):
    schema = Schema(
        features={"item_id": {"kind": "categorical", "encoding": "hashed", "size": 400_000}},
        tasks={"click": {"column": "click"}},
    )
    model, preprocessor = build(tmp_path, "dcn_v2", schema)
    rest, whole = {}, {}
    for tables, row_bytes in (("float32", 64), ("float16", 32), ("int8", 18)):
        served = served_model(model, ExportConfig(tables=tables))
        Signatures(served, preprocessor).save(tmp_path / tables)
        files = (tmp_path / tables).rglob("*")
        whole[tables] = sum(path.stat().st_size for path in files if path.is_file())
        rest[tables] = whole[tables] - 400_001 * row_bytes
    assert whole["float32"] > 3 * whole["int8"]
    # Dense weights and graph are what they were but for some nodes.
    assert max(rest.values()) - min(rest.values()) < 50_000


def test_as_trained_is_described_but_not_measured(tmp_path):
    model, preprocessor = build(tmp_path, "dcn_v2", SCHEMAS["candidates"])
    assert served_model(model, ExportConfig()) is model
    version = export(
        model, preprocessor, tmp_path / "m", ExportConfig(warmup_candidates=1),
        [request(model.schema)],
    )  # fmt: skip
    found = json.loads((version / "assets.extra/precision.json").read_text())
    assert found["changes"] == {} and found["bytes"] == sizes_of(version)
    for part in found["bytes"].values():
        assert part["bytes"] == part["float32_bytes"]


def sizes_of(version):
    """The version's sizes without the file that says them."""
    sizes = sizes_by_part(version)
    own = (version / "assets.extra/precision.json").stat().st_size
    for key in sizes["extra assets"]:
        sizes["extra assets"][key] -= own
    return sizes


def test_beyond_a_tolerance_nothing_is_left(tmp_path):
    model, preprocessor = build(tmp_path, "dcn_v2", SCHEMAS["candidates"])
    with pytest.raises(ExportError, match=r"task 'click': a score changes by .* allows 1e-09"):
        exported(tmp_path, model, preprocessor, tables="int8",
                 changes=ANY.model_copy(update={"score": 1e-9}))  # fmt: skip
    assert not (tmp_path / "m").exists()


def test_a_value_beyond_the_type_leaves_nothing(tmp_path):
    model, preprocessor = build(tmp_path, "dcn_v2", SCHEMAS["candidates"])
    model.embedder.tables.write("c2", 3, np.full((1, 16), 1e6, "float32"))
    with pytest.raises(ExportError, match="table 'c2': float16 cannot hold"):
        exported(tmp_path, model, preprocessor, tables="float16")
    assert not (tmp_path / "m").exists()


def test_lower_precision_needs_labelled_requests(tmp_path):
    model, preprocessor = build(tmp_path, "dcn_v2", SCHEMAS["candidates"])
    with pytest.raises(ValueError, match="labelled must hold the batches"):
        export(model, preprocessor, tmp_path / "m", ExportConfig(tables="int8"),
               [request(model.schema)])  # fmt: skip


def test_a_table_that_differs_by_more_than_its_type_leaves_nothing(tmp_path, monkeypatch):
    model, preprocessor = build(tmp_path, "dcn_v2", SCHEMAS["candidates"])
    save = Signatures.save

    def save_changed(self, folder):
        # A step of row 5 of c1, whose scale stands at its end.
        rows = self.model.embedder.tables.weights[0].value
        rows[5, 0].assign(rows[5, 0] - np.sign(rows[5, 0]).astype("int8"))
        save(self, folder)

    monkeypatch.setattr(Signatures, "save", save_changed)
    monkeypatch.setattr("ctr_tf.export.export.compare", lambda *args: 0.0)
    with pytest.raises(ExportError, match="table 'c1' of the export is not the model's"):
        exported(tmp_path, model, preprocessor, tables="int8")
    assert list((tmp_path / "m").iterdir()) == []


def test_requests_of_all_sizes_take_the_traces_of_the_export(tmp_path, monkeypatch):
    model, preprocessor = build(tmp_path, "din", SCHEMAS["both"])
    traced = []
    for name in ("_preprocess", "_serve", "_user_tower", "_item_tower"):
        own = getattr(Signatures, name)

        def counted(self, features, name=name, own=own):
            traced.append(name)
            return own(self, features)

        monkeypatch.setattr(Signatures, name, counted)
    signatures = Signatures(model, preprocessor)
    assert sorted(traced) == ["_item_tower", *["_preprocess"] * 3, "_serve", "_user_tower"]
    for sizes in [(1, 1, 0), (1, 7, 3), (2, 30, 50), (3, 2, 1)]:
        values = request(model.schema, 0, *sizes)
        for function in signatures.functions.values():
            inputs = function.structured_input_signature[1]
            given = {name: tf.constant(values[name], inputs[name].dtype) for name in inputs}
            values |= {name: value.numpy() for name, value in function(**given).items()}
    assert len(traced) == 6


def test_the_policy_of_what_follows_is_as_before(tmp_path):
    model, _ = build(tmp_path, "dcn_v2", SCHEMAS["candidates"])
    served = served_model(model, ExportConfig(dense="bfloat16"))
    assert served.compute_dtype == "bfloat16" and model.compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"
