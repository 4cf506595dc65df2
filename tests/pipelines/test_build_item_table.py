"""From an export and a catalogue to a table of items, and back into an export."""

import gzip
import json

import grpc
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.data.item_table import ItemTable, ItemTableError
from ctr_tf.data.raw_inputs import request_inputs
from ctr_tf.export.bind_items import bind, main
from ctr_tf.export.bound import BoundModel
from ctr_tf.export.config import ExportConfig
from ctr_tf.export.export import export
from ctr_tf.export.self_check import score_in_process
from ctr_tf.export.tables import ExportedTables
from pipelines import build_item_table
from pipelines.build_item_table import build
from serving.client import Client
from serving.config import ServeConfig
from serving.server import Server
from tests.export.samples import SCHEMAS, request
from tests.export.samples import build as build_model
from tests.serving.test_metrics import page

SCHEMA = SCHEMAS["both"]
ITEMS = {
    str(i): {
        "item_id": 100 + i % 10,
        "genres": [f"v{i % 9}", "v1"][: i % 3],
        "title": f"film {i}",
        "price": i / 7,
    }
    for i in range(20)
}
USER = {
    "user_id": 7, "age": 30.0, "hour": 5, "request_time": 900, "history_item_id": [100, 101],
    "history_genres": [["v1", "v2"], []], "history_time": [1, 2],
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("data"), "din", SCHEMA)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    requests = [request(SCHEMA, seed) for seed in range(2)]
    config = ExportConfig(item_encoder=True, check_requests=1, warmup_candidates=2)
    return export(*model, tmp_path_factory.mktemp("films"), config, requests)


def write_catalogue(path, items, lines=()):
    found = [json.dumps({"item_id": key, "features": own}) for key, own in items.items()]
    with gzip.open(path, "wt") as file:
        file.writelines(f"{line}\n" for line in [*found, *lines])
    return path


@pytest.fixture(scope="module")
def table(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return build(exported, write_catalogue(folder / "catalogue.jsonl.gz", ITEMS), folder, shards=3)


def expected_vectors(model, items):
    built, preprocessor = model
    names = list(SCHEMA.side("candidate"))
    values = {name: [own[name] for own in items] for name in names}
    inputs = request_inputs(SCHEMA, values, only=[*names, "candidates_mask"])
    features = preprocessor({name: tf.constant(value) for name, value in inputs.items()})
    return built.item_encoder(features)[0].numpy()


def test_vectors_are_those_of_the_model(model, table):
    found = ItemTable(table)
    keys, vectors = found.read()
    assert sorted(keys) == sorted(ITEMS) and len(found.manifest.shards) == 3
    names = {part.name for part in found.manifest.parts}
    assert "product/mlp" in names and found.manifest.encoded == 20
    np.testing.assert_allclose(
        vectors, expected_vectors(model, [ITEMS[key] for key in keys]), atol=1e-6
    )
    assert sorted(path.name for path in table.iterdir()) == [
        "items-00000.parquet", "items-00001.parquet", "items-00002.parquet", "manifest.json",
    ]  # fmt: skip


def test_only_what_changed_is_encoded_again(model, exported, table, tmp_path):
    first = build(exported, write_catalogue(tmp_path / "a.gz", ITEMS), tmp_path / "t", shards=2)
    changed = {key: own for key, own in ITEMS.items() if key not in ("3", "4")}
    changed["5"] = {**ITEMS["5"], "price": 99.0}
    changed["new"] = {**ITEMS["6"], "title": "another"}
    lines = ["{", json.dumps({"item_id": "7", "features": ITEMS["8"]})]
    lines += [json.dumps({"item_id": "8x", "features": {**ITEMS["8"], "price": "dear"}})]
    lines += [json.dumps({"item_id": "9x", "features": {"item_id": 1}})]
    lines += [json.dumps({"item_id": None, "features": ITEMS["8"]})]
    lines += [json.dumps({"item_id": "10x", "features": {**ITEMS["8"], "price": 1e39}})]
    catalogue = write_catalogue(tmp_path / "b.gz", changed, lines)
    second = build(exported, catalogue, tmp_path / "t", shards=2)
    assert (first.name, second.name) == ("1", "2")
    manifest = ItemTable(second).manifest
    assert (manifest.encoded, manifest.reused, manifest.removed) == (2, 17, 2)
    assert sum(manifest.rejects.values()) == 6 and manifest.rejects["duplicate item_id"] == 1
    rejects = [
        json.loads(line)
        for path in sorted(second.glob("rejects-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    assert sorted(reject["line"] for reject in rejects) == [20, 21, 22, 23, 24, 25]
    assert "missing genres" in manifest.rejects
    keys, vectors = ItemTable(second).read()
    items = [changed[key] for key in keys]
    np.testing.assert_allclose(vectors, expected_vectors(model, items), atol=1e-6)
    # Nothing to do.
    same = write_catalogue(tmp_path / "c.gz", changed)
    third = build(exported, same, tmp_path / "t", shards=2)
    assert build(exported, same, tmp_path / "t", shards=2) == third


def call(folder, signature, values):
    function = tf.saved_model.load(str(folder)).signatures[signature]
    specs = function.structured_input_signature[1]
    inputs = {name: tf.constant(values[name], spec.dtype) for name, spec in specs.items()}
    return {name: value.numpy() for name, value in function(**inputs).items()}, set(specs)


def asked(keys):
    """Inputs by features, of items of `ITEMS`, and the keys."""
    values = {**USER, **{name: [ITEMS[key][name] for key in keys] for name in ITEMS["0"]}}
    return request_inputs(SCHEMA, values) | {"candidate_keys": np.array([keys], object)}


def test_a_bound_export_scores_by_keys_alone(model, exported, table, tmp_path):
    bound = bind(exported, table, tmp_path / "keyed")
    assert bound == tmp_path / "keyed" / "1"
    inputs = asked(["3", "11", "0"])
    expected = score_in_process(*model, {n: x for n, x in inputs.items() if n != "candidate_keys"})
    found, names = call(bound, "serving_default", inputs)
    assert names.isdisjoint(ITEMS["0"]) and "candidate_keys" in names
    state, _ = call(bound, "user_tower", inputs)
    by_towers, _ = call(bound, "item_tower", {**inputs, **state})
    for task in ("click", "like"):
        np.testing.assert_allclose(found[task], expected[task], atol=1e-6)
        np.testing.assert_allclose(by_towers[task], expected[task], atol=1e-6)
    assert found["unknown_items"].tolist() == [[False] * 3]
    # Its files say what is in them.
    own, others = ExportedTables(bound), ExportedTables(exported)
    for name in others.specs:
        np.testing.assert_array_equal(own.read(name), others.read(name))
    extra = {path.name for path in (bound / "assets.extra").iterdir()}
    assert extra.isdisjoint({"item_encoder.json", "precision.json"})
    warmup = bound / "assets.extra" / "tf_serving_warmup_requests"
    counts = [sum(1 for _ in tf.data.TFRecordDataset(str(path))) for path in (warmup,)]
    assert counts[0] > 0 and counts[0] % 3 == 0


def test_unknown_keys_are_told_and_scored(model, exported, table, tmp_path):
    inputs = asked(["3", "11", "0"])
    expected = score_in_process(*model, {n: x for n, x in inputs.items() if n != "candidate_keys"})
    inputs["candidate_keys"] = np.array([["3", "nobody", "0"]], object)
    found, _ = call(
        bind(exported, table, tmp_path / "keyed", "features"), "serving_default", inputs
    )
    np.testing.assert_allclose(found["click"], expected["click"], atol=1e-6)
    assert found["unknown_items"].tolist() == [[False, True, False]]
    found, _ = call(bind(exported, table, tmp_path / "keyed"), "serving_default", inputs)
    assert found["unknown_items"].tolist() == [[False, True, False]]
    # Its id is out of the vocabulary, as training has seen ids.
    nothing = {"item_id": 999_999, "genres": [], "title": None, "price": None}
    values = {**USER, **{name: [value] for name, value in nothing.items()}}
    unknown = score_in_process(*model, request_inputs(SCHEMA, values))
    np.testing.assert_allclose(found["click"][0, 1], unknown["click"][0, 0], atol=1e-6)
    np.testing.assert_allclose(found["click"][0, ::2], expected["click"][0, ::2], atol=1e-6)


def test_a_client_asks_by_keys(model, exported, table, tmp_path):
    bind(exported, table, tmp_path / "films")
    inputs = asked(["3", "11", "0"])
    expected = score_in_process(*model, {n: x for n, x in inputs.items() if n != "candidate_keys"})
    server = Server("films", tmp_path / "films", ServeConfig(port=0, metrics_port=0))
    server.start()
    try:
        target = f"127.0.0.1:{server.port}"
        with Client(target, "films", SCHEMA) as client:
            client.score(USER, {"candidate_keys": ["3", "new", "newer"]})
        assert page(server)["ctr_tf_unknown_items_total", "serving_default"] == 2
        for most in (2000, 2):
            with Client(target, "films", SCHEMA, most_candidates=most) as client:
                client.wait()
                found = client.score(USER, {"candidate_keys": ["3", "11", "0"]})
                np.testing.assert_allclose(found["click"], expected["click"][0], atol=1e-6)
                assert found["unknown_items"].tolist() == [False] * 3
                with pytest.raises(grpc.RpcError, match="axis N has size 3, but 2 in"):
                    inputs = request_inputs(SCHEMA, USER, {"candidate_keys": ["3", "11", "0"]})
                    inputs["candidates_mask"] = inputs["candidates_mask"][:, :2]
                    client.predict(None, inputs)
    finally:
        server.stop()


def test_what_cannot_be_built_or_bound(model, exported, table, tmp_path, capsys):
    other = export(*model, tmp_path / "films", ExportConfig(check_requests=1), [request(SCHEMA, 0)])
    catalogue = write_catalogue(tmp_path / "catalogue.gz", ITEMS)
    with pytest.raises(ItemTableError, match="no item encoder; export with `export.item_encoder"):
        build(other, catalogue, tmp_path / "t")
    with pytest.raises(ItemTableError, match="absent.gz: no such file"):
        build(exported, tmp_path / "absent.gz", tmp_path / "t")
    with pytest.raises(ItemTableError, match="no usable item"):
        build(exported, write_catalogue(tmp_path / "bad.gz", {}, ["{"]), tmp_path / "t")
    arguments = ["--export", str(exported), "--catalogue", str(catalogue), "--shards", "0"]
    assert build_item_table.main([*arguments, "--output", str(tmp_path / "t")]) == 2
    assert "shards must be at least 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "t").exists() or not list((tmp_path / "t").iterdir())
    manifest = json.loads((table / "manifest.json").read_text())
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "manifest.json").write_text(json.dumps(manifest | {"encoder": "another"}))
    with pytest.raises(ItemTableError, match="made by another export"):
        bind(exported, tmp_path / "5", tmp_path / "keyed")
    with pytest.raises(ValueError, match="output must be another folder than that of the export"):
        bind(exported, table, exported.parent)
    arguments = ["--export", str(exported), "--output", str(tmp_path / "keyed")]
    assert main([*arguments, "--table", str(tmp_path)]) == 2
    assert "no table of items" in capsys.readouterr().err


def test_a_bound_model_that_scores_otherwise_never_appears(exported, table, tmp_path, monkeypatch):
    made = BoundModel.__init__

    def shifted(self, loaded, schema, path, vectors, unknown):
        # As if the keys' file and the vectors were of different order.
        made(self, loaded, schema, path, np.roll(vectors, 1, axis=0), unknown)

    monkeypatch.setattr(BoundModel, "__init__", shifted)
    with pytest.raises(ItemTableError, match="model's (click|like) differs from its export's"):
        bind(exported, table, tmp_path / "films")
    assert list((tmp_path / "films").iterdir()) == []
