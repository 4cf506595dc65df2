"""One loaded version of a model: its signatures, what they take, and their answers."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from ctr_tf.data.raw_inputs import Arrays
from ctr_tf.export.loading import load_saved_model
from ctr_tf.export.warmup import WARMUP_FILE, read_warmup
from ctr_tf.schema import Schema
from serving.validation import InputRule, input_rules


class SavedModel:
    """A SavedModel in memory, warmed up.

    Args:
        folder: a version's folder. `assets.extra/schema.json` and the warm-up requests are used
            where they are there.

    Raises:
        OSError: there is no SavedModel.
        tf.errors.OpError: it cannot be loaded, or a warm-up request fails.
    """

    def __init__(self, folder: Path):
        extra = folder / "assets.extra"
        schema = None
        if (extra / "schema.json").exists():
            schema = Schema.from_json((extra / "schema.json").read_text(encoding="utf-8"))
        self._loaded = load_saved_model(folder, schema)
        self._functions = dict(self._loaded.signatures)
        self.rules: dict[str, dict[str, InputRule]] = {
            name: input_rules(function.structured_input_signature[1], schema)
            for name, function in self._functions.items()
        }
        graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.signature_defs: dict[str, SignatureDef] = dict(graph.meta_graphs[0].signature_def)
        self._warm_up(extra / WARMUP_FILE)

    def outputs(self, signature: str) -> list[str]:
        """The names of a signature's outputs."""
        return sorted(self._functions[signature].structured_outputs)

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Calls a signature with inputs that were checked against its rules."""
        rules = self.rules[signature]
        tensors = {name: tf.constant(value, rules[name].dtype) for name, value in inputs.items()}
        found = self._functions[signature](**tensors)
        return {name: value.numpy() for name, value in found.items()}

    def _warm_up(self, path: Path) -> None:
        if path.exists():
            for signature, inputs in read_warmup(path):
                self.run(signature, inputs)
