"""Candidate indices: answers against all products in NumPy, over the wire, and what is refused."""

import asyncio
import gzip
import json
import sys

import grpc
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.data.item_table import ItemTable, ItemTableError
from ctr_tf.data.raw_inputs import request_inputs
from ctr_tf.export.config import ExportConfig
from ctr_tf.export.export import export
from pipelines.build_item_table import build as build_table
from serving.candidate_index import top_k
from serving.candidate_index.__main__ import main
from serving.candidate_index.build import build
from serving.candidate_index.top_k import UnavailableError
from serving.client import AsyncClient, Client
from serving.config import ServeConfig
from serving.server import Server
from tests.data.test_raw_inputs import VALUES
from tests.export.samples import SCHEMAS, request
from tests.export.samples import build as build_model

SCHEMA = SCHEMAS["both"]
ITEMS = {
    f"film {i}": {
        "item_id": 100 + i % 10,
        "genres": [f"v{i % 9}", "v1"][: i % 3],
        "title": f"film {i}",
        "price": i / 7,
    }
    for i in range(30)
}


def exported_model(name, data, folder):
    model = build_model(data, name, SCHEMA)
    requests = [request(SCHEMA, seed) for seed in range(2)]
    config = ExportConfig(item_encoder=True, check_requests=1, warmup_candidates=2)
    return model, export(*model, folder, config, requests)


def encoded(version, folder):
    path = folder / "catalogue.jsonl.gz"
    with gzip.open(path, "wt") as file:
        for key, own in ITEMS.items():
            file.write(json.dumps({"item_id": key, "features": own}) + "\n")
    return build_table(version, path, folder / "items", shards=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return exported_model(
        "two_tower", tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("towers")
    )


@pytest.fixture(scope="module")
def exported(trained):
    return trained[1]


@pytest.fixture(scope="module")
def table(exported, tmp_path_factory):
    return encoded(exported, tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def best(trained):
    """Keys of all items, best first, and the logits that the model has for them as candidates."""
    model, preprocessor = trained[0]
    user = {n: v for n, v in VALUES.items() if n not in SCHEMA.side("candidate")}
    columns = {name: [item[name] for item in ITEMS.values()] for name in SCHEMA.side("candidate")}
    raw = request_inputs(SCHEMA, {**user, **columns})
    features = preprocessor({name: tf.constant(value) for name, value in raw.items()})
    bias = model.heads.dense["click"].bias.numpy()[0]
    logits = model(features)["click"].numpy()[0] - bias
    order = np.argsort(-logits)
    return [list(ITEMS)[i] for i in order], logits[order]


@pytest.mark.parametrize("kind", ["brute_force", "streaming"])
def test_the_best_items_over_the_wire(exported, table, best, kind, tmp_path):
    version = build(exported, table, tmp_path / "films", kind, k=7)
    facts = json.loads((version / "assets.extra" / "candidate_index.json").read_text())
    assert (facts["kind"], facts["k"], facts["items"], facts["found"]) == (kind, 7, 30, 1.0)
    keys, logits = best
    server = Server("films", tmp_path / "films", ServeConfig(port=0))
    server.start()
    target = f"127.0.0.1:{server.port}"
    try:
        with Client(target, "films", SCHEMA) as client:
            # Candidate features that are there are not looked at.
            found = client.retrieve(VALUES)

        async def ask():
            async with AsyncClient(target, "films", SCHEMA) as client:
                return await client.retrieve(VALUES, version=1)

        again = asyncio.run(ask())
    finally:
        server.stop()
    assert found.keys == again.keys == keys[:7]
    np.testing.assert_allclose(found.scores, logits[:7], rtol=1e-5)


def test_all_items_where_they_are_fewer(exported, table, best, tmp_path):
    version = build(exported, table, tmp_path, k=500)
    signature = tf.saved_model.load(str(version)).signatures["serving_default"]
    names = signature.structured_input_signature[1]
    raw = request_inputs(SCHEMA, VALUES, only=names)
    found = signature(**{name: tf.constant(value) for name, value in raw.items()})
    assert [key.decode() for key in found["candidate_keys"].numpy()[0]] == best[0]
    # The warm-up has the behaviours' sizes alone: no axis of candidates.
    assert set(names) == {spec.name for spec in SCHEMA.inputs if spec.side != "candidate"}


def test_a_table_of_another_export(exported, table, tmp_path):
    _, other = exported_model("two_tower", tmp_path / "data", tmp_path / "other")
    changed = json.loads((table / "manifest.json").read_text()) | {"encoder": "another"}
    copy = tmp_path / "items"
    copy.mkdir()
    (copy / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(ItemTableError, match="made by another export"):
        build(other, copy, tmp_path / "films")
    assert ItemTable(table).manifest.encoder != "another"


def test_a_model_that_is_no_product_of_two_vectors(tmp_path):
    _, version = exported_model("dcn_v2", tmp_path / "data", tmp_path / "crosses")
    table = encoded(version, tmp_path)
    with pytest.raises(ValueError, match="no factorised model: it has no signature 'query_tower'"):
        build(version, table, tmp_path / "films")
    assert not (tmp_path / "films").exists()


def test_scann_that_is_not_there(exported, table, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "scann", None)
    command = ["--export", str(exported), "--table", str(table), "--output", str(tmp_path / "s")]
    assert main([*command, "--kind", "scann"]) == 2
    assert "ScaNN cannot be used with TensorFlow 2.21" in capsys.readouterr().err
    assert main([*command, "--k", "0"]) == 2
    assert "k must be at least 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_too_many_vectors_for_a_graph(monkeypatch):
    monkeypatch.setattr(top_k, "MOST_STREAMED", 10)
    with pytest.raises(UnavailableError, match="use brute_force"):
        top_k.top_k_layer("streaming", ["a"], np.ones((1, 3), "float32"), 1)


def test_a_ranking_model_is_no_index(exported, tmp_path):
    server = Server("towers", exported.parent, ServeConfig(port=0))
    server.start()
    try:
        with Client(f"127.0.0.1:{server.port}", "towers", SCHEMA) as client:
            assert "query" in client.metadata()["query_tower"]["outputs"]
            with pytest.raises(grpc.RpcError, match="missing inputs: .*item_id"):
                client.retrieve(VALUES)
    finally:
        server.stop()
