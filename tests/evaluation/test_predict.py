"""What batch scoring may replace."""

from __future__ import annotations

import pytest

from ctr_tf.evaluation import predict as module
from ctr_tf.evaluation.predict import predict

SHARD = "predictions-00000-of-00001.parquet"


@pytest.fixture
def scored(monkeypatch):
    """Scoring writes one shard, and then does what is appended here."""
    after = []

    def score(model, data, split, folder, progress):
        (folder / SHARD).write_text(split)
        for act in after:
            act()

    monkeypatch.setattr(module, "_score", score)
    return after


def test_older_shards_are_replaced_whole(scored, tmp_path):
    folder = tmp_path / "new" / "scores"
    predict(None, None, "train", folder)
    (folder / "predictions-00001-of-00002.parquet").write_text("older")
    predict(None, None, "test", folder)
    assert [path.name for path in folder.iterdir()] == [SHARD]
    assert (folder / SHARD).read_text() == "test"
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["notes.txt", "predictions-0-of-1.parquet", ".hidden"])
def test_another_file_is_never_deleted(scored, tmp_path, name):
    folder = tmp_path / "scores"
    scored.append(lambda: (folder.mkdir(), (folder / name).write_text("mine")))
    for _ in range(2):  # It comes while scoring, and then is there before.
        with pytest.raises(ValueError, match=f"holds '{name}', which is no prediction shard"):
            predict(None, None, "test", folder)
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(name, "mine")]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_of_a_shard_name_and_a_file_are_refused(scored, tmp_path):
    (tmp_path / SHARD).mkdir()
    with pytest.raises(ValueError, match="is no prediction shard"):
        predict(None, None, "test", tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="must be a folder"):
        predict(None, None, "test", tmp_path / "file")
