"""The comparison with another library: rows, arguments and tables; that library is not needed."""

import csv
import json

import numpy as np
import pytest

from benchmarks.peers import compare, rows, summary
from ctr_tf.config import load
from ctr_tf.schema import Schema
from tests.prepared import write_prepared

SCHEMA = {
    "keys": {"user": "user_id", "time": "time", "item": "item_id"},
    "features": {
        "user_id": {"kind": "categorical", "side": "user"},
        "item_id": {"kind": "categorical"},
        "genres": {"kind": "categorical", "multi": True},
    },
    "sequences": {
        "history": {
            "max_length": 3,
            "attributes": {
                "item_id": {},
                "genres": {},
                "rating": {"encoder": {"dtype": "int", "encoding": "identity", "size": 6}},
            },
        }
    },
    "tasks": {"like": {"column": "rating", "above": 3}},
}


def request(user, items, genres, labels, history=(), weights=None):
    """A request; `history` holds (item, genres, rating) triples."""
    features = {
        "user_id": user,
        "item_id": items,
        "genres": genres,
        "history_item_id": [item for item, _, _ in history],
        "history_genres": [own for _, own, _ in history],
        "history_rating": [rating for _, _, rating in history],
    }
    found = {"id": f"{user}{items}", "user": user, "time": 1, "items": items}
    found |= {"features": features, "labels": {"like": labels}}
    return found | ({"weights": {"like": weights}} if weights else {})


@pytest.fixture
def converted(tmp_path):
    # By count, then by name: items a, b; genres x, y; users u, v.
    train = [
        request("u", ["a", "b"], [["x"], ["x", "y"]], [1.0, 0.0]),
        request("u", ["a"], [["x"]], [0.0], [("a", ["x"], 5), ("b", ["x", "y"], 0)]),
        request("v", ["a", "a"], [["x"], ["x"]], [1.0, 1.0], weights=[0.0, 1.0]),
    ]
    test = [request("w", ["c", "a"], [["z"], []], [1.0, 0.0], [("c", ["z"], 9)])]
    write_prepared(
        tmp_path, Schema(**SCHEMA), {"train": train, "validation": test, "test": test}, shards=1
    )
    return rows.convert(tmp_path)


def test_rows_are_those_of_the_records(converted):
    # Items in the order met, by id and genres: (a, x), (b, x y), (c, z), (a, none).
    assert converted["item/item_id"].tolist() == [[0], [1], [2], [3], [1]]
    assert converted["item/genres"].tolist() == [[0, 0], [1, 0], [1, 2], [3, 0], [0, 0]]
    assert converted["train/user/user_id"].tolist() == [1, 1, 2]
    assert converted["train/who"].tolist() == [0, 0, 1]
    assert converted["train/history"].tolist() == [[0, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert converted["train/behaviour/rating"].tolist() == [[0, 0, 0], [6, 1, 0], [0, 0, 0]]
    # The impression of weight 0 is left out.
    assert converted["train/request"].tolist() == [0, 0, 1, 2]
    assert converted["train/item"].tolist() == [1, 2, 1, 1]
    assert converted["train/label"].tolist() == [1, 0, 0, 1]


def test_values_unknown_to_training_share_the_last_row(converted):
    tables = json.loads(str(converted["tables"]))
    assert tables == {"user_id": 4, "item_id": 4, "genres": 4, "rating": 8}
    assert converted["test/user/user_id"].tolist() == [3]
    assert converted["test/item"].tolist() == [3, 4]
    assert converted["test/history"].tolist() == [[3, 0, 0]]
    assert converted["test/behaviour/rating"].tolist() == [[7, 0, 0]]


def test_saved_rows_are_equal(converted, tmp_path):
    rows.save(tmp_path / "rows.npz", converted)
    with np.load(tmp_path / "rows.npz") as found:
        assert set(found.files) == set(converted)
        assert all(np.array_equal(found[name], value) for name, value in converted.items())
    assert not list(tmp_path.glob(".*"))


def test_other_shapes_of_log_are_refused(tmp_path):
    features = {**SCHEMA["features"], "price": {"kind": "numeric"}}
    with pytest.raises(ValueError, match="price: must be a vocabulary or an identity"):
        rows.Layout.of(Schema(**{**SCHEMA, "features": features}))
    features = {**SCHEMA["features"], "shop": {"kind": "categorical"}}
    with pytest.raises(ValueError, match="lacks the candidate's 'shop'"):
        rows.Layout.of(Schema(**{**SCHEMA, "features": features}))


@pytest.mark.parametrize("name", ["din", "dcn_v2", "din_last", "dcn_v2_last"])
def test_arguments_say_what_the_config_says(name):
    experiment = load(compare.ROOT / "configs" / "movielens" / f"{name}.yaml")
    arguments = compare.peer_arguments(experiment)
    model = experiment.model
    assert arguments["embedding_dim"] == model.embedding.width == 16
    if model.name == "din":
        assert arguments["attention_hidden_units"] == [80, 40]
        assert arguments["dnn_hidden_units"] == [200, 80]
    else:
        assert arguments["parallel_dnn_hidden_units"] == [400, 400, 400]
        assert arguments["num_cross_layers"] == 3


@pytest.mark.parametrize("override", ["model.embedding.l2=0.1", "train.dense.clip_norm=1"])
def test_what_the_other_side_lacks_is_an_error(override):
    config = compare.ROOT / "configs" / "movielens" / "din.yaml"
    with pytest.raises(ValueError, match=override.partition("=")[0].removesuffix(".clip_norm")):
        compare.peer_arguments(load(config, [override]))


def test_metrics_of_a_run(tmp_path):
    path = tmp_path / "run.npz"
    # User 0: one of two pairs won; user 1: none of one; user 2 has one class.
    np.savez(path, label=[1, 0, 0, 0, 1, 1], score=[0.5, 0.4, 0.6, 0.7, 0.2, 0.9],
             user=[0, 0, 0, 1, 1, 2], parameters=7,
             versions=json.dumps({"x": "1"}))  # fmt: skip
    found = compare.measure(path)
    assert found["gauc"] == pytest.approx((3 * 0.5 + 2 * 0.0) / 5)
    # Positives 0.5, 0.2, 0.9 win 1, 0 and 3 of their pairs with 0.4, 0.6, 0.7.
    assert found["auc"] == pytest.approx(4 / 9)
    assert (found["users"], found["users_one_class"], found["positives"]) == (3, 1, 3)


def test_different_test_rows_are_an_error():
    run = {"split": "time", "impressions": 9, "positives": 4, "users": 3, "users_one_class": 0}
    runs = [{**run, "stack": "ctr_tf"}, {**run, "stack": "fuxictr"}]
    compare.check_same_rows(runs)
    runs[1]["positives"] = 5
    with pytest.raises(ValueError, match="time: positives .*'ctr_tf': 4, 'fuxictr': 5"):
        compare.check_same_rows(runs)


def test_tables(tmp_path):
    run = dict.fromkeys(summary.COLUMNS, 1)
    run |= {"split": "last", "model": "din", "max_steps": None, "log_loss": 0.5, "versions": {}}
    runs = [
        {**run, "stack": stack, "seed": seed, "auc": auc, "gauc": 0.6}
        for stack, values in {"ctr_tf": (0.70, 0.72), "fuxictr": (0.73, 0.75)}.items()
        for seed, auc in enumerate(values)
    ]
    page = summary.write(tmp_path, "found", runs).read_text(encoding="utf-8")
    assert "| din | ctr_tf | 2 | 0.7100 ± 0.0141 | 0.6000 ± 0.0000 | 0.5000 ± 0.0000 |" in page
    assert "- din, AUC: ctr_tf − FuxiCTR = -0.0300 (spread 0.0141): below" in page
    assert "- din, GAUC: ctr_tf − FuxiCTR = +0.0000 (spread 0.0000): within" in page
    with (tmp_path / "found.csv").open(encoding="utf-8") as file:
        assert [row["auc"] for row in csv.DictReader(file)] == ["0.7", "0.72", "0.73", "0.75"]


def test_verdict():
    assert summary.verdict([0.69, 0.70, 0.71], [0.695, 0.695]) == "+0.0050 (spread 0.0100): within"
    assert summary.verdict([0.72], [0.70]) == "+0.0200 (spread 0.0000): above"
