"""The embedded fields of one request and candidate, in NumPy, from a model's weights."""

import numpy as np

from ctr_tf.schema import Categorical, Numeric, Text, Vector
from tests.weights import array


class Embedded:
    """Looks up, pools and projects one value at a time.

    Args:
        model: whose tables and projections.
        features: a batch of it.
    """

    def __init__(self, model, features):
        self.model = model
        self.features = features
        self.schema = model.schema
        embedder = model.embedder
        self.tables = {name: embedder.tables.table(name) for name in embedder.tables.specs}
        self.projections = {key: array(p.kernel) for key, p in embedder.projections.items()}
        self.vectors = {name: array(value) for name, value in embedder.vectors.items()}

    def fields(self, names, where, view=""):
        """Vectors of the named features at an index: (b,) or (b, n)."""
        return [self._field(name, self.features[name][where], view) for name in names]

    def user(self, b, view=""):
        """Vectors of request b's user fields."""
        return self.fields(self.model.embedder.side_features["user"], (b,), view)

    def context(self, b, view=""):
        """Vectors of request b's context fields."""
        return self.fields(self.model.embedder.side_features["context"], (b,), view)

    def candidate(self, b, n, view=""):
        """Vectors of the candidate fields."""
        return self.fields(self.schema.side("candidate"), (b, n), view)

    def behaviours(self, sequence, b, view=""):
        """Attribute to (L, D) of request b, where it has that view, and the mask (L,)."""
        values = {}
        for attribute in self.schema.sequences[sequence].attributes:
            encoder = self.schema.attribute(sequence, attribute)
            table = self.tables.get(self.schema.encoder(attribute, sequence) + view)
            if table is None:
                continue
            rows = self.features[f"{sequence}_{attribute}"][b]
            values[attribute] = np.array([_rows(table, encoder, row) for row in rows])
        return values, self.features[f"{sequence}_mask"][b]

    def pooled_history(self, b):
        """The mean of each behaviour attribute of request b; zeros without behaviours."""
        pooled = []
        for sequence in self.schema.sequences:
            values, mask = self.behaviours(sequence, b)
            for value in values.values():
                zeros = np.zeros(value.shape[-1])
                pooled.append(value[mask].mean(axis=0) if mask.any() else zeros)
        return pooled

    def every_field(self, b, n):
        """Vectors of all fields of a candidate, behaviours by their mean, side by side."""
        return [*self.user(b), *self.pooled_history(b), *self.context(b), *self.candidate(b, n)]

    def first_order(self, b, n):
        """First-order weights of all features of a candidate: a view `linear`; behaviours have
        none."""
        sides = self.user(b, "/linear"), self.context(b, "/linear"), self.candidate(b, n, "/linear")
        return np.array([weight.item() for side in sides for weight in side])

    def _field(self, name, value, view):
        feature = self.schema.features[name]
        if isinstance(feature, (Categorical, Text)):
            return _rows(self.tables[self.schema.encoder(name) + view], feature, value)
        if isinstance(feature, Vector):
            return self.vectors[name][value] @ self.projections[name + view]
        if isinstance(feature, Numeric) and name + view in self.projections:
            return float(value) * self.projections[name + view][0]
        return np.array([float(value)])


def _rows(table, feature, value):
    if not (isinstance(feature, Text) or feature.multi):
        return np.asarray(table[value], np.float64)
    present = [np.asarray(table[index], np.float64) for index in value if index != 0]
    total = sum(present, np.zeros(table.shape[-1]))
    count = max(len(present), 1)
    return total / {"sum": 1, "mean": count, "sqrtn": np.sqrt(count)}[feature.combiner]


def assert_logits(model, features, expected, tolerance=1e-5):
    """Every valid candidate's logits against expected(b, n, task)."""
    outputs = model(features)
    mask = features["candidates_mask"]
    for task, logits in outputs.items():
        assert logits.shape == mask.shape
        wanted = [expected(b, n, task) for b, n in np.argwhere(mask)]
        scale = max(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(logits.numpy()[mask], wanted, rtol=0, atol=tolerance * scale)
