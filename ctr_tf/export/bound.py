"""An export whose candidates are rows of a table of items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from ctr_tf.data.item_table import ItemTableError
from ctr_tf.data.raw_inputs import request_inputs
from ctr_tf.export.item_encoder import (
    ENCODED_ITEM_TOWER,
    ITEM_ENCODER,
    ITEM_VECTORS,
    UNKNOWN_ITEMS,
    Unknown,
)
from ctr_tf.export.loading import named_inputs
from ctr_tf.export.signatures import ITEM_TOWER, SERVING, USER_TOWER
from ctr_tf.export.warmup import read_warmup
from ctr_tf.schema import (
    CANDIDATE_KEYS,
    CANDIDATES_MASK,
    MISSING_INT,
    Categorical,
    Numeric,
    Schema,
)
from ctr_tf.types import Tensor

Tensors = dict[str, Tensor]

NEW_IDS = {"int": MISSING_INT + 1, "string": "\0"}
"""Ids that no vocabulary has."""


class BoundModel(tf.Module):
    """The functions of an export with a table of items.

    Args:
        loaded: the export.
        schema: of it.
        keys: a file with the key of each item, a line each.
        vectors: of the items, (rows, E).
        unknown: what a key that is not there is scored by: an item without features (`missing`), or
            the features of the request.

    Attributes:
        functions: by the signature's name; see `bind`.
    """

    def __init__(self, loaded, schema: Schema, keys: Path, vectors: np.ndarray, unknown: Unknown):
        super().__init__()
        self.loaded = loaded
        self._encoder, self._tower = (
            loaded.signatures[name] for name in (ITEM_ENCODER, ENCODED_ITEM_TOWER)
        )
        self._names = [spec.name for spec in schema.inputs if spec.side == "candidate"]
        self._by_features = unknown == "features"
        # Behind the items' rows, that of an item without features.
        self.vectors = tf.Variable(np.concatenate([vectors, self._missing(schema)]), False)
        self.index = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                str(keys), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=len(vectors),
        )  # fmt: skip
        user = named_inputs(loaded.signatures[USER_TOWER])
        tower = named_inputs(self._tower)
        del tower[ITEM_VECTORS]
        keys_name = CANDIDATE_KEYS.name
        tower[keys_name] = tf.TensorSpec((None, None), tf.string, name=keys_name)
        if self._by_features:
            tower |= named_inputs(self._encoder)
        states = loaded.signatures[USER_TOWER].structured_outputs
        whole = {**user, **{name: spec for name, spec in tower.items() if name not in states}}
        whole.pop("request_mask", None)
        self.functions = {
            SERVING: self._signature(self._serve, whole),
            USER_TOWER: self._signature(self._user_tower, user),
            ITEM_TOWER: self._signature(self._item_tower, tower),
        }

    def _missing(self, schema: Schema) -> np.ndarray:
        """The vector of an item of which nothing is known but that its id is new, (1, E)."""
        values: dict[str, list] = {}
        for name, feature in schema.side("candidate").items():
            value = None
            if isinstance(feature, Categorical):
                is_id = (feature.column or name) == schema.keys.item
                value = [] if feature.multi else NEW_IDS[feature.dtype] if is_id else None
            elif isinstance(feature, Numeric) and feature.default is None:
                value = 0.0
            values[name] = [value]
        inputs = request_inputs(schema, values, only=self._names)
        return self._encoder(**{n: tf.constant(x) for n, x in inputs.items()})[ITEM_VECTORS][0]

    def _signature(self, function, specs: dict[str, tf.TensorSpec]):
        def signature(**inputs):
            return function(inputs)

        return tf.function(signature, autograph=False).get_concrete_function(**specs)

    def _serve(self, inputs: Tensors) -> Tensors:
        mask = inputs[CANDIDATES_MASK]
        inputs = {"request_mask": tf.ones(tf.shape(mask)[:1], tf.bool), **inputs}
        return self._item_tower({**inputs, **self._user_tower(inputs)})

    def _user_tower(self, inputs: Tensors) -> Tensors:
        function = self.loaded.signatures[USER_TOWER]
        return function(**{name: inputs[name] for name in named_inputs(function)})

    def _item_tower(self, inputs: Tensors) -> Tensors:
        mask = inputs[CANDIDATES_MASK]
        with tf.device("cpu"):
            rows = self.index.lookup(inputs[CANDIDATE_KEYS.name])
            unknown = tf.equal(rows, self.vectors.shape[0] - 1) & mask
        vectors = tf.gather(self.vectors, rows)
        if self._by_features:
            vectors = tf.cond(
                tf.reduce_any(unknown),
                lambda: tf.where(unknown[..., None], self._encoded(inputs), vectors),
                lambda: vectors,
            )
        inputs = {**inputs, ITEM_VECTORS: vectors}
        scores = self._tower(**{name: inputs[name] for name in named_inputs(self._tower)})
        return {**scores, UNKNOWN_ITEMS: unknown}

    def _encoded(self, inputs: Tensors) -> Tensor:
        return self._encoder(**{name: inputs[name] for name in self._names})[ITEM_VECTORS]


def check_scores(
    reloaded,
    export,
    requests: list[dict[str, np.ndarray]],
    keys: list[str],
    vectors: np.ndarray,
    tolerance: float,
) -> None:
    """Holds a bound model's scores against those of its export, with vectors looked up here.

    Args:
        reloaded: the bound model, as a server loads it.
        export: what it was made of.
        requests: of `warmup_requests`, whose keys the table has.
        keys: of the table.
        vectors: of the table, (rows, E).
        tolerance: the largest difference of scores.

    Raises:
        ItemTableError: they differ by more.
    """
    rows = {key: row for row, key in enumerate(keys)}
    user, tower = (export.signatures[name] for name in (USER_TOWER, ENCODED_ITEM_TOWER))
    whole = reloaded.signatures[SERVING]

    def call(function, inputs: dict) -> Tensors:
        names = function.structured_input_signature[1]
        return function(**{name: tf.constant(inputs[name]) for name in names})

    for request in requests:
        given = {"request_mask": np.ones(len(request[CANDIDATES_MASK]), bool), **request}
        asked = request[CANDIDATE_KEYS.name]
        own = vectors[[rows[key] for key in asked.ravel()]].reshape(*asked.shape, -1)
        expected = call(tower, {**given, **call(user, given), ITEM_VECTORS: own})
        found = call(whole, given)
        for task, scores in expected.items():
            difference = float(np.abs(found[task] - scores).max(initial=0))
            if not difference <= tolerance:
                raise ItemTableError(
                    f"the bound model's {task} differs from its export's by {difference:.2g}, "
                    f"more than {tolerance:g}"
                )


def warmup_requests(path: Path, keys: list[str]) -> list[dict[str, np.ndarray]]:
    """The requests of an export's warm-up, with keys of items for their candidates.

    Args:
        path: the export's warm-up requests.
        keys: of the table.
    """
    found = []
    for signature, inputs in read_warmup(path):
        if signature == SERVING:
            shape = inputs[CANDIDATES_MASK].shape
            # Even steps through the table, each request from another place on.
            step = max(1, len(keys) // int(np.prod(shape)))
            rows = (len(found) + step * np.arange(np.prod(shape, dtype=int))) % len(keys)
            inputs[CANDIDATE_KEYS.name] = np.array(keys, object)[rows].reshape(shape)
            found.append(inputs)
    return found
