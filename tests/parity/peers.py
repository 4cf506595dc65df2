"""What other implementations made of given weights, and our models with these weights copied in."""

from pathlib import Path

import numpy as np

from benchmarks.parity.golden import COMPARED, FIELDS, WIDTH
from ctr_tf import registry
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import Schema

FOLDER = Path(__file__).parents[1] / "golden"
TABLE = "embedder/tables"
SIDES = {"gender": "user", "city": "user", "hour": "context"}


class Golden:
    """One file of `tests/golden`; `golden[name]` is a weight of the peer.

    Args:
        title: the file, `<peer>/<model>`.

    Attributes:
        inputs, outputs: by name.
        parameters: the peer's own count of what it trains.
        unread: names of weights that no one has asked for yet.
    """

    def __init__(self, title):
        with np.load(FOLDER / f"{title}.npz") as file:
            self.inputs, self.outputs, self._weights = (
                {name.removeprefix(kind): file[name] for name in file if name.startswith(kind)}
                for kind in ("input/", "output/", "weight/")
            )
            self.parameters = int(file["parameters"])
        self.unread = set(self._weights)

    def __getitem__(self, name):
        self.unread.discard(name)
        return self._weights[name]

    def named(self, *parts):
        """Names of weights with all of these parts, in order."""
        return [name for name in self._weights if all(part in name for part in parts)]

    def features(self, model):
        """The inputs as a model of ours reads them."""
        masks = {
            "candidates_mask": np.ones(self.inputs["item"].shape, bool),
            "history_mask": self.inputs["history_item"] > 0,
        }
        every = {**self.inputs, **masks}
        return {spec.name: every[spec.name] for spec in model.schema.inputs}


def build(name, history=False, numeric=False, fields=FIELDS, tasks=("click",), **given):
    """A model of ours over the peers' features.

    Args:
        name: of the architecture.
        history: whether there are behaviours.
        numeric: whether there is a number.
        fields: the features; what behaviours have besides has a table of its own.
        tasks: their names.
        given: settings of the architecture.
    """
    features = {
        field: {"kind": "categorical", "side": SIDES.get(field, "candidate")} for field in fields
    }
    if numeric:
        features["price"] = {"kind": "numeric"}
    rows, attributes = dict(FIELDS), {}
    for attribute in COMPARED:
        attributes[attribute] = {}
        if attribute not in fields:
            rows[f"history_{attribute}"] = size = FIELDS[attribute]
            encoder = {"dtype": "int", "encoding": "identity", "size": size}
            attributes[attribute] = {"encoder": encoder}
    sequences = {"history": {"attributes": attributes}}
    schema = Schema(
        keys={"user": "user", "time": "time", "item": "item"},
        features=features,
        sequences=sequences if history else {},
        tasks={task: {"column": task} for task in tasks},
    )
    config = registry.get(name).config(name=name, embedding={"width": WIDTH}, **given)
    return CTRModel(schema, config, rows)


def assign(model, values):
    """Sets every weight of a model or layer, each by the end of its path, tables by their names.

    Args:
        model: or a layer.
        values: path to value; for a table `embedder/tables/<name>`.
    """
    left = dict(values)
    for variable in model.weights:
        path = variable.path.partition("/")[2]
        if not path.startswith(TABLE):
            variable.assign(left.pop(path))
    if hasattr(model, "embedder"):
        tables = model.embedder.tables
        for name in tables.specs:
            value = left.pop(f"{TABLE}/{name}")
            assert value.shape == (tables.specs[name].rows, tables.specs[name].width)
            tables.write(name, 0, value)
    assert not left, f"no such weights: {sorted(left)}"


def trained(layer):
    """How many numbers are trained."""
    return sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights)


def assert_close(found, wanted):
    """Equal to 1e-5 of the largest value, or of 1."""
    wanted = np.asarray(wanted)
    scale = max(1.0, np.abs(wanted).max())
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * scale)


def assert_outputs(golden, model):
    """A model's logits and probabilities are the peer's."""
    logits = model(golden.features(model))
    scores = model.scores(logits)
    for name, wanted in golden.outputs.items():
        kind, task = name.split("/")
        assert_close({"logit": logits, "probability": scores}[kind][task], wanted)
