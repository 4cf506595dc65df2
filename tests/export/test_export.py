"""Export: folding, the fresh-process check, versions, warm-up, GPU kernels."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from ctr_tf.export.config import ExportConfig
from ctr_tf.export.export import export
from ctr_tf.export.item_encoder import ENCODED_ITEM_TOWER, ITEM_ENCODER
from ctr_tf.export.kernels import nodes_without_gpu_kernel, placed_nodes
from ctr_tf.export.reload_script import scores
from ctr_tf.export.self_check import (
    ExportError,
    compare,
    reload_and_score,
    score_in_process,
)
from ctr_tf.export.signatures import ITEM_TOWER, SERVING, USER_TOWER, Signatures
from ctr_tf.export.versions import new_version, prune, versions
from ctr_tf.schema import Schema
from tests.export.samples import CASES, HEADS, SCHEMAS, build, request


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request, tmp_path_factory):
    """A model, its preprocessor and its reloaded SavedModel."""
    name, shape, *kinds = request.param
    folder = tmp_path_factory.mktemp("saved")
    given = {"heads": HEADS[kinds[0]]} if kinds else {}
    model, preprocessor = build(folder, name, SCHEMAS[shape], **given)
    signatures = Signatures(model, preprocessor)
    signatures.save(folder / "model")
    return model, preprocessor, signatures, tf.saved_model.load(str(folder / "model"))


def test_reloaded_folded_tiled_and_two_calls_agree(case):
    model, preprocessor, _, reloaded = case
    candidates = {s.name for s in model.schema.inputs if s.side == "candidate"}
    for seed, (batch, count, length) in enumerate([(1, 5, 3), (2, 3, 1), (1, 1, 0)]):
        raw = request(model.schema, seed, batch, count, length)
        expected = score_in_process(model, preprocessor, raw)
        for way, found in scores(reloaded, raw, candidates).items():
            for task in model.heads.outputs:
                assert found[task].shape == (batch, count), way
                np.testing.assert_allclose(found[task], expected[task], atol=1e-6, err_msg=way)
        mask = raw["candidates_mask"]
        for task in model.heads.outputs:
            assert (expected[task][~mask] == 0).all()
            assert ((expected[task][mask] > 0) & (expected[task][mask] < 1)).all()


def test_every_dense_op_has_a_gpu_kernel(case):
    _, _, signatures, _ = case
    for name, function in signatures.functions.items():
        assert nodes_without_gpu_kernel(function) == [], name
    nodes = [(node.op, cpu) for node, cpu in placed_nodes(signatures.functions[SERVING])]
    assert ("MatMul", False) in nodes or ("BatchMatMulV2", False) in nodes
    # What is pinned is preprocessing alone: no table is gathered and nothing multiplied there.
    dense = {"MatMul", "BatchMatMulV2", "ResourceGather"}
    assert {cpu for op, cpu in nodes if op in dense} == {False}
    tables = {cpu for op, cpu in nodes if op in ("LookupTableFindV2", "StringToHashBucketFast")}
    assert tables == {True}


def test_names_dtypes_and_shapes_of_the_signatures(case):
    model, _, _, reloaded = case
    inputs = {
        name: function.structured_input_signature[1]
        for name, function in reloaded.signatures.items()
    }
    assert set(inputs[SERVING]) == {spec.name for spec in model.schema.inputs}
    assert set(inputs[USER_TOWER]) == {spec.name for spec in model.user_inputs}
    for spec in model.schema.inputs:
        found = inputs[SERVING][spec.name]
        assert found.dtype == spec.dtype and found.shape.rank == len(spec.axes)
    state = reloaded.signatures[USER_TOWER].structured_outputs
    assert set(state) == {f"state_{part}" for part in model.state_spec()}
    assert set(inputs[ITEM_TOWER]) - set(state) == {
        spec.name for spec in [*model.context_inputs, *model.item_inputs]
    }
    for name in (SERVING, ITEM_TOWER):
        outputs = reloaded.signatures[name].structured_outputs
        assert {task: value.dtype for task, value in outputs.items()} == dict.fromkeys(
            model.heads.outputs, tf.float32
        )


def test_padding_changes_nothing(tmp_path):
    model, preprocessor = build(tmp_path, "din", SCHEMAS["both"])
    function = Signatures(model, preprocessor).functions[SERVING]
    raw = request(model.schema, candidates=4, length=4)
    changed = {name: value.copy() for name, value in raw.items()}
    changed["item_id"][:, -1] = 104
    changed["history_item_id"][:, -1] = 103

    def score(values):
        return function(**{name: tf.constant(v) for name, v in values.items()})["click"].numpy()

    np.testing.assert_array_equal(score(raw), score(changed))
    changed["history_item_id"][:, 0] = 103
    assert np.abs(score(raw) - score(changed)).max() > 1e-4


def test_a_cached_table_is_exported(tmp_path):
    table = np.arange(8, dtype="float32").reshape(4, 2) / 8
    np.savez(tmp_path / "posters.npz", ids=np.array(["v0", "v1", "v2", "v3"]), vectors=table)
    schema = Schema(
        features={
            "poster": {"kind": "vector", "width": 2, "table": str(tmp_path / "posters.npz")},
            "item_id": {"kind": "categorical"},
        },
        tasks={"click": {"column": "click"}},
    )
    model, preprocessor = build(tmp_path, "deepfm", schema)
    signatures = Signatures(model, preprocessor)
    assert nodes_without_gpu_kernel(signatures.functions[SERVING]) == []
    signatures.save(tmp_path / "m")
    (tmp_path / "posters.npz").unlink()
    raw = {
        "poster": np.array([["v0", "v3", "absent", "v3"]], object),
        "item_id": np.array([["v1"] * 4], object),
        "candidates_mask": np.ones((1, 4), bool),
    }
    expected = score_in_process(model, preprocessor, raw)
    found = scores(tf.saved_model.load(str(tmp_path / "m")), raw, set(raw))
    assert compare([expected], [found], 1e-6) <= 1e-6
    assert len(set(expected["click"][0].tolist())) == 3, "two candidates share a poster"


def test_each_part_of_the_candidates_has_an_item_tower(tmp_path):
    model, preprocessor = build(tmp_path, "din", SCHEMAS["both"])
    raw = {n: tf.constant(x) for n, x in request(model.schema, batch=2, candidates=5).items()}
    one, three = (
        Signatures(model, preprocessor, item_encoder=True, candidate_parts=parts).functions
        for parts in (1, 3)
    )

    def products(functions, name):
        return sum(node.op == "MatMul" for node, _ in placed_nodes(functions[name]))

    assert products(three, USER_TOWER) == products(one, USER_TOWER)
    for name in (ITEM_TOWER, ENCODED_ITEM_TOWER):
        # What is made of the candidates alone is not in parts.
        assert products(three, name) > 2 * products(one, name) > 8

    def call(functions, name, inputs):
        names = functions[name].structured_input_signature[1]
        return functions[name](**{n: inputs[n] for n in names})

    given = {**raw, **call(one, USER_TOWER, raw), **call(one, ITEM_ENCODER, raw)}
    expected = call(one, SERVING, given)["click"]
    assert expected.shape == (2, 5)
    for name in (SERVING, ITEM_TOWER, ENCODED_ITEM_TOWER):
        np.testing.assert_allclose(call(three, name, given)["click"], expected, atol=1e-6)


def test_a_state_depends_on_declared_context(tmp_path):
    model, preprocessor = build(tmp_path, "dcn_v2", SCHEMAS["both"], user_context=["hour"])
    signatures = Signatures(model, preprocessor)
    functions = signatures.functions
    assert "hour" not in functions[ITEM_TOWER].structured_input_signature[1]
    raw = request(model.schema)

    def state(values):
        names = functions[USER_TOWER].structured_input_signature[1]
        found = functions[USER_TOWER](**{name: tf.constant(values[name]) for name in names})
        return np.concatenate([part.numpy().ravel() for part in found.values()])

    assert np.abs(state(raw) - state({**raw, "hour": raw["hour"] + 1})).max() > 1e-4


def test_a_feature_named_as_a_state_input_is_refused(tmp_path):
    schema = Schema(
        features={"state_empty": {"kind": "numeric"}}, tasks={"click": {"column": "click"}}
    )
    with pytest.raises(ValueError, match="'state_empty' has the name of a state input"):
        Signatures(*build(tmp_path, "dcn_v2", schema))


def test_export_writes_a_whole_version(tmp_path):
    model, preprocessor = build(tmp_path / "data", "din", SCHEMAS["both"], user_context=["hour"])
    (tmp_path / "config.yaml").write_text("model: din\n")
    requests = [request(model.schema, seed) for seed in range(3)]
    folder = export(
        model, preprocessor, tmp_path / "films",
        ExportConfig(check_requests=2, warmup_requests=2, warmup_candidates=3),
        requests, {"config.yaml": tmp_path / "config.yaml"},
    )  # fmt: skip
    assert folder == tmp_path / "films" / "1"
    assert [p.name for p in (tmp_path / "films").iterdir()] == ["1"]
    assert (folder / "saved_model.pb").exists()
    vocabulary = (folder / "assets" / "item_id.txt").read_text().split()
    assert vocabulary == [str(i) for i in range(100, 109)]
    extra = folder / "assets.extra"
    assert (extra / "config.yaml").read_text() == "model: din\n"
    found = Schema.from_json((extra / "schema.json").read_text())
    assert found.fingerprint == model.schema.fingerprint
    state = json.loads((extra / "state.json").read_text())
    assert state["state"]["history_mask"] == {
        "input": "state_history_mask", "shape": [None, None], "dtype": "bool",
    }  # fmt: skip
    assert state["user_context"] == ["hour"] and state["tasks"] == ["click", "like"]
    assert {"user_id", "history_mask", "hour"} < set(state["user_inputs"])
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(extra / "tf_serving_warmup_requests"))
    ]
    calls = [log.predict_log.request for log in logs]
    signatures = [call.model_spec.signature_name for call in calls]
    # N is 1, 2 or 3, L 0 to 50: 0, 1, 2, 4, 8, 16, 32 or 50.
    assert signatures == [SERVING, USER_TOWER, ITEM_TOWER] * (3 * 8)
    assert calls[0].model_spec.name == "films"
    replayed = tf.make_ndarray(calls[-1].inputs["item_id"])
    np.testing.assert_array_equal(replayed, requests[1]["item_id"][:, :3])


def test_a_differing_reload_leaves_nothing(tmp_path, monkeypatch):
    model, preprocessor = build(tmp_path / "data", "dcn_v2", SCHEMAS["candidates"])
    save = Signatures.save

    def save_changed(self, folder):
        bias = next(v for v in self.model.variables if v.path.endswith("heads/click/bias"))
        kept = bias.numpy()
        bias.assign(kept + 0.5)
        save(self, folder)
        bias.assign(kept)

    monkeypatch.setattr(Signatures, "save", save_changed)
    with pytest.raises(ExportError, match=r"by up to 0\.\d+ \(request 0, task 'click', folded"):
        export(model, preprocessor, tmp_path / "m", ExportConfig(), [request(model.schema)])
    assert list((tmp_path / "m").iterdir()) == []


def test_a_model_that_does_not_load_is_an_error(tmp_path):
    with pytest.raises(ExportError, match="could not be reloaded(.|\n)*does not exist"):
        reload_and_score(tmp_path / "absent", SCHEMAS["candidates"], [])


def test_compare_names_the_worst():
    expected = [{"click": np.array([[0.5]])}, {"click": np.array([[0.25, 0.5]])}]
    found = [
        {"folded": {"click": np.array([[0.5]])}},
        {"rows": {"click": np.array([[0.25, 0.625]])}},
    ]
    assert compare(expected, found, 0.125) == 0.125
    with pytest.raises(ExportError, match=r"0\.125 \(request 1, task 'click', rows scores\)"):
        compare(expected, found, 0.1)
    found[0]["folded"]["click"][0] = np.nan
    with pytest.raises(ExportError, match="request 0, task 'click': not finite"):
        compare(expected, found, 0.5)


def test_half_precision_exports_float32_scores(tmp_path):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model, preprocessor = build(tmp_path, "deepfm", SCHEMAS["both"])
    finally:
        keras.mixed_precision.set_global_policy("float32")
    raw = request(model.schema)
    Signatures(model, preprocessor).save(tmp_path / "m")
    reloaded = tf.saved_model.load(str(tmp_path / "m"))
    expected = score_in_process(model, preprocessor, raw)
    found = scores(reloaded, raw, {"item_id", "genres", "title", "price", "candidates_mask"})
    assert found["folded"]["click"].dtype == np.float32
    assert compare([expected], [found], 0.02) <= 0.02
    assert model.compute_dtype == "bfloat16"
    assert "bfloat16" in {dtype for _, dtype in model.state_spec().values()}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda raw: [], "at least one request"),
        (lambda raw: [raw, {**raw, "x": raw["i1"]}], r"requests\[1\] has the unknown input 'x'"),
        (lambda raw: [{n: v for n, v in raw.items() if n != "c2"}], r"\[0\] lacks input 'c2'"),
    ],
)
def test_bad_requests(tmp_path, change, message):
    model, preprocessor = build(tmp_path / "data", "dcn_v2", SCHEMAS["candidates"])
    with pytest.raises(ValueError, match=message):
        export(model, preprocessor, tmp_path / "m", ExportConfig(), change(request(model.schema)))
    assert not (tmp_path / "m").exists()


def test_versions(tmp_path):
    for name in ("1", "2", "10", "007", ".writing-3-1", "latest"):
        (tmp_path / name).mkdir()
    (tmp_path / "11").write_text("a file")
    assert versions(tmp_path) == [1, 2, 10]
    assert new_version(tmp_path, None) == 11
    assert new_version(tmp_path, 3) == 3
    with pytest.raises(ValueError, match=r"version 2 is already in .* \(versions: \[1, 2, 10\]\)"):
        new_version(tmp_path, 2)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        new_version(tmp_path, 0)
    (tmp_path / ".removed-1" / "half").mkdir(parents=True)
    assert prune(tmp_path, keep=1, spare=2) == [1]
    assert not list(tmp_path.glob(".removed-*"))
    assert versions(tmp_path) == [2, 10]
