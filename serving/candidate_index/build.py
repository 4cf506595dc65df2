"""A candidate index as a SavedModel: a query tower, and the items' vectors with their keys."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from ctr_tf.data.item_table import ItemTableError
from ctr_tf.export.item_encoder import QUERY, QUERY_TOWER, EncoderInfo
from ctr_tf.export.loading import load_saved_model, named_inputs
from ctr_tf.export.signatures import SERVING
from ctr_tf.export.versions import new_version
from ctr_tf.export.warmup import WARMUP_FILE, read_warmup, write_warmup
from ctr_tf.schema import CANDIDATE_KEYS
from serving.asking import SCORES
from serving.candidate_index.top_k import Kind, UnavailableError, top_k_layer

INDEX_FILE = "candidate_index.json"
LEAST_FOUND = 0.8
"""Of the best items, by an index that is not exact."""


def build(
    export: Path,
    table: Path,
    output: Path,
    kind: Kind = "brute_force",
    k: int = 500,
    version: int | None = None,
) -> Path:
    """Writes `output/<version>/`, which appears once a reload of it finds the best items.

    Its `serving_default` takes user side and context, and gives `candidate_keys` (B, k), strings,
    and `scores` (B, k), best first: the products of query and items, which are the logits less the
    bias of the head. `assets.extra/` has the schema, warm-up requests
    and `candidate_index.json`: kind, k, items, the table's version, and the share of the true best
    k that the warm-up requests were given.

    Args:
        export: a version's folder of a factorised model, with an item encoder.
        table: that this export's encoder made.
        output: the index's folder, whose name is the name it is served by.
        kind: see `top_k_layer`.
        k: items of an answer; all items where they are fewer.
        version: a positive integer; one more than the newest by default.

    Returns:
        The version's folder.

    Raises:
        ItemTableError: the table is of another export, empty or damaged.
        ValueError: the model is not factorised, `k` is below 1, the version exists, or `output` is
            the folder of the export.
        UnavailableError: see `top_k_layer`; or the index does not find enough of the best items.
    """
    export, output = Path(export), Path(output)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if output.resolve() == export.resolve().parent:
        raise ValueError(f"output must be another folder than that of the export, got {output}")
    encoder = EncoderInfo.read(export)
    keys, vectors = encoder.table(table).read()
    if not keys:
        raise ItemTableError(f"{table}: no items")
    k = min(k, len(keys))
    loaded = load_saved_model(export, encoder.schema)
    if QUERY_TOWER not in loaded.signatures:
        raise ValueError(f"{export}: no factorised model: it has no signature {QUERY_TOWER!r}")
    version = new_version(output, version)
    index = CandidateIndex(loaded, top_k_layer(kind, keys, vectors, k), k)
    asked = read_warmup(export / "assets.extra" / WARMUP_FILE)
    # The same request comes with candidates of every number, of which it has none.
    distinct = {_content(inputs): inputs for name, inputs in asked if name == QUERY_TOWER}
    requests = list(distinct.values())
    hidden = output / f".writing-{version}-{os.getpid()}"
    try:
        hidden.mkdir(parents=True)
        # A server takes no gradients.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(index, str(hidden), index.functions, options)
        extra = hidden / "assets.extra"
        extra.mkdir()
        shutil.copyfile(export / "assets.extra" / "schema.json", extra / "schema.json")
        write_warmup(extra / WARMUP_FILE, index, requests, output.resolve().name)
        reloaded = load_saved_model(hidden, encoder.schema)
        found = _share_found(reloaded, loaded, requests, keys, vectors)
        least = LEAST_FOUND if kind == "scann" else 1.0
        if found < least:
            raise UnavailableError(
                f"{kind} found {found:.4f} of the best items of the export's warm-up requests, "
                f"less than {least:g}"
            )
        facts = {"kind": kind, "k": k, "items": len(keys), "table": Path(table).name}
        facts |= {"encoder": encoder.fingerprint, "found": found}
        (extra / INDEX_FILE).write_text(json.dumps(facts, indent=2), encoding="utf-8")
        hidden.rename(output / str(version))
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return output / str(version)


class CandidateIndex(tf.Module):
    """A query tower and the layer that finds the items.

    Args:
        loaded: an export with a query tower.
        layer: of `top_k_layer`.
        k: items of an answer.

    Attributes:
        functions: by the signature's name; see `build`.
    """

    def __init__(self, loaded, layer, k: int):
        super().__init__()
        self.loaded = loaded
        self.layer = layer
        self._k = k
        tower = loaded.signatures[QUERY_TOWER]
        serve = tf.function(self._serve, autograph=False)
        self.functions = {SERVING: serve.get_concrete_function(**named_inputs(tower))}

    def _serve(self, **inputs):
        query = self.loaded.signatures[QUERY_TOWER](**inputs)[QUERY]
        scores, keys = self.layer(query, k=self._k)
        return {CANDIDATE_KEYS.name: keys, SCORES: scores}


def _content(inputs: dict[str, np.ndarray]) -> str:
    return repr(sorted((name, value.tolist()) for name, value in inputs.items()))


def _share_found(
    index, export, requests: list[dict], keys: list[str], vectors: np.ndarray
) -> float:
    """The share of the answers that are among the best items and have the score that they claim."""
    rows = {key: row for row, key in enumerate(keys)}
    good = total = 0
    for request in requests:
        inputs = {name: tf.constant(value) for name, value in request.items()}
        every = export.signatures[QUERY_TOWER](**inputs)[QUERY].numpy() @ vectors.T
        answer = index.signatures[SERVING](**inputs)
        found = answer[SCORES].numpy()
        named = answer[CANDIDATE_KEYS.name].numpy()
        named = np.array([[rows[key.decode()] for key in own] for own in named])
        least = np.partition(every, -found.shape[1], axis=1)[:, -found.shape[1], None]
        rounding = 1e-5 * np.abs(every).max()
        true = np.abs(np.take_along_axis(every, named, axis=1) - found) <= rounding
        good += (true & (found >= least - rounding)).sum()
        total += found.size
    return float(good / total)
