"""A local prediction server: TensorFlow Serving's gRPC services over a folder of versions.

Run it with `python -m serving.server --model NAME --folder DIR`.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import threading
from pathlib import Path

from ctr_tf.startup import start_tensorflow
from serving.config import ServeConfig
from serving.files import write_text
from serving.logs import start_logging
from serving.options import read_options
from serving.versions import Versions, servable

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_STOPS = {signal.SIGTERM, signal.SIGINT}
_SPARE_THREADS = 32
"""For the calls that are refused, for status and health, and for messages that come slowly."""


class Server:
    """Serves versions of a model in a folder, and looks for newer ones.

    Args:
        name: the model's name in requests.
        folder: the model's folder, a folder a version in it.
        config: see `ServeConfig`.

    Raises:
        RuntimeError: no version could be loaded, or the port is taken.
        OSError: a file of TLS cannot be read, or the request log's folder cannot be made.
    """

    def __init__(self, name: str, folder: Path, config: ServeConfig):
        from concurrent.futures import ThreadPoolExecutor

        import grpc
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc
        from prometheus_client import CollectorRegistry
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        from serving.intake import Intake
        from serving.metrics import CallMetrics, ServerState
        from serving.model import SavedModel
        from serving.model_service import ModelService
        from serving.request_log import RequestLog
        from serving.service import PredictionService
        from serving.tls import listen
        from serving.workers import Workers

        self.config = config
        self.metrics_port: int | None = None
        self._page = None
        self._registry = CollectorRegistry()
        metrics = CallMetrics(self._registry)
        # A thread a call, so that each can be answered in time; `workers` of them compute.
        threads = config.workers + config.max_waiting + _SPARE_THREADS
        self._grpc = grpc.server(
            ThreadPoolExecutor(threads),
            interceptors=[Intake(metrics)],
            maximum_concurrent_rpcs=threads,
            options=[
                ("grpc.max_receive_message_length", config.max_request_mb * 2**20),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_connection_age_ms", round(config.max_connection_seconds * 1000)),
                ("grpc.max_connection_age_grace_ms", round(config.max_seconds * 1000)),
                # Otherwise two servers may share a port, and each gets half of the calls.
                ("grpc.so_reuseport", 0),
            ],
        )
        self.port = listen(self._grpc, config)
        self.versions = Versions(Path(folder), SavedModel)
        self.versions.refresh()
        if self.versions.current is None:
            errors = [f"version {n}: {error}" for n, (_, error) in self.versions.statuses().items()]
            raise RuntimeError(f"{folder}: nothing to serve; {'; '.join(errors) or 'no version'}")
        self._workers = Workers(
            config.workers, config.batch_candidates, config.max_request_mb * 2**20
        )
        self._request_log = None
        if config.request_log is not None:
            self._request_log = RequestLog(
                config.request_log, config.request_log_share, config.request_log_mb * 2**20
            )
        self._registry.register(ServerState(self.versions, self._workers, self._request_log))
        predictions = PredictionService(
            name, self.versions, config, self._workers, metrics, self._request_log
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(predictions, self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(name, self.versions), self._grpc
        )
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        for service in ("", name):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Answers calls and watches the folder, in threads.

        Raises:
            OSError: the port of the metrics is taken.
        """
        from prometheus_client import start_http_server

        if self.config.metrics_port is not None:
            self._page, _ = start_http_server(self.config.metrics_port, LOOPBACK, self._registry)
            self.metrics_port = self._page.server_port
        if self._request_log is not None:
            self._request_log.start()
        self._workers.start()
        self._grpc.start()
        self._watcher.start()

    def stop(self) -> None:
        """Refuses new calls and returns when those under way have ended."""
        self._stopping.set()
        self._health.enter_graceful_shutdown()
        self._grpc.stop(self.config.drain_seconds).wait()
        self._workers.stop()
        if self._request_log is not None:
            self._request_log.close()
        if self._page is not None:
            self._page.shutdown()
            self._page.server_close()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._stopping.wait(self.config.poll_seconds):
            try:
                self.versions.refresh()
            except OSError:
                logger.exception("the folder could not be read; trying again")


def check_free(host: str, port: int) -> None:
    """Checks that a server can listen there; gRPC says so at length, and after TensorFlow.

    Raises:
        OSError: the port is taken or not allowed, or the host is none of this machine.
    """
    family, *_, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    socket.create_server(address, family=family).close()


def main(arguments: list[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m serving.server", description=__doc__)
    parser.add_argument("--model", required=True, help="the model's name in requests")
    parser.add_argument("--folder", required=True, type=Path, help="its folder of versions")
    parser.add_argument("--port-file", type=Path, help="written with the port once it serves")
    for name, field in ServeConfig.model_fields.items():
        option = "--" + name.replace("_", "-")
        default = "none" if field.default is None else field.default
        parser.add_argument(option, default=field.default, help=f"default: {default}")
    given = vars(parser.parse_args(arguments))
    model, folder, port_file = (given.pop(name) for name in ("model", "folder", "port_file"))
    config = read_options(parser, ServeConfig, given)
    # Before TensorFlow is imported, which takes seconds.
    if not servable(folder):
        parser.error(
            f"--folder: {folder} holds no version (a folder named by a positive integer, with a "
            "saved_model.pb)"
        )
    for option, host, port in (
        ("--port", config.host, config.port),
        ("--metrics-port", LOOPBACK, config.metrics_port or 0),
    ):
        try:
            check_free(host, port)
        except OSError as error:
            parser.error(f"{option}: {host}:{port}: {error.strerror}")
    start_logging(config.log_format)
    # Before any thread is started, for each inherits it: the signals wait until the main thread
    # takes them. A handler that runs as that thread goes to sleep would not wake it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    start_tensorflow()
    import tensorflow as tf

    # A setting of the process, before its first operation.
    tf.config.threading.set_intra_op_parallelism_threads(config.operation_threads)
    try:
        server = Server(model, folder, config)
        server.start()
    except (RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    logger.info("model %r on %s:%d", model, config.host, server.port)
    if server.metrics_port is not None:
        logger.info("metrics on http://%s:%d/metrics", LOOPBACK, server.metrics_port)
    if port_file:
        write_text(port_file, str(server.port))
    signal.sigwait(_STOPS)
    logger.info("stopping once the calls under way have ended")
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
