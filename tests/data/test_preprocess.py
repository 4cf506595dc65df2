"""Raw values to indices and normalised numbers, against what can be worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.data.preprocess import Preprocessor
from ctr_tf.schema import MISSING_INT, Schema
from ctr_tf.schema.text import words

HASHED = {"kind": "categorical", "dtype": "int", "encoding": "hashed", "size": 50}
NUMBER = {"count": 4, "mean": 2.0, "std": 0.5, "minimum": -1.0, "maximum": 7.0}


def make(folder, features, statistics=None, vocabularies=None, **sequences):
    keys = {"user": "user", "time": "time"}
    tasks = {"click": {"column": "click"}}
    schema = Schema(keys=keys, features=features, sequences=sequences, tasks=tasks)
    (folder / "statistics.json").write_text(json.dumps(statistics or {}))
    (folder / "vocabularies").mkdir()
    for name, values in (vocabularies or {}).items():
        (folder / "vocabularies" / f"{name}.txt").write_text("".join(f"{v}\n" for v in values))
    return Preprocessor(schema, folder)


def test_what_shares_a_hashed_table_hashes_as_its_owner(tmp_path):
    shared = {"kind": "categorical", "dtype": "int", "share": "item", "side": "user"}
    history = {"attributes": {"item": {}, "seen": {"encoder": {"dtype": "int", "share": "item"}}}}
    found = make(tmp_path, {"item": HASHED, "last": shared}, history=history)
    ids = np.arange(200, dtype="int64")[None, :]
    raw = {"item": ids, "last": ids[0], "history_item": ids, "history_seen": ids}
    rows = {name: value.numpy().ravel() for name, value in found(_tensors(raw)).items()}
    assert len(set(rows["item"])) > 40 and rows["item"].min() >= 1 and rows["item"].max() <= 50
    for name in ("last", "history_item", "history_seen"):
        np.testing.assert_array_equal(rows[name], rows["item"])


def test_what_shares_an_identity_table_is_an_identity(tmp_path):
    owner = {**HASHED, "encoding": "identity", "size": 5, "oov": 2}
    shared = {"kind": "categorical", "dtype": "int", "share": "item", "side": "user"}
    found = make(tmp_path, {"item": owner, "last": shared})
    index = found(_tensors({"last": np.array([0, 4, MISSING_INT, 5, -1])}))["last"].numpy()
    assert index[:3].tolist() == [1, 5, 0] and set(index[3:]) <= {6, 7}
    assert found.rows == {"item": 8}


@pytest.mark.parametrize(
    ("normalise", "expected"),
    [
        ("standard", [(3 - 2) / 0.5, (-5 - 2) / 0.5]),
        ("minmax", [(3 + 1) / 8, (-5 + 1) / 8]),
        ("log", [(math.log(4) - 2) / 0.5, (-math.log(6) - 2) / 0.5]),
        ("none", [3, -5]),
    ],
)
def test_numbers(tmp_path, normalise, expected):
    feature = {"kind": "numeric", "normalise": normalise, "default": 3.0}
    found = make(tmp_path, {"x": feature}, {"x": NUMBER})
    value = found({"x": tf.constant([[3.0, -5.0, math.nan]])})["x"].numpy()
    np.testing.assert_allclose(value, [[*expected, expected[0]]], rtol=1e-6)


def test_a_constant_number_becomes_0(tmp_path):
    found = make(tmp_path, {"x": {"kind": "numeric"}}, {"x": {**NUMBER, "std": 0.0}})
    assert found({"x": tf.constant([[2.0]])})["x"].numpy().tolist() == [[0.0]]


def test_text_is_split_as_the_preparation_splits_it(tmp_path):
    title = "Été, the (ﬁne) ONE's—end"
    vocabulary = words(title)
    feature = {"kind": "text", "max_tokens": 4}
    found = make(tmp_path, {"title": feature}, vocabularies={"title": vocabulary})
    index = found({"title": tf.constant([[title, "unknown the"], ["", "..."]])})["title"].numpy()
    unknown = len(vocabulary) + 1
    assert index.tolist() == [[[1, 2, 3, 4], [unknown, 2, 0, 0]], [[0] * 4, [0] * 4]]


def test_vectors_are_found_by_id(tmp_path):
    np.savez(tmp_path / "t.npz", ids=["a", "b"], vectors=[[1.0, 2.0], [3.0, 4.0]])
    feature = {"kind": "vector", "table": str(tmp_path / "t.npz"), "width": 2}
    found = make(tmp_path, {"poster": feature})
    index = found({"poster": tf.constant([["b", "a", "z", ""]])})["poster"].numpy()
    assert index.tolist() == [[2, 1, 0, 0]]
    assert found.vectors["poster"].tolist() == [[0, 0], [1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ids": ["a"], "vectors": [[1.0]]}, r"vectors must have shape \(1, 2\), not \(1, 1\)"),
        ({"ids": ["a", "a"], "vectors": [[1.0, 2.0]] * 2}, "ids must be unique"),
        ({"ids": ["a"], "vectors": [[1.0, math.nan]]}, "vectors must be finite"),
        ({"ids": ["a"]}, r"must hold 'ids' and 'vectors', holds \['ids'\]"),
    ],
)
def test_unusable_vector_tables(tmp_path, content, message):
    np.savez(tmp_path / "t.npz", **content)
    feature = {"kind": "vector", "table": str(tmp_path / "t.npz"), "width": 2}
    with pytest.raises(ValueError, match=f"features.poster.table: .*: {message}"):
        make(tmp_path, {"poster": feature})


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="c.txt: no vocabulary for 'c'; prepare the data"):
        make(tmp_path, {"c": {"kind": "categorical"}})


def _tensors(raw):
    return {name: tf.constant(value, tf.int64) for name, value in raw.items()}
