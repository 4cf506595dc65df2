"""Requests through gRPC: folded, in two steps and row by row, beside DeepCTR's DIN.

    python benchmarks/serving.py --workspace workspace

Each model is exported with random weights and served by the local server, a process of its own on
loopback. One client asks, one call at a time, for the latency, and several for the requests a
second; all ways and sizes of a model in turn. A request's arrays are made, and tiled, before the
clock runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.progress import track

# A script sees its own folder alone, where this file has the name of a package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import folding_cases
from benchmarks.files import write_text
from benchmarks.serving_page import CLIENTS, LENGTHS, PEER, PEER_OF, ROUNDS, WAYS, write
from benchmarks.training import bound_memory, environment, machine, run_module
from ctr_tf.analysis.cost import model_cost
from ctr_tf.analysis.sizes import Sizes
from ctr_tf.config import load
from ctr_tf.data.manifest import STATISTICS
from ctr_tf.data.preprocess import Preprocessor
from ctr_tf.data.raw_inputs import Arrays
from ctr_tf.export.config import ExportConfig
from ctr_tf.export.export import export
from ctr_tf.export.signatures import ITEM_TOWER, SERVING, USER_TOWER
from ctr_tf.models.model import CTRModel
from serving.client import Client
from serving.demo import local_server

ROOT = Path(__file__).parents[1]
MODELS = ("din", "dcn_v2", "bst", "srp4ctr")
CANDIDATES = (10, 100, 1000)
# Folded alone, for the line over N.
BETWEEN = (32, 320)
# Strings would cost Python's time on both ends, by each value that row-wise repeats.
INTEGERS = tuple(f"schema.features.{name}.dtype=int" for name in folding_cases.VOCABULARIES)
# The server gives up before.
TIMEOUT = 60.0
Call = Callable[[], np.ndarray]


@dataclass
class Cell:
    """One way to score requests of one size, and how long its calls took.

    Args:
        way: one of `WAYS`.
        candidates: N.
        call: asks once; returns the scores.
        milliseconds: of each timed call of one client.
        served: calls of several clients.
        seconds: that these took together.
    """

    way: str
    candidates: int
    call: Call
    milliseconds: list[float] = field(default_factory=list)
    served: int = 0
    seconds: float = 0.0

    def ask(self, seconds: float) -> None:
        """Asks once untimed, then until that time is over and at least once."""
        self.call()
        taken: list[float] = []
        began = before = time.perf_counter()
        while not taken or before < began + seconds:
            self.call()
            now = time.perf_counter()
            taken.append(1000 * (now - before))
            before = now
        self.milliseconds += taken

    @property
    def clients(self) -> int:
        """At once, where several ask; a call of row-wise with many candidates holds gigabytes."""
        return CLIENTS if self.candidates <= 100 else 1

    def serve(self, seconds: float) -> None:
        """Has the clients ask, each at least once, until that time is over."""
        began = time.perf_counter()

        def ask(_: int) -> int:
            asked = 0
            while not asked or time.perf_counter() < began + seconds:
                self.call()
                asked += 1
            return asked

        with ThreadPoolExecutor(self.clients) as pool:
            self.served += sum(pool.map(ask, range(self.clients)))
        self.seconds += time.perf_counter() - began

    def summary(self) -> dict:
        """Percentiles of one client by the nearest rank, and calls a second of several.

        Example:
            >>> cell = Cell("folded", 10, None, [1.0] * 98 + [26.0, 76.0], served=50, seconds=2.0)
            >>> [cell.summary()[name] for name in ("p50_ms", "p99_ms", "requests_per_second")]
            [1.0, 26.0, 25.0]
        """
        p50, p99 = np.percentile(self.milliseconds, (50, 99), method="inverted_cdf").tolist()
        return {
            "way": self.way,
            "candidates": self.candidates,
            "p50_ms": p50,
            "p99_ms": p99,
            "requests_per_second": self.served / self.seconds,
            "calls": len(self.milliseconds),
            "clients": self.clients,
        }


def exported(name: str, length: int, folder: Path) -> CTRModel:
    """A model with random weights over tables of MovieLens-1M's sizes, exported to the folder.

    The values of each vocabulary are the integers from 0.
    """
    settings = (*folding_cases.SETTINGS, *folding_cases.OWN_SETTINGS.get(name, ()), *INTEGERS)
    given = [each.format(length=length) for each in settings]
    experiment = load(ROOT / "configs" / folding_cases.MODELS[name], given)
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as place:
        prepared = Path(place)
        write_text(prepared / STATISTICS, "{}")
        for vocabulary, size in folding_cases.VOCABULARIES.items():
            values = "".join(f"{value}\n" for value in range(size))
            write_text(prepared / "vocabularies" / f"{vocabulary}.txt", values)
        preprocessor = Preprocessor(experiment.log, prepared)
        keras.utils.set_random_seed(1)
        model = CTRModel(experiment.log, experiment.model, preprocessor.rows)
        config = ExportConfig(warmup_requests=1, warmup_candidates=1)
        requests = [raw(folding_cases.request(model, length, CANDIDATES[0]))]
        export(model, preprocessor, folder, config, requests, version=1)
    return model


def raw(features: folding_cases.Features) -> Arrays:
    """What the preprocessing makes these features of: row n + 1 of a table is of the value n.

    Example:
        >>> raw({"age": np.array([3], "int32"), "request_time": np.array([9], "int64")})
        {'age': array([2]), 'request_time': array([9])}
    """
    return {
        name: value.astype("int64") - 1 if value.dtype == "int32" else value
        for name, value in features.items()
    }


def calls(client: Client, model: CTRModel, length: int, candidates: int) -> dict[str, Call]:
    """Asks for the scores of one request with N candidates, by way."""
    takes = {signature: own["inputs"] for signature, own in client.metadata().items()}
    features = folding_cases.request(model, length, candidates)
    whole, rows = raw(features), raw(folding_cases.tiled(model.schema, features))
    (task,) = model.schema.tasks

    def ask(signature: str, inputs: Arrays) -> Arrays:
        own = {name: inputs[name] for name in takes[signature]}
        return client.predict(signature, own, timeout=TIMEOUT)

    kept = whole | ask(USER_TOWER, whole)
    return {
        "folded": lambda: ask(SERVING, whole)[task],
        "two_step": lambda: ask(ITEM_TOWER, whole | ask(USER_TOWER, whole))[task],
        "item_tower": lambda: ask(ITEM_TOWER, kept)[task],
        "row_wise": lambda: ask(SERVING, rows)[task],
    }


def peer_exported(model: CTRModel, length: int, folder: Path) -> None:
    """Has DeepCTR export its DIN of the same fields and sizes."""
    rows: dict[str, dict[str, int]] = {"fields": {}, "history": {}}
    for spec in model.schema.inputs:
        if spec.feature:
            table = model.rows[model.schema.encoder(spec.feature, spec.sequence)]
            rows["history" if spec.sequence else "fields"][spec.feature] = table
    config = model.config
    sizes = rows | {
        "length": length,
        "width": config.embedding.width,
        "units": config.units,
        "activation": config.activation,
        "attention_units": config.attention_units,
        "attention_activation": config.attention_activation,
    }
    shutil.rmtree(folder, ignore_errors=True)
    file = write_text(folder / "sizes.json", json.dumps(sizes))
    module = "benchmarks.speed.deepctr_export"
    run_module(environment(PEER), module, str(file), str(folder / "1"))


def peer_call(client: Client, model: CTRModel, length: int, candidates: int) -> Call:
    """Asks DeepCTR's model for the scores of the same request, a row a candidate.

    It reads rows of tables: it has no preprocessing.
    """
    features = folding_cases.tiled(model.schema, folding_cases.request(model, length, candidates))
    inputs = {
        f"hist_{spec.feature}" if spec.sequence else spec.name: np.reshape(
            features[spec.name], (candidates, -1)
        )
        for spec in model.schema.inputs
        if spec.feature
    }

    def ask() -> np.ndarray:
        (scores,) = client.predict(SERVING, inputs, timeout=TIMEOUT).values()
        return scores

    return ask


def served(stack: ExitStack, name: str, folder: Path) -> Client:
    """A client of a server of its own, both of which end with the stack."""
    target = stack.enter_context(local_server(name, folder, "--operation-threads", "1"))
    return stack.enter_context(Client(target, name, channels=CLIENTS))


def measure(name: str, length: int, seconds: float, workspace: Path) -> list[dict]:
    """A row for each way and number of candidates.

    Raises:
        SystemExit: scores differ between ways, or DeepCTR's export fails.
    """
    folder = workspace.absolute() / "serving" / f"{name}_{length}"
    model = exported(name, length, folder)
    cells = []
    with ExitStack() as stack:
        client = served(stack, name, folder)
        for n in CANDIDATES:
            own = calls(client, model, length, n)
            folding_cases.difference(own)
            cells += [Cell(way, n, call) for way, call in own.items()]
        cells += [Cell("folded", n, calls(client, model, length, n)["folded"]) for n in BETWEEN]
        if name == PEER_OF:
            peer_folder = folder.with_name(f"{PEER}_{length}")
            peer_exported(model, length, peer_folder)
            peer = served(stack, PEER, peer_folder)
            cells += [Cell(PEER, n, peer_call(peer, model, length, n)) for n in CANDIDATES]
        for cell in track(cells * ROUNDS, f"{name}, L = {length}"):
            cell.ask(seconds / ROUNDS)
            cell.serve(seconds / ROUNDS)
    found = []
    cells.sort(key=lambda cell: (cell.candidates, WAYS.index(cell.way)))
    for n, own in itertools.groupby(cells, key=lambda cell: cell.candidates):
        cost = model_cost(model, Sizes(candidates=n, length=length))
        flops = {"folded_flops": cost.folded.total, "row_wise_flops": cost.row_wise.total}
        found += [{"model": name, "length": length, **cell.summary(), **flops} for cell in own]
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--lengths", nargs="+", type=int, choices=LENGTHS, default=list(LENGTHS))
    parser.add_argument("--seconds", type=float, default=4.0, help="of each way and size, twice")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    # An exception, so that the servers end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bound_memory()
    if PEER_OF in options.models:
        environment(PEER)
    where = f"{machine()}, TensorFlow {tf.__version__}"
    rows = []
    for name in options.models:
        for length in options.lengths:
            measured = measure(name, length, options.seconds, options.workspace)
            rows += [row | {"environment": where} for row in measured]
            written = write(options.output, rows)
    print(written.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
