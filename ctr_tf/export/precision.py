"""The model that is served: the trained one with its weights in fewer bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from ctr_tf.export.config import ExportConfig
from ctr_tf.export.quantisation import columns, packed, stored_dtype, unpacked
from ctr_tf.layers.embedding.tables import CHUNK_ROWS, EmbeddingTables
from ctr_tf.models.model import CTRModel
from ctr_tf.training.train import dtype_policy
from ctr_tf.types import Tensor


class ServedTables:
    """Trained tables in the types that they are served in, read as `EmbeddingTables` are.

    Stacked as those are, with one gather a stack; the rows that it brings are unpacked.

    Args:
        tables: the trained ones.
        precision: `tables` of `ExportConfig`.
        shard_rows: see `EmbeddingTables`.

    Raises:
        ExportError: a value that the type cannot hold.

    Example:
        >>> from ctr_tf.layers.embedding.tables import TableSpec
        >>> trained = EmbeddingTables([TableSpec("item", 5, 4, "uniform"), TableSpec("bias", 5, 1)])
        >>> served = ServedTables(trained, "int8")
        >>> {name: spec.dtype for name, spec in served.specs.items()}
        {'item': 'int8', 'bias': 'float16'}
        >>> served.lookup([("item", ops.array([[1, 2]]))])[0].shape
        TensorShape([1, 2, 4])
    """

    def __init__(self, tables: EmbeddingTables, precision: str, shard_rows: int | None = None):
        self.specs = {
            name: replace(spec, dtype=stored_dtype(precision, spec.dtype, spec.width))
            for name, spec in tables.specs.items()
        }
        self._rows = EmbeddingTables(
            [
                replace(
                    spec,
                    width=columns(spec.dtype, spec.width),
                    initializer="zeros",
                    l2=0.0,
                    trainable=False,
                )
                for spec in self.specs.values()
            ],
            shard_rows,
        )
        self.place, self.pieces = self._rows.place, self._rows.pieces
        self.weights = self._rows.weights
        for name, spec in self.specs.items():
            for first in range(0, spec.rows, CHUNK_ROWS):
                rows = tables.read(name, first, min(CHUNK_ROWS, spec.rows - first))
                found = packed(name, ops.convert_to_numpy(rows), spec.dtype)
                self._rows.write(name, first, found)

    def lookup(self, requests: list[tuple[str, Tensor]]) -> list[Tensor]:
        """Rows of tables: for each (name, indices (...)), embeddings (..., width)."""
        found = self._rows.lookup(requests)
        return [
            unpacked(rows, self._rows.compute_dtype) if self.specs[name].dtype == "int8" else rows
            for (name, _), rows in zip(requests, found)
        ]


def stored_weights(model: keras.layers.Layer, dtype: str) -> keras.StatelessScope:
    """A scope within which a model reads what it learned from variables of another type.

    Other variables, such as moving statistics, are read as they are.

    Args:
        model: whose layers compute in that type.
        dtype: of the variables.

    Example:
        >>> with dtype_policy("mixed_float16"):
        ...     layer = keras.layers.Dense(1)
        >>> layer.build((None, 2))
        >>> with stored_weights(layer, "float16"):
        ...     layer.kernel.value.dtype
        tf.float16
    """
    scope = keras.StatelessScope()
    for variable in model.trainable_variables:
        # What a mapping holds is cast to the variable's type, what an update brings is not.
        scope.add_update((variable, tf.Variable(tf.cast(variable.value, dtype))))
    return scope


def served_model(model: CTRModel, config: ExportConfig) -> CTRModel:
    """A model of its own that scores as the export does; the model itself where nothing changes.

    Its dense weights are rounded to the type that they are stored in, but lie in variables of the
    trained type: see `stored_weights`.

    Args:
        model: the trained model, which stays as it is.
        config: see `ExportConfig`.

    Raises:
        ExportError: a value that its type cannot hold.
    """
    if config.as_trained:
        return model
    trained = model.embedder
    policy = model.dtype_policy.name if config.dense == "float32" else f"mixed_{config.dense}"
    vectors = {name: np.zeros((1, own.shape[1])) for name, own in trained.vectors.items()}
    with dtype_policy(policy):
        served = CTRModel(model.schema, model.config, dict.fromkeys(model.rows, 1), vectors)
        # So that statistics are told from weights that were frozen.
        served.trainable = True
        for own, value in zip(_dense(served), _dense(model), strict=True):
            rounds = own.trainable and config.dense != "float32"
            own.assign(ops.cast(value, config.dense) if rounds else value)
        if trained.tables is not None:
            shard_rows = model.config.embedding.shard_rows
            served.embedder.tables = ServedTables(trained.tables, config.tables, shard_rows)
    served.embedder.vectors = {
        name: _served_vectors(name, own, config.tables) for name, own in trained.vectors.items()
    }
    for key, projection in served.embedder.projections.items():
        own = served.embedder.vectors.get(key.partition("/")[0])
        if own is not None and own.dtype == tf.int8:
            served.embedder.projections[key] = _unpacking(projection)
    return served


def _dense(model: CTRModel) -> list[keras.Variable]:
    """All variables but those of tables and those that training alone reads."""
    tables = model.embedder.tables
    others = [*(tables.weights if tables else ()), *model.embedder.vectors.values()]
    others += [weight for layer in model.batch_loss_layers for weight in layer.weights]
    return [v for v in model.variables if not any(v is other for other in others)]


def _served_vectors(name: str, vectors: keras.Variable, precision: str) -> tf.Variable:
    trained = keras.backend.standardize_dtype(vectors.dtype)
    dtype = stored_dtype(precision, trained, vectors.shape[1])
    return tf.Variable(packed(name, ops.convert_to_numpy(vectors), dtype), trainable=False)


def _unpacking(projection: keras.layers.Layer) -> Callable[[Tensor], Tensor]:
    return lambda rows: projection(unpacked(rows))
