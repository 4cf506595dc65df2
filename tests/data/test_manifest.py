"""A manifest says clearly what is wrong with a prepared folder."""

import json

import pytest

from ctr_tf.data.manifest import Manifest, ManifestError, RecordFile, SplitManifest
from ctr_tf.schema import Schema

SCHEMA = Schema(features={"item": {"kind": "categorical"}}, tasks={"click": {"column": "click"}})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/part-00000-of-00001.tfrecord").write_bytes(b"12345")
    file = RecordFile(name="train/part-00000-of-00001.tfrecord", records=2, size=5)
    splits = {"train": SplitManifest(files=[file], requests=2), "test": SplitManifest()}
    Manifest(schema_fingerprint=SCHEMA.fingerprint, splits=splits).write(tmp_path)
    return tmp_path


def test_written_and_read(folder):
    manifest = Manifest.read(folder, SCHEMA)
    assert manifest.paths(folder, "train") == [folder / "train/part-00000-of-00001.tfrecord"]
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_no_manifest(tmp_path):
    with pytest.raises(ManifestError, match="no manifest.json; it is not a prepared folder"):
        Manifest.read(tmp_path)


def test_another_schema(folder):
    other = SCHEMA.model_copy(update={"keys": SCHEMA.keys.model_copy(update={"item": "item"})})
    with pytest.raises(ValueError, match="written with schema fingerprint"):
        Manifest.read(folder, Schema.model_validate(other.model_dump()))


def test_missing_and_truncated_files(folder):
    path = folder / "train/part-00000-of-00001.tfrecord"
    path.write_bytes(b"123")
    with pytest.raises(ManifestError, match="3 bytes, the manifest says 5"):
        Manifest.read(folder)
    path.unlink()
    with pytest.raises(ManifestError, match="listed in the manifest but missing"):
        Manifest.read(folder)


def test_empty_and_unknown_splits(folder):
    manifest = Manifest.read(folder)
    with pytest.raises(ManifestError, match="split 'test' is empty: 0 requests; .*train 2"):
        manifest.split("test")
    with pytest.raises(ManifestError, match="no split 'trian'; did you mean 'train'?"):
        manifest.paths(folder, "trian")
    for name in ("histories", "next"):
        with pytest.raises(ManifestError, match=f"no split '{name}'; set prepare.histories: true"):
            manifest.split(name)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "Invalid JSON"), (json.dumps({"splits": {}}), "schema_finger")]
)
def test_unreadable_manifest(folder, content, message):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ManifestError, match=message):
        Manifest.read(folder)


@pytest.mark.parametrize("stated", [None, 1, 99])
def test_records_of_another_format(folder, stated):
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    del content["record_format"]
    path.write_text(json.dumps(content | ({} if stated is None else {"record_format": stated})))
    message = f"record_format: {stated or 1}, but this version reads 2; prepare the data again"
    with pytest.raises(ManifestError, match=message):
        Manifest.read(folder)
