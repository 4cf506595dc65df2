"""The three serving signatures: raw features in, scores out."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from ctr_tf.layers.attention.buckets import bucketed
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import CANDIDATES_MASK, InputSpec
from ctr_tf.types import Tensor

SERVING = "serving_default"
USER_TOWER = "user_tower"
ITEM_TOWER = "item_tower"
STATE_PREFIX = "state_"
"""Before each state part's name, in `user_tower`'s outputs and `item_tower`'s inputs, so that a
part and a feature of one name do not clash."""

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

    Args:
        model: a built model.
        preprocessor: raw tensors to the model's, any subset of its inputs; a `tf.Module`.

    Raises:
        ValueError: a feature's name is that of a state input.
    """

    def __init__(self, model: CTRModel, preprocessor: tf.Module):
        self.model = model
        self.preprocessor = preprocessor
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

    def save(self, folder: Path) -> None:
        """Writes the SavedModel: graph, weights, vocabularies."""
        holder = tf.Module()
        holder.preprocessor = self.preprocessor
        # The variables alone: the Keras object would bring functions of its own.
        holder.weights = [variable.value for variable in self.model.variables]
        tf.saved_model.save(holder, str(folder), signatures=self.functions)

    def _signature(self, dense, specs: dict[str, tf.TensorSpec]):
        dense_function = tf.function(dense, autograph=False)
        preprocess = tf.function(self._preprocess, autograph=False)

        def signature(**raw):
            return dense_function(preprocess(raw))

        # A call has few requests, most of the time one.
        with bucketed(1):
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
        parts = {n: value for n, value in features.items() if n not in self._names}
        state = {name.removeprefix(STATE_PREFIX): value for name, value in parts.items()}
        return self._scores(self.model.item_tower(state, features, features), features)

    def _scores(self, outputs: Tensors, features: Tensors) -> Tensors:
        mask = features[CANDIDATES_MASK]
        return {
            task: tf.where(mask, tf.cast(score, tf.float32), 0.0)
            for task, score in self.model.scores(outputs).items()
        }


def saved_name(model: CTRModel, variable: keras.Variable) -> str:
    """The name of a model's variable in the files that `Signatures.save` writes."""
    index = next(i for i, own in enumerate(model.variables) if own is variable)
    return f"weights/{index}/.ATTRIBUTES/VARIABLE_VALUE"


def _tensor_spec(spec: InputSpec) -> tf.TensorSpec:
    return tf.TensorSpec((None,) * len(spec.axes), spec.dtype, name=spec.name)
