"""The commands and the Python of serving/README.md, in its order, on a small export."""

import gzip
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from ctr_tf.data.config import InputConfig
from ctr_tf.data.input import Input
from ctr_tf.export.config import ExportConfig
from ctr_tf.export.export import export
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import Schema
from serving.client import Client
from tests.cases import small_config
from tests.prepared import write_prepared
from tests.weights import randomise

ROOT = Path(__file__).parents[2]
README = (ROOT / "serving" / "README.md").read_text(encoding="utf-8")
SCHEMA = Schema(
    keys={"user": "user_id", "time": "time", "item": "item_id"},
    features={
        "user_id": {"kind": "categorical", "side": "user"},
        "item_id": {"kind": "categorical"},
    },
    sequences={"history": {"max_length": 4, "attributes": {"item_id": {}}}},
    tasks={"click": {"column": "click"}},
)
FILMS = ["Heat (1995)", "Casino (1995)", "Toy Story (1995)", "Big (1988)"]
ELSEWHERE = {
    "kubectl": "needs a cluster; tests/serving/test_deploy.py reads the manifests",
    "docker": "needs the image; tests/serving/test_deploy.py reads the configuration",
    "--tls-certificate": "tests/serving/test_tls.py",
    "ctr-tf": "tests/export and tests/test_stages.py",
}


def blocks(text):
    """Commands, a line each, and Python, in order; what is indented goes on with the last."""
    found, python = [], ""
    for part in re.split(r"(```python\n.*?```)", text, flags=re.S):
        if part.startswith("```python"):
            code = part.removeprefix("```python\n").removesuffix("```")
            python = python + code if code.startswith("    ") else code
            found.append(("python", textwrap.dedent(python)))
            continue
        joined = part.replace("\\\n", " ")
        names = tuple(["python -m ", *ELSEWHERE])
        for line in re.findall(r"^    (\S.*)$", joined, flags=re.M):
            if line.startswith(names):
                found.append(("command", re.sub(r"\s+", " ", line)))
    return found


def variables(text):
    """The folders that the guide names, as `NAME=value` lines."""
    return dict(re.findall(r"^    ([A-Z]+)=(\S+)$", text, flags=re.M))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """The folders of the guide, with one version each, and a function that adds the second."""
    root = tmp_path_factory.mktemp("guide")
    named = {name: root / value for name, value in variables(README).items()}
    requests = [
        {
            "id": f"r{n}",
            "user": "42",
            "time": 10 + n,
            "items": FILMS[: 2 + n % 2],
            "labels": {"click": [1.0, 0.0, 1.0][: 2 + n % 2]},
            "features": {
                "user_id": "42",
                "history_item_id": FILMS[:n],
                "item_id": FILMS[: 2 + n % 2],
            },
        }
        for n in range(3)
    ]
    write_prepared(named["DATA"], SCHEMA, {"train": requests, "test": requests})
    with gzip.open(named["DATA"] / "catalogue.jsonl.gz", "wt") as file:
        for film in FILMS:
            file.write(json.dumps({"item_id": film, "features": {"item_id": film}}) + "\n")
    line = {"values": {"user_id": "42", "history_item_id": FILMS[:1], "item_id": FILMS}}
    with gzip.open(root / "requests.jsonl.gz", "wt") as file:
        file.write(json.dumps({"id": 7, **line}) + "\n")

    def version(folder, name, seed):
        data = Input(named["DATA"], SCHEMA, InputConfig(), seed=1)
        own = small_config(name, embedding={"width": 4})
        model = CTRModel(SCHEMA, own, data.preprocessor.rows, data.preprocessor.vectors)
        randomise(model, np.random.default_rng(seed))
        config = ExportConfig(item_encoder=True, check_requests=1, warmup_candidates=2)
        folder.mkdir(parents=True, exist_ok=True)
        return export(model, data.preprocessor, folder, config, data.raw_requests("test", 3))

    first = version(named["FILMS"], "din", 3)
    version(named["TOWERS"], "two_tower", 4)
    shutil.copy(first / "assets.extra" / "schema.json", root / "schema.json")
    return root, lambda: version(named["FILMS"], "din", 5)


@pytest.fixture
def servers():
    """Port in the guide to process and port here."""
    started = {}
    yield started
    for process, _ in started.values():
        process.terminate()
        assert process.wait(timeout=60) == 0


def serve(arguments, started, root):
    port = arguments[arguments.index("--port") + 1]
    if port in started:
        return
    file = root / f"port-{port}"
    arguments[arguments.index("--port") + 1] = "0"
    command = [sys.executable, "-m", "serving.server", *arguments, "--port-file", str(file)]
    process = subprocess.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait(lambda: file.exists() or process.poll() is not None)
    started[port] = process, file.read_text()


def wait(happened):
    for _ in range(1200):
        if happened():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within two minutes")


def available(address, version):
    with Client(address, "films") as client:
        return client.status().get(version) == "AVAILABLE"


def test_every_block_runs(workspace, servers, monkeypatch):
    root, add_second = workspace
    monkeypatch.chdir(root)
    named = variables(README)
    space, ran = {}, []
    for kind, text in blocks(README):
        skipped = [why for mark, why in ELSEWHERE.items() if mark in text]
        if kind == "command" and skipped:
            continue
        for port, (_, here) in servers.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{here}")
        if kind == "python":
            exec(compile(text, "serving/README.md", "exec"), space)
            ran.append("python")
            continue
        for name, value in named.items():
            text = text.replace(f"${name}", value)
        if "--canary 2" in text:
            add_second()
            wait(lambda: available(f"127.0.0.1:{servers['8500'][1]}", 2))
        _, _, module, *arguments = shlex.split(text)
        if module == "serving.server":
            serve(arguments, servers, root)
        else:
            found = importlib.import_module(module)
            if hasattr(found, "__path__"):
                found = importlib.import_module(f"{module}.__main__")
            assert found.main(arguments) == 0, text
        ran.append(module)
    assert ran.count("python") == 6
    assert set(ran) >= {
        "serving.server", "serving.parity", "serving.deploy", "serving.score_file",
        "serving.candidate_index", "pipelines.build_item_table", "ctr_tf.export.bind_items",
    }  # fmt: skip
    answer = json.loads((root / "scores.jsonl").read_text())
    assert answer["id"] == 7 and len(answer["scores"]["click"]) == 4
    assert space["scores"]["unknown_items"].tolist() == [False] * 4
    assert sorted(space["found"].keys) == sorted(FILMS)
