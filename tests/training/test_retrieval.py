"""Ranks of positives among all items of a catalogue, against the model's own scores."""

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.config import load
from ctr_tf.models.model import CTRModel
from ctr_tf.models.retrieval.two_tower import TwoTowerConfig
from ctr_tf.schema import Schema
from ctr_tf.training import retrieval
from ctr_tf.training.retrieval import RetrievalValidator
from ctr_tf.yaml_source import ConfigError
from tests.cases import small_config
from tests.weights import randomise

ITEMS = 12
SCHEMA = Schema(
    keys={"user": "user_id", "time": "time", "item": "item_id"},
    features={
        "item_id": {"kind": "categorical", "dtype": "int", "encoding": "identity", "size": ITEMS},
        "age": {"kind": "numeric", "side": "user", "normalise": "none"},
    },
    tasks={"like": {"column": "like"}, "buy": {"column": "buy"}},
)


def preprocess(raw):
    return {n: tf.cast(v + 1, tf.int32) if n == "item_id" else v for n, v in raw.items()}


@pytest.fixture
def batch():
    mask = np.array([[True, True], [True, False], [True, True]])
    items = np.array([[3, 5], [7, 0], [2, 99]])
    return {
        "features": {
            "age": np.array([0.5, -1.0, 2.0], "float32"),
            "item_id": np.where(mask, np.minimum(items, ITEMS) + 1, 0).astype("int32"),
            "candidates_mask": mask,
        },
        # The second of the first request has no label of this task.
        "labels": {
            "like": np.array([[1, 1], [1, 1], [0, 1]], "float32"),
            "buy": np.zeros((3, 2), "float32"),
        },
        "weights": {
            "like": np.array([[1, 0], [1, 0], [1, 1]], "float32"),
            "buy": np.ones((3, 2), "float32"),
        },
        "ids": {"items": np.char.mod("i%d", items)},
    }


@pytest.fixture
def data(batch, tmp_path):
    with gzip.open(tmp_path / "catalogue.jsonl.gz", "wt") as file:
        for item in range(ITEMS):
            line = {"item_id": f"i{item}", "features": {"item_id": item}}
            file.write(json.dumps(line) + "\n")
    spec = tf.nest.map_structure(
        lambda x: tf.TensorSpec([None] * x.ndim, tf.string if x.dtype.kind == "U" else x.dtype),
        batch,
    )
    batches = tf.data.Dataset.from_generator(lambda: iter([batch]), output_signature=spec)
    return SimpleNamespace(
        folder=tmp_path, preprocessor=preprocess, evaluation=lambda split: batches
    )


@pytest.mark.parametrize("at_once", [16384, 5])
def test_each_positive_among_all_items(at_once, data, batch, rng, monkeypatch):
    monkeypatch.setattr(retrieval, "ITEMS_AT_ONCE", at_once)
    # All units of a narrow ReLU can be inactive, and items then tie.
    config = small_config("two_tower", heads={"kind": "in_batch_softmax"}, activation="tanh")
    model = randomise(CTRModel(SCHEMA, config, {"item_id": ITEMS + 2}), rng)
    found = RetrievalValidator(model, data, cutoff=3)().values
    every = np.broadcast_to(np.arange(1, ITEMS + 1, dtype="int32"), (3, ITEMS))
    features = {
        "age": batch["features"]["age"], "item_id": every,
        "candidates_mask": np.ones((3, ITEMS), bool),
    }  # fmt: skip
    scores = model(features)["like"].numpy()
    # Item 3 of the first request, 7 of the second; 99 of the third is not in the catalogue.
    ranks = np.array([1 + (scores[0] > scores[0, 3]).sum(), 1 + (scores[1] > scores[1, 7]).sum()])
    assert found["hr"] == pytest.approx((ranks <= 3).sum() / 3)
    assert found["mrr"] == pytest.approx((1 / ranks).sum() / 3)
    assert found["ndcg"] == pytest.approx(((ranks <= 3) / np.log2(ranks + 1)).sum() / 3)


def test_a_score_that_is_no_number(data):
    model = CTRModel(SCHEMA, TwoTowerConfig(units=[4], width=2), {"item_id": ITEMS + 2})
    model.body.query_vector.bias.assign([np.nan, 0])
    with pytest.raises(FloatingPointError, match="a score of a ranked item is not finite"):
        RetrievalValidator(model, data, cutoff=3)()


def test_no_catalogue(data, tmp_path):
    (tmp_path / "catalogue.jsonl.gz").unlink()
    model = CTRModel(SCHEMA, TwoTowerConfig(units=[4]), {"item_id": ITEMS + 2})
    with pytest.raises(ValueError, match="no item catalogue"):
        RetrievalValidator(model, data, cutoff=3)


@pytest.mark.parametrize(
    "changed, message",
    [
        (["prepare.items=null"], "prepare.items: in_batch_softmax is validated on all items"),
        (["schema.keys.item=null", "prepare.items=null"], "tells items apart by the candidate"),
        (["train.early_stopping={metric: auc}"], "no metric 'auc'; metrics: ndcg, hr, mrr"),
        (["model.name=dcn_v2", "model.heads={kind: in_batch_softmax}"], "needs a factorised model"),
        (["model.activation=dice"], "two_tower encodes each item alone, and dice counts"),
        (["model.heads={kind: mmoe}"], "two_tower has a logit alone, which 'mmoe' cannot read"),
    ],
)
def test_configs_that_do_not_fit(changed, message):
    with pytest.raises(ConfigError, match=message):
        load("configs/movielens/two_tower.yaml", changed)
    load("configs/movielens/two_tower.yaml", ["train.early_stopping={metric: hr}"])
