"""Prediction files: round trip, and errors that name file, row and request."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_tf.evaluation.predictions import Predictions, write_shard


def columns(**changes):
    return {
        "request_id": ["r2", "r1", "r1"],
        "user_id": ["u", None, "v"],
        "time": [30, 10, None],
        "item_id": ["b", "a", None],
        "item_frequency": [7, 0, None],
        "history_length": [3, None, 0],
        "label.click": [1.0, 0.0, math.nan],
        "weight.click": [1.0, 2.0, 0.0],
        "score.click": [0.75, 0.25, 0.5],
    } | changes


def test_round_trip(tmp_path):
    path = write_shard(tmp_path / "predictions-00000-of-00001.parquet", columns())
    predictions = Predictions.read(path)
    assert len(predictions) == 3
    assert predictions.tasks == ["click"]
    # One id, two users: two requests.
    assert predictions.requests.tolist() == [0, 1, 2]
    assert predictions.users.tolist() == [0, -1, 1]
    assert predictions.items.tolist() == [1, 0, -1]
    assert predictions.item_frequencies.tolist() == [7, 0, -1]
    assert predictions.history_lengths.tolist() == [3, -1, 0]
    assert predictions.time_range == (10, 30)
    rows = predictions.task("click")
    assert rows.scores.tolist() == [0.75, 0.25, 0.5]
    assert rows.weights.tolist() == [1.0, 2.0, 0.0]
    assert rows.labels[:2].tolist() == [1.0, 0.0]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_shards_are_read_in_order_and_must_be_complete(tmp_path):
    for index in (1, 0):
        write_shard(
            tmp_path / f"predictions-{index:05d}-of-00002.parquet",
            columns(request_id=[f"s{index}"] * 3, **{"score.click": [index / 2] * 3}),
        )
    predictions = Predictions.read(tmp_path)
    assert predictions.task("click").scores.tolist() == [0.0] * 3 + [0.5] * 3
    (tmp_path / "predictions-00000-of-00002.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="predictions-00000-of-00002.parquet is missing"):
        Predictions.read(tmp_path)
    (tmp_path / "predictions-00001-of-00002.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="no .*parquet file in the folder"):
        Predictions.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="no prediction file"):
        Predictions.read([])


def test_optional_columns_may_miss_and_narrow_types_are_read(tmp_path):
    path = write_shard(
        tmp_path / "p.parquet",
        {
            "request_id": pa.array(["a", "b"]).dictionary_encode(),
            "label.t": np.array([0, 1], np.int8),
            "weight.t": np.ones(2, np.float32),
            "score.t": np.array([0.5, 0.25], np.float32),
        },
    )
    predictions = Predictions.read([path])
    assert predictions.users.tolist() == predictions.items.tolist() == [-1, -1]
    assert predictions.time_range is None
    assert predictions.task("t").labels.dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"score.click": [0.1, math.nan, 0.2]},
            r"`score.click` must be a probability in \[0, 1\], received nan in row 1, "
            "request_id 'r1'",
        ),
        ({"score.click": [0.1, 0.2, None]}, "received None in row 2, request_id 'r1'"),
        ({"score.click": [1.5, 0.2, 0.2]}, "received 1.5 in row 0, request_id 'r2'"),
        ({"label.click": [1.0, 0.5, 0.0]}, "`label.click` must be 0 or 1 .* received 0.5 in row 1"),
        ({"label.click": [None, 0.0, 0.0]}, "`label.click` must be 0 or 1 .* received None"),
        ({"weight.click": [1.0, 1.0, -1.0]}, "`weight.click` must be finite.* received -1.0"),
        ({"weight.click": [math.inf, 1.0, 1.0]}, "`weight.click` must be finite.* received inf"),
        ({"request_id": ["a", None, "b"]}, "`request_id` must be not null, received None in row 1"),
        ({"item_frequency": [1, -2, 1]}, "`item_frequency` must be at least 0 .* received -2"),
        ({"item_id": [1, 2, 3]}, "column `item_id` must be of string, received int64"),
        ({"history_length": ["a", "b", "c"]}, "`history_length` must be of int32, received string"),
        ({"history_length": [1.5, 2.0, 3.0]}, "column `history_length` must be of int32"),
    ],
)
def test_bad_values_name_file_row_and_request(tmp_path, changes, message):
    path = tmp_path / "bad.parquet"
    with pytest.raises(ValueError, match="bad.parquet: .*" + message):
        write_shard(path, columns(**changes))
    assert not list(tmp_path.iterdir())
    pq.write_table(pa.table(columns(**changes)), path)
    with pytest.raises(ValueError, match="bad.parquet: .*" + message):
        Predictions.read(path)


@pytest.mark.parametrize("missing", ["request_id", "label.click", "weight.click"])
def test_missing_columns_are_named(missing):
    table = columns()
    del table[missing]
    with pytest.raises(ValueError, match=f"memory: column `{missing}` is missing, received"):
        Predictions.from_columns(table)


def test_no_task_and_an_unknown_task_are_errors():
    with pytest.raises(ValueError, match="no column `score.<task>`"):
        Predictions.from_columns({"request_id": ["a"]})
    with pytest.raises(ValueError, match=r"`task` must be one of \['click'\], received 'buy'"):
        Predictions.from_columns(columns()).task("buy")


def test_files_of_other_tasks_and_broken_files_are_named(tmp_path):
    write_shard(tmp_path / "a.parquet", columns())
    other = {name.replace("click", "buy"): values for name, values in columns().items()}
    write_shard(tmp_path / "b.parquet", other)
    with pytest.raises(ValueError, match=r"b.parquet: `tasks` must be .* received \['buy'\]"):
        Predictions.read(tmp_path)
    whole = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="b.parquet: not a whole Parquet file"):
        Predictions.read(tmp_path)
