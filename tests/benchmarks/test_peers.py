"""The other library's side of the leaderboard: rows and arguments; that library is not needed."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.files import write_arrays
from benchmarks.leaderboard import rows, translate
from benchmarks.leaderboard.runs import ROOT
from ctr_tf.config import Experiment, load
from ctr_tf.schema import Schema
from tests.parity import test_fuxictr as packaged
from tests.parity import test_fuxictr_networks as networks
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
    write_arrays(tmp_path / "rows.npz", converted)
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


def movielens(name: str, *overrides: str) -> Experiment:
    return load(ROOT / "configs" / "movielens" / f"{name}.yaml", overrides)


def deep(units: list[int]) -> dict:
    found = {"hidden_units": units, "hidden_activations": "relu"}
    return found | {"batch_norm": False, "dropout_rates": 0.0}


DIN = {
    "dnn_hidden_units": [200, 80],
    "dnn_activations": "dice",
    "net_dropout": 0.0,
    "attention_hidden_units": [80, 40],
    "attention_hidden_activations": "dice",
    "din_use_softmax": False,
}
DCN_V2 = {
    "model_structure": "parallel",
    "parallel_dnn_hidden_units": [400, 400, 400],
    "num_cross_layers": 3,
    "dnn_activations": "relu",
    "net_dropout": 0.0,
    "batch_norm": False,
}
AUTOINT = {
    "attention_layers": 3,
    "num_heads": 2,
    "head_dim": 32,
    "use_residual": True,
    "use_scale": False,
}
ARGUMENTS = {
    "autoint": AUTOINT | deep([]),
    "autoint_plus": AUTOINT | deep([400, 400]),
    "dcn": {"num_layers": 3} | deep([400, 400, 400]),
    "dcn_v2": DCN_V2,
    "dcn_v2_last": DCN_V2,
    "deepfm": deep([400, 400, 400]),
    "dien": {
        "dnn_hidden_units": [200, 80],
        "dnn_activations": "dice",
        "net_dropout": 0.0,
        "gru_type": "AUGRU",
        "batch_norm": False,
    },
    "din": DIN,
    "din_last": DIN,
    "fibinet": {
        "bilinear_type": "field_each",
        "reduction_ratio": 3,
        "excitation_activation": "ReLU",
    }
    | deep([400, 400, 400]),
    "finalmlp": {
        "mlp1_hidden_units": [400, 400],
        "mlp2_hidden_units": [400, 400],
        "fs_hidden_units": [64],
        "fs1_context": "user",
        "fs2_context": "item",
        "num_heads": 1,
        "hidden_activations": "relu",
        "batch_norm": False,
        "dropout_rates": 0.0,
    },
    "flat_dnn": deep([400, 400, 400]),
    "fm": {},
    "fmfm": {},
    "fwfm": {},
    "pnn": deep([400, 400, 400]),
    "wide_deep": deep([400, 400, 400]),
    "xdeepfm": {"cin_hidden_units": [64, 64]} | deep([400, 400]),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_say_what_the_config_says(name):
    without = ["model.auxiliary=0.0"] if name == "dien" else []
    experiment = movielens(name, *without)
    assert translate.peer_arguments(experiment) == {"embedding_dim": 16} | ARGUMENTS[name]


def test_every_model_of_the_peer_is_translated_to_the_arguments_that_it_takes():
    tree = ast.parse(
        Path(translate.__file__).with_name("fuxictr_models.py").read_text(encoding="utf-8")
    )
    named = {
        node.targets[0].id: {k.value: v.id for k, v in zip(node.value.keys, node.value.values)}
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    assert set(named["PACKAGED"]) | set(named["NETWORKS"]) == set(translate.MODELS)
    made = {
        node.name: function.args
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for function in node.body
        if isinstance(function, ast.FunctionDef) and function.name == "__init__"
    }
    for name, network in named["NETWORKS"].items():
        own = {argument.arg for argument in made[network].args} - {"self", "fields"}
        given = set(translate.peer_arguments(movielens(name))) - {"embedding_dim"}
        assert own <= given
        assert given - own <= (set(deep([])) if made[network].kwarg else set())


def test_every_model_of_the_peer_is_held_equal_to_ours():
    equal = (*packaged.EQUAL.values(), *networks.EQUAL.values())
    assert {name for name, *_ in equal} == set(translate.MODELS)


@pytest.mark.parametrize(
    ("name", "override", "key"),
    [
        ("din", "model.embedding.l2=0.1", "model.embedding.l2"),
        ("din", "model.embedding.tables={item_id: {width: 8}, genres: {width: 8}}", "tables"),
        ("din", "model.folded=true", "model.folded"),
        ("din", "model.activation=leaky_relu", "model.activation"),
        ("dcn_v2", "model.rank=8", "model.rank"),
        ("dien", "model.auxiliary=1.0", "model.auxiliary"),
        ("finalmlp", "model.first_gate=learned", "model.first_gate"),
        ("fwfm", "model.linear=field_vectors", "model.linear"),
        ("pnn", "model.product=outer", "model.product"),
        ("xdeepfm", "model.cin_split_half=true", "model.cin_split_half"),
        ("bst", "model.length=50", "model.name"),
        ("fm", "model={name: dcn_v2, heads: {kind: mmoe}}", "model.heads"),
    ],
)
def test_what_the_other_side_lacks_is_an_error(name, override, key):
    experiment = movielens(name, override)
    with pytest.raises(ValueError, match=key):
        translate.peer_arguments(experiment)


@pytest.mark.parametrize(
    "override",
    [
        "train.dense.clip_norm=1",
        "train.tables.name=row_wise_adagrad",
        "train.accumulate_steps=2",
        "train.early_stopping.metric=gauc",
        "train.early_stopping.min_delta=0.1",
        "train.precision=mixed_bfloat16",
    ],
)
def test_training_that_the_other_side_lacks_is_an_error(override):
    with pytest.raises(ValueError, match=".".join(override.split("=")[0].split(".")[:2])):
        translate.peer_training(movielens("din", override).train)


def test_training_is_told_to_the_other_side():
    train = movielens("din", "train.tables.rows=all", "train.epochs=3", "train.seed=5").train
    assert translate.peer_training(train) == {
        "seed": 5,
        "epochs": 3,
        "max_steps": None,
        "learning_rate": 1e-3,
        "validate_every": None,
        "patience": None,
    }
