"""The folder of versions, and the server process that looks at it."""

from __future__ import annotations

import shutil
import socket
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.serving_load.messages import MOST_CANDIDATES, NAME
from benchmarks.training import ROOT
from ctr_tf.export.versions import prune
from serving.server import LOOPBACK

MOST_MB = 2
MOST_BYTES = MOST_MB * 2**20
# So few places that eight clients take all of them now and then.
LIMITS = {
    "workers": 2, "max-waiting": 4, "max-candidates": MOST_CANDIDATES, "max-request-mb": MOST_MB,
}  # fmt: skip


class Versions:
    """The folder of versions that the server looks at: two at a time, and three during a swap.

    Args:
        exports: what even and odd versions are copies of.
        folder: the model's folder.
    """

    def __init__(self, exports: Sequence[Path], folder: Path):
        self.exports = exports
        self.folder = folder
        self.swaps: list[float] = []
        """When each began."""
        for version in (1, 2):
            self._put(version)
        self.newest = self.coming = 2
        """Answers come of a version between the two, which differ during a swap."""

    def label(self, port: int, newest: int) -> None:
        """Has all of the folder loaded and its newest two labelled, and waits for it."""
        from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

        request = model_management_pb2.ReloadConfigRequest()
        entry = request.config.model_config_list.config.add(name=NAME)
        entry.model_version_policy.all.SetInParent()
        entry.version_labels.update({"stable": newest - 1, "canary": newest})
        with grpc.insecure_channel(f"{LOOPBACK}:{port}") as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            stub.HandleReloadConfigRequest(request, timeout=120)

    def swap(self, port: int, second: float) -> None:
        """A version appears and takes over, labels move, and the oldest goes."""
        self.swaps.append(second)
        self.coming += 1
        self._put(self.coming)
        self.label(port, self.coming)
        self.newest = self.coming
        prune(self.folder, keep=2, spare=self.newest)

    def _put(self, version: int) -> None:
        hidden = self.folder / f".{version}"
        shutil.copytree(self.exports[version % 2], hidden)
        hidden.rename(self.folder / str(version))


@contextmanager
def served(folder: Path, log: Path) -> Iterator[tuple[psutil.Popen, int, int]]:
    """A server in a process of its own, its port and that of its page.

    Raises:
        RuntimeError: it ended, or did not serve within a minute.
    """
    with socket.create_server((LOOPBACK, 0)) as free:
        page_port = free.getsockname()[1]
    port_file = log.with_name("port")
    options = LIMITS | {"model": NAME, "folder": folder, "port": 0, "port-file": port_file}
    options |= {"metrics-port": page_port}
    command = [sys.executable, "-m", "serving.server"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with log.open("w") as said:
        # Of its own session, so that a terminal's SIGINT is for the clients first.
        process = psutil.Popen(command, cwd=ROOT, stderr=said, start_new_session=True)
    try:
        ends = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text()):
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"the server did not start: {log.read_text()[-4000:]}")
            time.sleep(0.1)
        yield process, int(port_file.read_text()), page_port
    finally:
        process.terminate()
        process.wait(60)


def settled(port: int) -> Counter:
    """What the server counted, by metric, signature and code, once it has stopped changing."""
    before, counts = None, read_page(port)
    while counts != before or counts["ctr_tf_computing_calls", "", ""]:
        time.sleep(0.5)
        before, counts = counts, read_page(port)
    return counts


def read_page(port: int) -> Counter:
    """The server's page as it is, by metric, signature and code."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    labels = ("signature", "code")
    return Counter({
        (sample.name, *(sample.labels.get(label, "") for label in labels)): sample.value
        for family in families
        for sample in family.samples
    })  # fmt: skip
