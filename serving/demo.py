"""From nothing to a served score: every stage of an experiment, then the server and a question.

Run it with `python -m serving.demo CONFIG`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ctr_tf import stages
from ctr_tf.config import load
from ctr_tf.evaluation.table import print_report
from ctr_tf.startup import start_tensorflow
from ctr_tf.workspace import Workspace
from serving.catalogue import unseen_items
from serving.score import compare


@contextmanager
def local_server(model: str, folder: Path) -> Iterator[str]:
    """A server on a free port of loopback, in a process of its own; gives its address."""
    with tempfile.TemporaryDirectory() as place:
        port_file = Path(place) / "port"
        command = [sys.executable, "-m", "serving.server", "--model", model]
        command += ["--folder", str(folder), "--port", "0", "--port-file", str(port_file)]
        server = subprocess.Popen(command, stderr=(Path(place) / "log").open("w"))
        try:
            for _ in range(600):
                if port_file.exists() and port_file.read_text().strip():
                    break
                if server.poll() is not None:
                    raise RuntimeError((Path(place) / "log").read_text())
                time.sleep(0.1)
            else:
                raise RuntimeError("the server did not start within 60 s")
            yield f"127.0.0.1:{port_file.read_text().strip()}"
        finally:
            server.terminate()
            server.wait(timeout=60)


def main(config: str, root: str = "workspace") -> None:
    """Runs the demo of a config."""
    console = Console()
    began = time.monotonic()
    workspace = Workspace(Path(root).absolute(), load(config))

    def title(text: str) -> None:
        console.rule(f"{text} [{time.monotonic() - began:.0f} s]", align="left")

    title("fetch")
    stages.fetch(workspace)
    title("prepare: raw log to request-shaped TFRecords")
    stages.prepare(workspace)
    title("train")
    stages.train(workspace)
    title("evaluate on the test split")
    report = stages.evaluate(workspace)
    title("export, and check the SavedModel in a fresh process")
    model = stages.export(workspace)
    title("serve, and ask for one user's best unseen items")
    schema = workspace.experiment.log
    question = unseen_items(workspace.prepared, schema, None, 500)
    start_tensorflow()
    from serving.client import Client

    name = workspace.experiment.name
    with local_server(name, workspace.exported) as target, Client(target, name, schema) as client:
        client.wait()
        compare(console, client, schema, question, 10)
    title("done")
    print_report(report, console)
    paths = Table(show_header=False)
    for kind, path in (
        ("report", workspace.run / "report.html"),
        ("model", model),
        ("data", workspace.prepared),
    ):
        paths.add_row(kind, str(path))
    console.print(paths)
    console.print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ValueError, RuntimeError, FileNotFoundError) as problem:
        sys.exit(f"error: {problem}")
