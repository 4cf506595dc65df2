"""A share of the answered calls, kept as TensorFlow Serving's request logging keeps them."""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ctr_tf.data.records import frame

logger = logging.getLogger(__name__)

_MAX_WAITING_BYTES = 64 * 2**20
_HIDDEN = ".{}.writing"


class RequestLog:
    """TFRecords of `tensorflow.serving.PredictionLog`: request, response, version, time.

    A thread of its own writes them. A file is hidden until it is whole: when it has its size, and
    when the log is closed. What the disk refuses, and what comes faster than it takes it, is
    counted as lost; the server goes on.

    Args:
        folder: where `requests-<time>-<process>.tfrecord` appear; it is made.
        share: of the answered calls, sampled at random.
        file_bytes: a file is complete once it has as many.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path, share: float, file_bytes: int):
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob(_HIDDEN.format("*"))):
            logger.warning("%s: not completed; its server ended or still writes it", path)
        self.folder = folder
        self.share = share
        self.file_bytes = file_bytes
        self.written = 0
        self.lost = 0
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._records: queue.Queue[bytes | None] = queue.Queue()
        self._file: _LogFile | None = None
        self._thread = threading.Thread(target=self._write_all, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def offer(
        self, request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse
    ) -> None:
        """Queues an answered call where it is sampled."""
        if random.random() >= self.share:
            return
        log = prediction_log_pb2.PredictionLog()
        log.log_metadata.model_spec.CopyFrom(response.model_spec)
        log.log_metadata.sampling_config.sampling_rate = self.share
        log.log_metadata.timestamp_secs = int(time.time())
        log.predict_log.request.CopyFrom(request)
        log.predict_log.response.CopyFrom(response)
        record = log.SerializeToString()
        with self._lock:
            if self._waiting_bytes + len(record) > _MAX_WAITING_BYTES:
                self.lost += 1
                return
            self._waiting_bytes += len(record)
        self._records.put(record)

    def close(self) -> None:
        """Writes what was queued and completes the last file."""
        self._records.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        while (record := self._records.get()) is not None:
            written = self._write(record)
            with self._lock:
                self._waiting_bytes -= len(record)
                self.written += written
                self.lost += not written
        if self._file:
            self._complete()

    def _write(self, record: bytes) -> bool:
        try:
            self._file = self._file or _LogFile(self.folder)
            self._file.append(record)
        except OSError as error:
            logger.error("request log: a call is lost: %s", error)
            return False
        if self._file.bytes >= self.file_bytes:
            self._complete()
        return True

    def _complete(self) -> None:
        file, self._file = self._file, None
        try:
            file.complete()
        except OSError as error:
            logger.error("request log: a file stays hidden: %s", error)


class _LogFile:
    """A file of whole records, hidden until it is complete."""

    def __init__(self, folder: Path):
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.path = folder / f"requests-{stamp}-{os.getpid()}.tfrecord"
        self.hidden = folder / _HIDDEN.format(self.path.name)
        self.bytes = 0
        # Unbuffered, so that a record that the disk refuses can be cut off.
        self._file = open(self.hidden, "ab", buffering=0)

    def append(self, record: bytes) -> None:
        data = frame(record)
        try:
            if self._file.write(data) < len(data):
                raise OSError(f"{self.hidden}: the disk is full")
        except OSError:
            self._file.truncate(self.bytes)
            raise
        self.bytes += len(data)

    def complete(self) -> None:
        self._file.close()
        self.hidden.rename(self.path)
