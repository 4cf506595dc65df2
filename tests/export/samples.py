"""Three shapes of log, their prepared folders, models with random weights and raw requests."""

import json
from pathlib import Path

import keras
import numpy as np

from ctr_tf import registry
from ctr_tf.schema import Categorical, Schema

WORDS = [f"v{i}" for i in range(9)]
IDS = [str(i) for i in range(100, 109)]

SCHEMAS = {
    "both": Schema(
        keys={"user": "user_id", "time": "time", "item": "item_id"},
        features={
            "user_id": {"kind": "categorical", "dtype": "int", "side": "user"},
            "age": {"kind": "numeric", "side": "user"},
            "hour": {
                "kind": "categorical",
                "dtype": "int",
                "encoding": "identity",
                "size": 24,
                "side": "context",
            },
            "item_id": {"kind": "categorical", "dtype": "int"},
            "genres": {"kind": "categorical", "multi": True},
            "title": {"kind": "text", "encoding": "hashed", "size": 50},
            "price": {"kind": "numeric", "default": 0.0},
        },
        sequences={"history": {"attributes": {"item_id": {}, "genres": {}}, "timestamps": True}},
        tasks={"click": {"column": "click"}, "like": {"column": "like"}},
    ),
    # As in the Criteo log: no user, candidate features alone.
    "candidates": Schema(
        features={
            "i1": {"kind": "numeric", "normalise": "log"},
            "c1": {"kind": "categorical", "encoding": "hashed", "size": 20},
            "c2": {"kind": "categorical"},
        },
        tasks={"click": {"column": "click"}},
    ),
    # As in the census log: a person and no candidate.
    "user": Schema(
        features={
            "age": {"kind": "numeric", "side": "user"},
            "job": {"kind": "categorical", "side": "user"},
        },
        tasks={"income": {"column": "income"}},
    ),
}

CASES = [(name, "both") for name in registry.entries()]
# Where a side is missing, parts of sums and gates are.
ONE_SIDED = ("dcn_v2", "deepfm", "ffm", "finalmlp", "fm", "pnn")
CASES += [(name, shape) for name in ONE_SIDED for shape in ("candidates", "user")]
HEADS = {
    **{kind: {"kind": kind} for kind in ("shared_bottom", "mmoe", "ple")},
    "esmm": {"kind": "esmm", "conversion": "like"},
}
CASES += [("dcn_v2", "both", kind) for kind in HEADS]


def prepared(folder: Path, schema: Schema) -> Path:
    """Vocabularies and statistics such as the preparation job writes."""
    (folder / "vocabularies").mkdir(parents=True, exist_ok=True)
    statistics = {}
    for name, feature in schema.encoders.items():
        if feature.kind == "numeric":
            statistics[name] = {
                "count": 9, "mean": 0.5, "std": 2.0, "minimum": -1.0, "maximum": 3.0,
            }  # fmt: skip
        elif feature.kind != "vector" and feature.encoding == "vocabulary":
            values = IDS if isinstance(feature, Categorical) and feature.dtype == "int" else WORDS
            (folder / "vocabularies" / f"{name}.txt").write_text("".join(f"{v}\n" for v in values))
    (folder / "statistics.json").write_text(json.dumps(statistics))
    return folder


def build(folder: Path, model: str, schema: Schema, **config):
    """A model without a weight of 0, so that every part counts in the score, and its
    preprocessor."""
    from ctr_tf.data.preprocess import Preprocessor
    from ctr_tf.models.model import CTRModel

    keras.utils.set_random_seed(7)
    preprocessor = Preprocessor(schema, prepared(folder, schema))
    entry = registry.get(model)
    built = CTRModel(
        schema, entry.config(name=model, **config), preprocessor.rows, preprocessor.vectors
    )
    rng = np.random.default_rng(8)
    for variable in built.trainable_variables:
        # Kernels keep their initial scale, so that no score saturates.
        if not variable.path.endswith("kernel"):
            variable.assign(rng.normal(0.0, 0.3, variable.shape))
    return built, preprocessor


def request(schema: Schema, seed: int = 0, batch: int = 1, candidates: int = 4, length: int = 3):
    """Random raw inputs by name; the last candidate and behaviour are padding where there are
    several."""
    rng = np.random.default_rng(seed)
    sizes = {"B": batch, "N": candidates, "L": length, "M": 2}
    found = {}
    for spec in schema.inputs:
        shape = tuple(sizes[axis] for axis in spec.axes)
        if spec.dtype == "bool":
            value = np.ones(shape, "bool")
            value[:, -1:] = shape[-1] == 1
        elif spec.dtype == "float32":
            value = rng.normal(size=shape).astype("float32")
        elif spec.dtype == "int64":
            # Outside 100..108 a value is out of the vocabulary.
            low, high = (0, 24) if spec.name == "hour" else (98, 110)
            value = rng.integers(low, high, size=shape)
        else:
            # A word is out of the vocabulary, or missing, now and then.
            value = rng.choice(np.array([*WORDS, "v1 of v2", "new", ""], object), size=shape)
        found[spec.name] = value
    return found
