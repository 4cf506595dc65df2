"""The files of a table of items."""

import json

import numpy as np
import pytest

from ctr_tf.data.item_table import (
    ItemTable,
    ItemTableError,
    ItemTableManifest,
    TablePart,
    write_shard,
)

VECTORS = np.arange(12, dtype="float32").reshape(4, 3)


@pytest.fixture
def folder(tmp_path):
    shards = [
        write_shard(tmp_path / "items-0.parquet", ["a", "c", "ü"], ["1", "2", "3"], VECTORS[:3]),
        write_shard(tmp_path / "items-1.parquet", ["b"], ["4"], VECTORS[3:]),
        write_shard(tmp_path / "items-2.parquet", [], [], VECTORS[:0]),
    ]
    parts = [TablePart(name="field/item_id", width=1), TablePart(name="product/mlp", width=2)]
    manifest = ItemTableManifest(schema_fingerprint="s", encoder="e", parts=parts, shards=shards)
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json())
    return tmp_path


def test_a_table_is_read_as_it_was_written(folder):
    table = ItemTable(folder)
    assert (table.manifest.rows, table.manifest.width) == (4, 3)
    keys, vectors = table.read()
    assert keys == ["a", "c", "ü", "b"]
    np.testing.assert_array_equal(vectors, VECTORS)


def test_what_is_no_whole_table(folder):
    path = folder / "items-0.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ItemTableError, match=r"items-0.parquet: SHA-256 is \w{12}…, the manifest"):
        ItemTable(folder).read()
    path.unlink()
    with pytest.raises(ItemTableError, match="items-0.parquet: no such file, which the manifest"):
        ItemTable(folder).read()
    manifest = folder / "manifest.json"
    found = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(found | {"format": 9}))
    with pytest.raises(ItemTableError, match="format 9, this version reads 1"):
        ItemTable(folder)
    manifest.write_text(json.dumps(found | {"parts": 7}))
    with pytest.raises(ItemTableError, match="manifest.json: .*parts"):
        ItemTable(folder)
    manifest.unlink()
    with pytest.raises(ItemTableError, match="no manifest.json: no table of items"):
        ItemTable(folder)


def test_a_key_that_is_there_twice(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"].append(manifest["shards"][1])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ItemTableError, match="a key is there twice"):
        ItemTable(folder).read()
