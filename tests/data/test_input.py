"""Reading prepared folders: padding, order, resume, corrupt shards."""

from __future__ import annotations

import gc
import random
import tempfile

import numpy as np
import pytest

from ctr_tf.data import input as input_module
from ctr_tf.data import requests as requests_module
from ctr_tf.data.config import InputConfig
from ctr_tf.data.input import Input
from ctr_tf.data.manifest import ManifestError
from ctr_tf.data.records import CorruptRecordError, read_records
from ctr_tf.data.requests import unpack
from ctr_tf.schema import Schema
from tests.prepared import write_prepared

SCHEMA = Schema(
    keys={"user": "user", "time": "time", "item": "item"},
    features={
        "age": {"kind": "numeric", "side": "user"},
        "hour": {
            "kind": "categorical",
            "side": "context",
            "dtype": "int",
            "encoding": "identity",
            "size": 24,
        },
        "item": {"kind": "categorical"},
        "genres": {"kind": "categorical", "multi": True},
    },
    sequences={"history": {"attributes": {"item": {}, "genres": {}}, "timestamps": True}},
    tasks={"click": {"column": "click"}},
)


def make_requests(count: int, seed: int = 0) -> list[dict]:
    """Requests of 1 to 6 candidates and 0 to 5 behaviours."""
    rng = random.Random(seed)
    requests = []
    for i in range(count):
        n, length = rng.randint(1, 6), rng.randint(0, 5)
        items = [f"i{rng.randint(0, 9)}" for _ in range(n)]
        history = [f"i{rng.randint(0, 9)}" for _ in range(length)]
        requests.append(
            {
                "id": f"r{i}",
                "user": f"u{i % 7}",
                "time": 1000 + i,
                "items": items,
                "features": {
                    "age": float(20 + i % 5),
                    "hour": i % 24,
                    "item": items,
                    "genres": [[f"g{len(x)}", x] for x in items],
                    "history_item": history,
                    "history_genres": [[x] for x in history],
                    "history_time": list(range(length)),
                },
                "labels": {"click": [float(rng.random() < 0.4) for _ in range(n)]},
            }
        )
    return requests


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    write_prepared(
        folder,
        SCHEMA,
        {"train": make_requests(150), "validation": make_requests(20, 1), "test": []},
    )
    return folder


def request_ids(dataset) -> list[list[str]]:
    return [[x.decode() for x in batch["ids"]["request"].numpy()] for batch in dataset]


def test_request_is_parsed_padded_and_indexed(tmp_path):
    requests = make_requests(2)
    requests[0]["features"].update(
        item=["a"],
        genres=[["x", "y"]],
        history_item=["b", "a"],
        history_genres=[["x"], []],
        history_time=[5, 9],
    )
    requests[0].update(items=["a"], labels={"click": [1.0]}, weights={"click": [0.5]})
    requests[1]["features"].update(
        item=["b", "b"], genres=[[], ["x"]], history_item=[], history_genres=[], history_time=[]
    )
    requests[1].update(items=["b", "b"], labels={"click": [0.0, 1.0]})
    write_prepared(tmp_path, SCHEMA, {"train": requests}, shards=1)
    config = InputConfig(batch_size=3, window=1)
    (batch,) = Input(tmp_path, SCHEMA, config).evaluation("train")
    features = {name: value.numpy() for name, value in batch["features"].items()}
    # Training values of the item vocabulary, most frequent first: b three times, a twice.
    assert features["item"].tolist() == [[2, 0], [1, 1]]
    assert features["history_item"].tolist() == [[1, 2], [0, 0]]
    assert features["genres"].tolist() == [[[1, 2], [0, 0]], [[0, 0], [1, 0]]]
    assert features["history_genres"].tolist() == [[[1], [0]], [[0], [0]]]
    assert features["history_mask"].tolist() == [[True, True], [False, False]]
    assert features["candidates_mask"].tolist() == [[True, False], [True, True]]
    assert features["history_time"].tolist() == [[5, 9], [0, 0]]
    assert features["request_time"].tolist() == [1000, 1001]
    assert features["age"].tolist() == [-1.0, 1.0]
    assert features["hour"].tolist() == [1, 2]
    assert batch["labels"]["click"].numpy().tolist() == [[1, 0], [0, 1]]
    assert batch["weights"]["click"].numpy().tolist() == [[0.5, 0], [1, 1]]
    assert batch["ids"]["items"].numpy().tolist() == [[b"a", b""], [b"b", b"b"]]


@pytest.mark.parametrize("window", [1, 4])
def test_an_epoch_holds_every_request_once_in_an_order_of_its_own(folder, window):
    data = Input(folder, SCHEMA, InputConfig(batch_size=32, window=window, shuffle_buffer=50))
    epochs = [request_ids(data.training(epoch)) for epoch in (0, 1)]
    for epoch in epochs:
        assert sorted(sum(epoch, [])) == sorted(f"r{i}" for i in range(150))
        assert len(epoch) == data.batches("train")
    assert epochs[0] != epochs[1]
    assert request_ids(data.training(0)) == epochs[0]


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("skip", [1, 5, 13])
def test_training_is_taken_up_on_the_next_batch(folder, window, skip):
    data = Input(folder, SCHEMA, InputConfig(batch_size=32, window=window, shuffle_buffer=50))
    whole = request_ids(data.training(3))
    assert request_ids(data.training(3, skip=skip)) == whole[skip:]


def test_windows_cut_batches_of_like_size_and_equal_impressions(folder):
    data = Input(folder, SCHEMA, InputConfig(batch_size=32, window=4, shuffle_buffer=50))
    sizes = [batch["features"]["candidates_mask"].numpy().sum() for batch in data.training(0)]
    # A share is within one request (6 candidates at most) of a quarter of its window.
    assert all(abs(size - 32) <= 12 for size in sizes[:-1])
    plain = Input(folder, SCHEMA, InputConfig(batch_size=32, window=1, shuffle_buffer=50))
    padded = [
        sum(b["features"]["candidates_mask"].numpy().size for b in d.training(0))
        for d in (data, plain)
    ]
    assert padded[0] < 0.8 * padded[1]


@pytest.fixture(scope="module")
def with_histories(tmp_path_factory):
    """The records of `histories` have one to six candidates, and no behaviour to five."""
    folder = tmp_path_factory.mktemp("histories")
    splits = {"train": make_requests(10), "histories": make_requests(150, 1), "next": []}
    write_prepared(folder, SCHEMA, splits)
    return folder


def test_histories_are_counted_by_record(with_histories):
    config = InputConfig(batch_size=16, window=4, shuffle_buffer=50)
    data = Input(with_histories, SCHEMA, config, training_split="histories")
    whole = request_ids(data.training(0))
    assert sorted(sum(whole, [])) == sorted(f"r{i}" for i in range(150))
    # Two windows of 64 records and one of 22, in two batches of 11: shares are within a record.
    assert data.requests_per_batch("histories") == 16
    assert len(whole) == data.batches("histories") == 4 + 4 + 2
    sizes = [len(batch) for batch in whole]
    assert all(abs(size - 16) <= 1 for size in sizes[:8])
    assert sum(sizes[:4]) == sum(sizes[4:8]) == 64 and all(abs(s - 11) <= 1 for s in sizes[8:])
    # Sorted by length alone, whatever the number of candidates.
    lengths = [
        set(batch["features"]["history_mask"].numpy().sum(1)) for batch in data.training(0).take(4)
    ]
    assert all(max(found) - min(found) <= 2 for found in lengths)
    assert request_ids(data.training(0, skip=3)) == whole[3:]
    shares = [request_ids(data.training(0, replica=(i, 2))) for i in range(2)]
    assert [sorted(a + b) for a, b in zip(*shares)] == [sorted(batch) for batch in whole]
    # Another split of the folder is counted by impressions as ever.
    found = data.manifest.split("train")
    assert data.requests_per_batch("train") == round(16 * 10 / found.candidates)


def test_training_reads_train_unless_another_split_is_named(with_histories, folder):
    data = Input(with_histories, SCHEMA, InputConfig())
    assert data.training_split == "train"
    assert sorted(sum(request_ids(data.training(0)), [])) == sorted(f"r{i}" for i in range(10))
    absent = Input(folder, SCHEMA, InputConfig(), training_split="histories")
    with pytest.raises(ManifestError, match="no split 'histories'; set prepare.histories: true"):
        absent.training(0)


def test_replicas_share_every_batch(folder):
    data = Input(folder, SCHEMA, InputConfig(batch_size=32, window=4))
    whole = request_ids(data.training(0))
    shares = [request_ids(data.training(0, replica=(i, 2))) for i in range(2)]
    assert [sorted(a + b) for a, b in zip(*shares)] == [sorted(batch) for batch in whole]


def test_a_replica_without_a_request_gets_one_that_counts_nothing(tmp_path):
    write_prepared(tmp_path, SCHEMA, {"train": make_requests(1)}, shards=1)
    data = Input(tmp_path, SCHEMA, InputConfig(window=1))
    (batch,) = data.training(0, replica=(1, 2))
    assert batch["weights"]["click"].numpy().sum() == 0
    assert not batch["features"]["candidates_mask"].numpy().any()


def test_one_request_larger_than_a_batch_leaves_no_batch_empty(tmp_path):
    requests = make_requests(20)
    for name, value in (("item", ["i1"] * 100), ("genres", [["g"]] * 100)):
        requests[7]["features"][name] = value
    requests[7].update(items=["i1"] * 100, labels={"click": [1.0] * 100})
    write_prepared(tmp_path, SCHEMA, {"train": requests})
    data = Input(tmp_path, SCHEMA, InputConfig(batch_size=16, window=8))
    batches = request_ids(data.training(0))
    assert len(batches) == data.batches("train") and all(batches)


def test_deterministic_operations_run_one_at_a_time_and_say_nothing(folder, monkeypatch, recwarn):
    data = Input(folder, SCHEMA, InputConfig(batch_size=32))
    expected = request_ids(data.training(0))
    monkeypatch.setattr(input_module, "is_op_determinism_enabled", lambda: True)
    assert request_ids(data.training(0)) == expected
    assert not [str(each.message) for each in recwarn if "deterministic" in str(each.message)]


def test_empty_split_is_an_error(folder):
    with pytest.raises(ManifestError, match="split 'test' is empty"):
        Input(folder, SCHEMA, InputConfig()).evaluation("test")


def test_another_schema_is_an_error(folder):
    other = SCHEMA.model_copy(update={"tasks": {"like": SCHEMA.tasks["click"]}})
    with pytest.raises(ValueError, match="schema fingerprint"):
        Input(folder, other, InputConfig())


@pytest.fixture
def small_records(monkeypatch):
    monkeypatch.setattr(requests_module, "BLOCK", 4)


@pytest.fixture(params=["gzip", "none"])
def damaged(request, tmp_path, small_records):
    write_prepared(tmp_path, SCHEMA, {"train": make_requests(60)}, compression=request.param)
    suffix = ".gz" if request.param == "gzip" else ""
    path = tmp_path / f"train/part-00001-of-00002.tfrecord{suffix}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_truncated_shard_is_an_error_with_file_and_record(damaged):
    with pytest.raises(CorruptRecordError, match=r"part-00001-of-00002.*: record \d+: "):
        Input(damaged.parents[1], SCHEMA, InputConfig())


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


def flip(content: bytes, share: float) -> bytes:
    place = int(len(content) * share)
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_what_is_unreadable_is_skipped_and_counted(
    tmp_path, small_records, compression, damage, share
):
    write_prepared(tmp_path, SCHEMA, {"train": make_requests(60)}, compression=compression)
    path = sorted((tmp_path / "train").iterdir())[1]
    path.write_bytes(damage(path.read_bytes(), share))
    good = 0
    with pytest.raises(CorruptRecordError):
        for record in read_records(path):
            good += len(unpack(record))
    data = Input(tmp_path, SCHEMA, InputConfig(batch_size=16, corrupt="skip"))
    assert data.skipped == {f"train/{path.name}": 30 - good} and good < 30
    found = sum(request_ids(data.training(0)), [])
    assert len(found) == len(set(found)) == 30 + good == data.requests("train")
    assert request_ids(data.training(0, skip=1)) == request_ids(data.training(0))[1:]


def test_copies_of_damaged_shards_are_removed(damaged, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    batches = Input(damaged.parents[1], SCHEMA, InputConfig(corrupt="skip")).training(0)
    gc.collect()
    # A dataset keeps what it reads.
    assert len(sum(request_ids(batches), [])) < 60
    del batches
    gc.collect()
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("split", ["train", "histories"])
def test_flipped_byte_is_found(tmp_path, compression, split):
    splits = {"train": make_requests(60), "histories": make_requests(60)}
    write_prepared(tmp_path, SCHEMA, splits, 1, compression)
    (path,) = (tmp_path / split).iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    data = Input(tmp_path, SCHEMA, InputConfig(), training_split=split)
    message = rf"{split}/part-00000-of-00001\.tfrecord.*: record \d+"
    with pytest.raises(CorruptRecordError, match=message):
        with data.naming_corruption(split):
            request_ids(data.training(0))


def test_unknown_value_goes_to_the_out_of_vocabulary_row(folder):
    import tensorflow as tf

    preprocessor = Input(folder, SCHEMA, InputConfig()).preprocessor
    found = preprocessor(
        {"item": tf.constant([["never seen", ""]]), "hour": tf.constant([-1, 23, 24], tf.int64)}
    )
    assert found["item"].numpy().tolist() == [[preprocessor.rows["item"] - 1, 0]]
    assert found["hour"].numpy().tolist() == [25, 24, 25]
    assert preprocessor.rows["hour"] == 26


def test_training_statistics_normalise_numbers(folder):
    import tensorflow as tf

    preprocessor = Input(folder, SCHEMA, InputConfig()).preprocessor
    ages = np.array([request["features"]["age"] for request in make_requests(150)])
    found = preprocessor({"age": tf.constant([30.0])})["age"].numpy()
    np.testing.assert_allclose(found, [(30 - ages.mean()) / ages.std()], rtol=1e-5)
