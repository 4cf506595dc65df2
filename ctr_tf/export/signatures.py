"""The three serving signatures: raw features in, scores out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import keras
import tensorflow as tf

from ctr_tf.export.item_encoder import (
    ENCODED_ITEM_TOWER,
    ITEM_ENCODER,
    ITEM_VECTORS,
    QUERY,
    QUERY_TOWER,
)
from ctr_tf.export.precision import stored_weights
from ctr_tf.layers.attention.buckets import bucketed
from ctr_tf.models.model import CTRModel
from ctr_tf.models.parts import in_parts
from ctr_tf.schema import CANDIDATES_MASK, InputSpec
from ctr_tf.types import Tensor

SERVING = "serving_default"
USER_TOWER = "user_tower"
ITEM_TOWER = "item_tower"
STATE_PREFIX = "state_"
"""Before each state part's name, in `user_tower`'s outputs and `item_tower`'s inputs, so that a
part and a feature of one name do not clash."""
TABLES = "tables/"
"""Before the names of the tables' variables in the saved files."""

Tensors = dict[str, Tensor]


class Signatures:
    """A model's concrete serving functions.

    Each runs the preprocessing, with every op pinned to the CPU (lookup tables and string hashing
    have no other kernels), then one dense function, left to be placed where TF Serving has a GPU.

    - `serving_default`: user, context and candidates to the probability of each task, (B, N).
    - `user_tower`: user side and declared context to the state, `state_<part>`.
    - `item_tower`: state, context and candidates to the probabilities.

    The score of a masked candidate is 0. A model without a user side takes `request_mask` (B,) in
    `user_tower`, which says how many requests there are.

    No axis has a size of its own, so that requests of all sizes take one trace.

    Args:
        model: a built model.
        preprocessor: raw tensors to the model's, any subset of its inputs; a `tf.Module`.
        dense: what weights besides tables are stored as; float32 for as they are.
        item_encoder: whether there are two more functions, for tables of items: `item_encoder`, of
            candidates to their vectors `item_vectors` (B, N, E), and `encoded_item_tower`, which
            takes these in the place of the candidates' features. A factorised model has one more,
            `query_tower`: of user side and context to `query` (B, E), whose products with the
            vectors are its logits.
        candidate_parts: number of parts of a request's candidates that are scored at the same time.

    Raises:
        ValueError: a feature's name is that of a state input.
    """

    def __init__(
        self,
        model: CTRModel,
        preprocessor: tf.Module,
        dense: str = "float32",
        item_encoder: bool = False,
        candidate_parts: int = 1,
    ):
        self.model = model
        self.preprocessor = preprocessor
        self._candidate_parts = candidate_parts
        self._weights = nullcontext() if dense == "float32" else stored_weights(model, dense)
        self._names = {spec.name for spec in model.schema.inputs}
        per_item = {s.name: _tensor_spec(s) for s in [*model.context_inputs, *model.item_inputs]}
        state = {
            STATE_PREFIX + name: tf.TensorSpec(shape, dtype, name=STATE_PREFIX + name)
            for name, (shape, dtype) in model.state_spec().items()
        }
        clashes = sorted(set(state) & set(per_item))
        if clashes:
            raise ValueError(f"feature {clashes[0]!r} has the name of a state input; rename it")
        self.functions = {
            SERVING: self._signature(
                self._serve, {s.name: _tensor_spec(s) for s in model.schema.inputs}
            ),
            USER_TOWER: self._signature(
                self._user_tower, {s.name: _tensor_spec(s) for s in model.user_inputs}
            ),
            ITEM_TOWER: self._signature(self._item_tower, {**state, **per_item}),
        }
        if item_encoder:
            items = {s.name: _tensor_spec(s) for s in model.item_inputs}
            encoded = {s.name: _tensor_spec(s) for s in model.context_inputs}
            encoded[CANDIDATES_MASK] = items[CANDIDATES_MASK]
            width = model.item_encoding.width
            encoded[ITEM_VECTORS] = tf.TensorSpec((None, None, width), name=ITEM_VECTORS)
            self.functions |= {
                ITEM_ENCODER: self._signature(self._item_encoder, items),
                ENCODED_ITEM_TOWER: self._signature(self._encoded_item_tower, {**state, **encoded}),
            }
        if item_encoder and model.body.factorised:
            request = [*model.user_inputs, *model.context_inputs]
            specs = {spec.name: _tensor_spec(spec) for spec in request}
            self.functions[QUERY_TOWER] = self._signature(self._query_tower, specs)

    def save(self, folder: Path) -> None:
        """Writes the SavedModel: graph, weights, vocabularies."""
        holder = tf.Module()
        holder.preprocessor = self.preprocessor
        # The variables alone: the Keras object would bring functions of its own.
        holder.tables = table_variables(self.model)
        tables = {variable.ref() for variable in holder.tables}
        read = {v.ref(): v for f in self.functions.values() for v in f.graph.variables}
        holder.dense = [variable for ref, variable in read.items() if ref not in tables]
        # A server takes no gradients.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(holder, str(folder), self.functions, options)

    def _signature(self, dense, specs: dict[str, tf.TensorSpec]):
        dense_function = tf.function(dense, autograph=False)
        preprocess = tf.function(self._preprocess, autograph=False)

        def signature(**raw):
            return dense_function(preprocess(raw))

        # A call has few requests, most of the time one.
        with bucketed(1), in_parts(self._candidate_parts), self._weights:
            return tf.function(signature, autograph=False).get_concrete_function(**specs)

    def _preprocess(self, raw: Tensors) -> Tensors:
        with tf.device("cpu"):
            known = {name: value for name, value in raw.items() if name in self._names}
            # Identity, so that no tensor passes through untouched by the device scope.
            rest = {n: tf.identity(value) for n, value in raw.items() if n not in self._names}
            return {**rest, **self.preprocessor(known)}

    def _serve(self, features: Tensors) -> Tensors:
        return self._scores(self.model(features), features)

    def _user_tower(self, features: Tensors) -> Tensors:
        state = self.model.user_tower(features)
        return {STATE_PREFIX + name: part for name, part in state.items()}

    def _item_tower(self, features: Tensors) -> Tensors:
        outputs = self.model.item_tower(self._state(features), features, features)
        return self._scores(outputs, features)

    def _query_tower(self, features: Tensors) -> Tensors:
        query = self.model.query_tower(self.model.user_tower(features), features)
        return {QUERY: tf.cast(query, tf.float32)}

    def _item_encoder(self, features: Tensors) -> Tensors:
        return {ITEM_VECTORS: tf.cast(self.model.item_encoder(features), tf.float32)}

    def _encoded_item_tower(self, features: Tensors) -> Tensors:
        vectors = tf.cast(features[ITEM_VECTORS], self.model.compute_dtype)
        mask = features[CANDIDATES_MASK]
        outputs = self.model.encoded_item_tower(self._state(features), features, vectors, mask)
        return self._scores(outputs, features)

    def _state(self, features: Tensors) -> Tensors:
        return {
            name.removeprefix(STATE_PREFIX): value
            for name, value in features.items()
            if name not in self._names and name != ITEM_VECTORS
        }

    def _scores(self, outputs: Tensors, features: Tensors) -> Tensors:
        mask = features[CANDIDATES_MASK]
        return {
            task: tf.where(mask, tf.cast(score, tf.float32), 0.0)
            for task, score in self.model.scores(outputs).items()
        }


def table_variables(model: CTRModel) -> list[tf.Variable]:
    """The variables of embedding tables, then those of cached vectors."""
    tables = model.embedder.tables
    found = [*(tables.weights if tables else ()), *model.embedder.vectors.values()]
    return [v.value if isinstance(v, keras.Variable) else v for v in found]


def saved_name(index: int) -> str:
    """The name of one of `table_variables` in the files that `Signatures.save` writes."""
    return f"{TABLES}{index}/.ATTRIBUTES/VARIABLE_VALUE"


def _tensor_spec(spec: InputSpec) -> tf.TensorSpec:
    return tf.TensorSpec((None,) * len(spec.axes), spec.dtype, name=spec.name)
