"""Scores requests with a SavedModel in a process that knows TensorFlow alone.

Run as a file, never imported: `python -I reload_script.py MODEL REQUESTS SCORES [MODULE ...]`.
REQUESTS holds a pickled dict: `requests`, raw inputs by name, and `candidates`, the names of
those with a candidate axis. SCORES receives, by the way they were computed, each request's
scores: `folded` (`serving_default`), `towers` (`item_tower` of `user_tower`) and `rows`
(`serving_default` with the user side tiled, one candidate a request). MODULEs are imported first;
they register the model's ops.
"""

import importlib
import pickle
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf


def call(model, signature: str, values: dict) -> dict:
    """Calls a signature with those of the values that it takes, as NumPy arrays in and out."""
    function = model.signatures[signature]
    specs = function.structured_input_signature[1]
    inputs = {n: tf.constant(values[n], dtype=spec.dtype) for n, spec in specs.items()}
    return {name: value.numpy() for name, value in function(**inputs).items()}


def scores(model, request: dict, candidates: set) -> dict:
    """A request's scores by each of the three ways."""
    batch, count = request["candidates_mask"].shape
    values = {"request_mask": np.ones(batch, "bool"), **request}
    state = call(model, "user_tower", values)
    tiled = {
        name: value.reshape(batch * count, 1, *value.shape[2:])
        if name in candidates
        else np.repeat(value, count, axis=0)
        for name, value in request.items()
    }
    rows = call(model, "serving_default", tiled)
    return {
        "folded": call(model, "serving_default", request),
        "towers": call(model, "item_tower", {**values, **state}),
        "rows": {name: value.reshape(batch, count) for name, value in rows.items()},
    }


def main(folder: str, requests_path: str, scores_path: str, *modules: str) -> None:
    """Scores every request and writes the scores."""
    for module in modules:
        importlib.import_module(module)
    work = pickle.loads(Path(requests_path).read_bytes())
    model = tf.saved_model.load(folder)
    found = [scores(model, request, set(work["candidates"])) for request in work["requests"]]
    if any(name.split(".")[0] == "ctr_tf" for name in sys.modules):
        raise RuntimeError("ctr_tf was imported: the check would not show that it is not needed")
    Path(scores_path).write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
