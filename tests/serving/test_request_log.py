"""The request log: whole files, sampling, and what is lost."""

import errno
import random

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ctr_tf.data.records import frame
from serving import request_log
from serving.client import Client
from serving.config import ServeConfig
from serving.request_log import RequestLog
from serving.server import Server
from tests.export.samples import SCHEMAS, request
from tests.serving.test_server import refusal


def call(number):
    """A request and its response, told by a number."""
    asked, answered = predict_pb2.PredictRequest(), predict_pb2.PredictResponse()
    asked.inputs["id"].CopyFrom(tf.make_tensor_proto(number))
    answered.model_spec.name = "films"
    return asked, answered


def logs(folder):
    """The records of each complete file, read as TensorFlow reads them."""
    return [
        [
            prediction_log_pb2.PredictionLog.FromString(record.numpy())
            for record in tf.data.TFRecordDataset(str(path))
        ]
        for path in sorted(folder.glob("*.tfrecord"))
    ]


def numbers(folder):
    return [
        [int(tf.make_ndarray(log.predict_log.request.inputs["id"])) for log in file]
        for file in logs(folder)
    ]


def test_calls_to_a_server_are_logged(films, tmp_path):
    config = ServeConfig(port=0, request_log=tmp_path / "log", request_log_share=1.0)
    server = Server("films", films, config)
    server.start()
    raw = request(SCHEMAS["both"])
    with Client(f"127.0.0.1:{server.port}", "films") as client:
        scores = client.predict(None, raw)
        refusal("INVALID_ARGUMENT", "unknown signature", lambda: client.predict("rank", raw))
    server.stop()
    ((log,),) = logs(tmp_path / "log")
    spec = log.log_metadata.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("films", 3, "serving_default")
    assert log.log_metadata.sampling_config.sampling_rate == 1.0
    asked, answered = log.predict_log.request, log.predict_log.response
    np.testing.assert_array_equal(tf.make_ndarray(asked.inputs["item_id"]), raw["item_id"])
    np.testing.assert_array_equal(tf.make_ndarray(answered.outputs["click"]), scores["click"])


def test_a_file_is_complete_at_its_size(tmp_path):
    log = RequestLog(tmp_path, share=1.0, file_bytes=250)
    log.start()
    for number in range(5):
        log.offer(*call(number))
    log.close()
    assert (log.written, log.lost) == (5, 0)
    files = numbers(tmp_path)
    assert sum(files, []) == [0, 1, 2, 3, 4]
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert len(sizes) == len(files) > 1
    # Each but the last has its size, and no more than one record above it.
    record = max(sizes) // max(map(len, files))
    assert all(250 <= size < 250 + record for size in sizes[:-1])


def test_a_share_is_sampled(tmp_path, monkeypatch):
    drawn = iter([0.1, 0.3, 0.25, 0.2, 0.9])
    monkeypatch.setattr(random, "random", lambda: next(drawn))
    log = RequestLog(tmp_path, share=0.25, file_bytes=2**20)
    log.start()
    for number in range(5):
        log.offer(*call(number))
    log.close()
    assert numbers(tmp_path) == [[0, 3]]
    assert logs(tmp_path)[0][0].log_metadata.sampling_config.sampling_rate == 0.25


def test_what_comes_faster_than_it_is_written_is_counted(tmp_path, monkeypatch):
    size = len(_record(tmp_path / "one"))
    monkeypatch.setattr(request_log, "_MAX_WAITING_BYTES", 2 * size)
    log = RequestLog(tmp_path / "log", share=1.0, file_bytes=2**20)
    for number in range(5):
        log.offer(*call(number))
    log.start()
    log.close()
    assert (log.written, log.lost) == (2, 3)
    assert numbers(tmp_path / "log") == [[0, 1]]


def test_a_full_disk_costs_its_records_alone(tmp_path, monkeypatch):
    log = RequestLog(tmp_path, share=1.0, file_bytes=2**20)
    log.offer(*call(0))
    writes = []

    class Disk:
        """Takes half of the second record, then nothing, and then all again."""

        def __init__(self, file):
            self.file = file

        def write(self, data):
            writes.append(len(data))
            if len(writes) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data[: len(data) // 2] if len(writes) == 2 else data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(
        request_log, "open", lambda *given, **named: Disk(open(*given, **named)), raising=False
    )
    for number in range(1, 4):
        log.offer(*call(number))
    log.start()
    log.close()
    assert (log.written, log.lost) == (2, 2)
    assert numbers(tmp_path) == [[0, 3]]


def test_a_file_that_was_not_completed_is_told(tmp_path, caplog):
    hidden = tmp_path / ".requests-1.tfrecord.writing"
    hidden.write_bytes(frame(b"record"))
    RequestLog(tmp_path, share=1.0, file_bytes=1)
    assert f"{hidden}: not completed" in caplog.text
    assert hidden.exists()


def _record(folder):
    log = RequestLog(folder, share=1.0, file_bytes=1)
    log.offer(*call(0))
    log.start()
    log.close()
    return next(iter(tf.data.TFRecordDataset([str(p) for p in folder.iterdir()]))).numpy()
