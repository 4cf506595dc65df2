"""What a record holds, and that its codes are the rows that serving finds for the raw values."""

from __future__ import annotations

import random

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.data import requests as requests_module
from ctr_tf.data.config import InputConfig
from ctr_tf.data.input import Input
from ctr_tf.data.records import read_records
from ctr_tf.data.requests import Codec, Layout, RequestWriter, read_requests, unpack
from ctr_tf.schema import MISSING_INT, Schema
from tests.prepared import encode, write_prepared

INT = {"kind": "categorical", "dtype": "int"}


def schema(folder) -> Schema:
    """Every kind of input on every side."""
    np.savez(folder / "posters.npz", ids=["i1", "i2"], vectors=np.ones((2, 2)))
    return Schema(
        keys={"user": "user", "time": "time", "item": "item"},
        features={
            "user": {"kind": "categorical", "side": "user", "oov": 3},
            "interests": {"kind": "categorical", "side": "user", "multi": True, "oov": 2},
            "age": {"kind": "numeric", "side": "user"},
            "bio": {"kind": "text", "side": "user"},
            "hour": {**INT, "side": "context", "encoding": "identity", "size": 24, "oov": 2},
            "item": {"kind": "categorical"},
            "hashed": {**INT, "encoding": "hashed", "size": 11},
            "year": {**INT, "oov": 2},
            "tags": {**INT, "multi": True},
            "price": {"kind": "numeric"},
            "discount": {"kind": "numeric", "normalise": "none"},
            "title": {"kind": "text"},
            "poster": {"kind": "vector", "table": str(folder / "posters.npz"), "width": 2},
        },
        sequences={
            "history": {
                "attributes": {"item": {}, "tags": {}, "seen": {"encoder": {**INT, "oov": 4}}},
                "timestamps": True,
            },
            "searches": {"attributes": {"user": {}}},
        },
        tasks={"click": {"column": "click"}, "buy": {"column": "buy", "weight": "w"}},
    )


def make(count: int, ids: int, seed: int) -> list[dict]:
    """Requests of 1 to 4 candidates; ids from 0 to `ids` - 1, now and then a missing one."""
    rng = random.Random(seed)
    name = lambda kind: "" if rng.random() < 0.1 else f"{kind}{rng.randrange(ids)}"
    many = lambda own, times: [own() for _ in range(times)]
    number = lambda: MISSING_INT if rng.random() < 0.1 else rng.randrange(-2, ids)
    found = []
    for i in range(count):
        n, seen, searches = rng.randint(1, 4), rng.randint(0, 5), rng.randint(0, 2)
        few = lambda own: many(own, rng.randint(0, 3))
        weights = [rng.choice([0.0, 1.0, 2.5]) for _ in range(n)]
        features = {
            "user": name("u"),
            "interests": few(lambda: f"t{rng.randrange(ids)}"),
            "age": float(rng.randint(1, 90)),
            "bio": rng.choice(["", "new here", "a b c"]),
            "hour": rng.choice([0, 23, 24, -1, MISSING_INT]),
            "item": many(lambda: name("i"), n),
            "hashed": many(number, n),
            "year": many(number, n),
            "tags": [few(lambda: rng.randrange(ids)) for _ in range(n)],
            "price": many(rng.random, n),
            "discount": many(lambda: 0.25, n),
            "title": many(lambda: rng.choice(["", "One two", "two, three"]), n),
            "poster": many(lambda: name("i"), n),
            "history_item": many(lambda: name("i"), seen),
            "history_tags": [few(lambda: rng.randrange(ids)) for _ in range(seen)],
            "history_seen": many(number, seen),
            "history_time": many(lambda: 1_000 - rng.randrange(900), seen),
            "searches_user": many(lambda: name("u"), searches),
        }
        found.append(
            {
                "id": f"r{i}",
                "user": features["user"],
                "time": 1_000 + i,
                "items": features["item"],
                "features": features,
                "labels": {
                    "click": [float(rng.random() < 0.5) for _ in range(n)],
                    "buy": [float(weight > 1) for weight in weights],
                },
                "weights": {"buy": weights},
            }
        )
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    splits = {"train": make(40, 6, 1), "validation": make(30, 12, 2), "test": []}
    write_prepared(folder, schema(folder), splits)
    return folder


def test_raw_values_are_read_back(folder):
    codec = Codec(schema(folder), folder)
    for request in make(30, 12, 3):
        found = codec.decode(encode(codec, request).data)
        assert found["id"].decode() == request["id"]
        assert found["user"].decode() == request["user"] and found["time"] == request["time"]
        assert [item.decode() for item in found["items"]] == request["items"]
        assert found["labels"] == request["labels"]
        assert found["weights"]["buy"] == request["weights"]["buy"]
        assert set(found["weights"]["click"]) == {1.0}
        assert found["features"].keys() == request["features"].keys()
        for name, value in request["features"].items():
            if name in ("age", "price", "discount"):
                np.testing.assert_allclose(found["features"][name], value, rtol=1e-6)
            else:
                assert text(found["features"][name]) == value, name


def text(value):
    if isinstance(value, list):
        return [text(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("split", ["train", "validation"])
def test_parsed_features_are_those_of_the_raw_values(folder, split):
    data = Input(folder, schema(folder), InputConfig(batch_size=16, window=1))
    raw = {}
    for path in data.manifest.paths(folder, split):
        for request in read_requests(path, Codec(data.schema, folder)):
            raw[request["id"]] = len(raw)
    served = data.raw_requests(split, len(raw))
    seen = 0
    for batch in data.evaluation(split):
        for row, name in enumerate(batch["ids"]["request"].numpy()):
            one = {key: tf.constant(value) for key, value in served[raw[name]].items()}
            for key, expected in data.preprocessor(one).items():
                found = batch["features"][key].numpy()[row]
                inner = tuple(slice(0, size) for size in expected.shape[1:])
                np.testing.assert_array_equal(found[inner], expected[0], key)
                assert found.sum() == found[inner].sum(), f"{key} is padded by zeros"
            seen += 1
    assert seen == len(raw)


def test_weights_are_kept_where_they_are_not_0_or_1(folder):
    data = Input(folder, schema(folder), InputConfig(batch_size=64, window=1))
    given = {request["id"]: request for request in make(40, 6, 1)}
    for batch in data.evaluation("train"):
        for row, name in enumerate(batch["ids"]["request"].numpy()):
            request = given[name.decode()]
            for task in ("click", "buy"):
                count = len(request["labels"][task])
                expected = request["weights"].get(task, [1.0] * count)
                weights = batch["weights"][task].numpy()[row]
                assert weights.tolist() == expected + [0.0] * (len(weights) - count)
                labels = batch["labels"][task].numpy()[row]
                assert labels.tolist() == request["labels"][task] + [0.0] * (len(labels) - count)


def test_codes_are_places_in_the_vocabulary_and_other_values_stand_once(tmp_path):
    own = Schema(
        keys={"user": "user", "time": "time"},
        features={"item": {"kind": "categorical"}},
        sequences={"history": {"attributes": {"item": {}}}},
        tasks={"click": {"column": "click"}},
    )
    (tmp_path / "vocabularies").mkdir()
    (tmp_path / "vocabularies/item.txt").write_bytes(b"a\nb\n")
    history, items = ["b", "x", "a", "x"], ["b", "", "y"]
    request = {
        "id": "r",
        "features": {"item": items, "history_item": history},
        "labels": {"click": [1.0, 0.0, 0.0]},
        "weights": {"click": [1.0, 0.0, 1.0]},
    }
    encoded = encode(Codec(own, tmp_path), request)
    assert encoded.sizes == (3, 4)
    parsed = tf.io.parse_single_example(
        encoded.data,
        {
            "candidates": tf.io.FixedLenFeature([3, 2], tf.int64),
            "sequences/history": tf.io.FixedLenFeature([4], tf.int64),
            "unknown": tf.io.FixedLenFeature([2], tf.string),
        },
    )
    # Label and item: the items fill the list of unknown values first.
    assert parsed["candidates"].numpy().tolist() == [[2, 2], [0, 0], [1, 3]]
    assert parsed["sequences/history"].numpy().tolist() == [2, 4, 1, 4]
    assert parsed["unknown"].numpy().tolist() == [b"y", b"x"]


def test_a_request_repeats_no_user_side(folder, tmp_path):
    found = schema(folder)
    codec = Codec(found, folder)
    request = make(1, 6, 5)[0]
    candidates = [spec.name for spec in found.inputs if spec.side == "candidate"]

    def wide(times):
        features = {
            name: value * times if name in candidates else value
            for name, value in request["features"].items()
        }
        parts = {
            kind: {task: own * times for task, own in request[kind].items()}
            for kind in ("labels", "weights")
        }
        return request | parts | {"features": features, "items": request["items"] * times}

    sizes = [len(encode(codec, wide(times)).data) for times in (1, 2, 3)]
    # Each candidate costs the same; the rest is there once.
    assert abs((sizes[2] - sizes[1]) - (sizes[1] - sizes[0])) <= 8


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_record_holds_a_block_of_requests(folder, tmp_path, monkeypatch, count):
    monkeypatch.setattr(requests_module, "BLOCK", 4)
    codec = Codec(schema(folder), folder)
    encoded = [encode(codec, request) for request in make(count, 6, 4)]
    with RequestWriter(tmp_path / "a", codec.schema) as writer:
        for one in encoded:
            writer.write(one)
    records = list(read_records(tmp_path / "a"))
    assert [len(unpack(record)) for record in records] == [4] * (count // 4) + [count % 4] * bool(
        count % 4
    )
    assert [one for record in records for one in unpack(record)] == [one.data for one in encoded]


def test_few_lists_hold_many_inputs():
    features = {f"c{i}": {"kind": "categorical"} for i in range(26)}
    features |= {f"n{i}": {"kind": "numeric"} for i in range(13)}
    layout = Layout.of(Schema(features=features, tasks={"click": {"column": "click"}}))
    assert layout.candidates.width == 27 and len(layout.numbers["candidates"]) == 13
    assert layout.request.width == 0 and layout.raw == ()


def test_a_missing_vocabulary_is_named(tmp_path):
    own = Schema(features={"c": {"kind": "categorical"}}, tasks={"click": {"column": "click"}})
    with pytest.raises(FileNotFoundError, match="c.txt: no vocabulary for 'c'; prepare the data"):
        Codec(own, tmp_path)
