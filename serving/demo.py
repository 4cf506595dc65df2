"""From nothing to a served score: all stages of two experiments, then retrieve and rank.

Run it with `python -m serving.demo RETRIEVAL_CONFIG RANKING_CONFIG`.
"""

from __future__ import annotations

import shutil
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
from ctr_tf.data.manifest import CATALOGUE
from ctr_tf.evaluation.table import print_report
from ctr_tf.startup import start_tensorflow
from ctr_tf.workspace import Workspace
from pipelines.build_item_table import build as build_table
from serving.catalogue import visitor
from serving.score import compare


@contextmanager
def local_server(model: str, folder: Path, *options: str) -> Iterator[str]:
    """A server on a free port of loopback, in a process of its own; gives its address.

    Args:
        model: the name that it is served by.
        folder: of its versions.
        options: further ones of `python -m serving.server`.
    """
    with tempfile.TemporaryDirectory() as place:
        port_file = Path(place) / "port"
        command = [sys.executable, "-m", "serving.server", "--model", model]
        command += ["--folder", str(folder), "--port", "0", "--port-file", str(port_file), *options]
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


def main(retrieval: str, ranking: str, root: str = "workspace") -> None:
    """Runs the demo: a candidate index of one model's items, whose answers another model ranks.

    Args:
        retrieval: config of a two-tower model.
        ranking: config of the model that ranks, on the same data.
        root: of the workspace.
    """
    console = Console()
    began = time.monotonic()
    index, workspace = (Workspace(Path(root).absolute(), load(c)) for c in (retrieval, ranking))

    def title(text: str) -> None:
        console.rule(f"{text} [{time.monotonic() - began:.0f} s]", align="left")

    title("fetch")
    stages.fetch(workspace)
    title("prepare: raw log to request-shaped TFRecords")
    stages.prepare(workspace)
    stages.prepare(index)
    title("train the model that retrieves, by in-batch softmax")
    stages.train(index)
    title("train the model that ranks")
    stages.train(workspace)
    title("evaluate it on the test split")
    report = stages.evaluate(workspace)
    title("export both, and check the SavedModels in a fresh process")
    encoder, model = stages.export(index), stages.export(workspace)
    title("encode every item once, and index them")
    items = build_table(encoder, index.prepared / CATALOGUE, index.run / "items")
    start_tensorflow()
    from serving.candidate_index.build import build as build_index

    folder = index.run / "index" / "films"
    shutil.rmtree(folder, ignore_errors=True)
    indexed = build_index(encoder, items, folder)
    title("serve both; retrieve a user's best unseen items of all, then rank them")
    from serving.client import Client

    schema = workspace.experiment.log
    guest = visitor(workspace.prepared, schema)
    with (
        local_server("films", folder) as target,
        Client(target, "films", index.experiment.log) as client,
    ):
        client.wait()
        client.retrieve(guest.values)  # A first call is slower.
        asked = time.perf_counter()
        found = client.retrieve(guest.values)
        milliseconds = (time.perf_counter() - asked) * 1e3
    unseen = [key for key in found.keys if key in guest.unseen]
    console.print(
        f"{len(found.keys)} of all items retrieved in {milliseconds:.1f} ms, "
        f"{len(unseen)} of which are new to user {guest.user}"
    )
    name = workspace.experiment.name
    with local_server(name, workspace.exported) as target, Client(target, name, schema) as client:
        client.wait()
        compare(console, client, schema, guest.question(unseen), 10)
    title("done")
    print_report(report, console)
    paths = Table(show_header=False)
    for kind, path in (
        ("report", workspace.run / "report.html"),
        ("model", model),
        ("index", indexed),
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
