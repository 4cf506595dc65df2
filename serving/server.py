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

from pydantic import ValidationError

from ctr_tf.startup import start_tensorflow
from serving.config import ServeConfig
from serving.versions import Versions, servable

logger = logging.getLogger(__name__)


class Server:
    """Serves the newest version in a folder, and looks for newer ones.

    Args:
        name: the model's name in requests.
        folder: the model's folder, a folder a version in it.
        config: see `ServeConfig`.

    Raises:
        RuntimeError: no version could be loaded, or the port is taken.
    """

    def __init__(self, name: str, folder: Path, config: ServeConfig):
        from concurrent.futures import ThreadPoolExecutor

        import grpc
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        from serving.model import SavedModel
        from serving.service import ModelService, PredictionService

        self.config = config
        calls = config.workers + config.max_waiting
        # A thread a call, so that each can be answered in time; `workers` of them compute.
        self._pool = ThreadPoolExecutor(config.workers)
        self._grpc = grpc.server(
            ThreadPoolExecutor(calls),
            maximum_concurrent_rpcs=calls,
            options=[
                ("grpc.max_receive_message_length", config.max_request_mb * 2**20),
                ("grpc.max_send_message_length", -1),
                # Otherwise two servers may share a port, and each gets half of the calls.
                ("grpc.so_reuseport", 0),
            ],
        )
        self.port = self._grpc.add_insecure_port(f"{config.host}:{config.port}")
        self.versions = Versions(Path(folder), SavedModel)
        self.versions.refresh()
        if self.versions.current is None:
            errors = [f"version {n}: {error}" for n, (_, error) in self.versions.statuses().items()]
            raise RuntimeError(f"{folder}: nothing to serve; {'; '.join(errors) or 'no version'}")
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(name, self.versions, config, self._pool), self._grpc
        )
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
        """Answers calls and watches the folder, in threads."""
        self._grpc.start()
        self._watcher.start()

    def stop(self) -> None:
        """Refuses new calls and returns when those under way have ended."""
        self._stopping.set()
        self._health.enter_graceful_shutdown()
        self._grpc.stop(self.config.drain_seconds).wait()
        self._pool.shutdown(wait=False, cancel_futures=True)
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
        parser.add_argument(option, default=field.default, help=f"default: {field.default}")
    given = vars(parser.parse_args(arguments))
    model, folder, port_file = (given.pop(name) for name in ("model", "folder", "port_file"))
    try:
        # Options are text; only files have to be of the right type as they stand.
        config = ServeConfig.model_validate(given, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        parser.error(f"--{option}: {first['msg']}, got {first['input']!r}")
    # Before TensorFlow is imported, which takes seconds.
    if not servable(folder):
        parser.error(
            f"--folder: {folder} holds no version (a folder named by a positive integer, with a "
            "saved_model.pb)"
        )
    try:
        check_free(config.host, config.port)
    except OSError as error:
        parser.error(f"--port: {config.host}:{config.port}: {error.strerror}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    start_tensorflow()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = Server(model, folder, config)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    server.start()
    logger.info("model %r on %s:%d", model, config.host, server.port)
    if port_file:
        hidden = port_file.with_name(f".{port_file.name}.writing")
        hidden.write_text(str(server.port))
        hidden.rename(port_file)
    stop.wait()
    logger.info("stopping once the calls under way have ended")
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
