"""SavedModels of exports, with the modules that register their ops."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

from ctr_tf.schema import Schema, Text

# A server takes no gradients, so exports keep none; TensorFlow warns of it at each load.
logging.getLogger("absl").addFilter(lambda record: "custom gradients" not in str(record.msg))


def op_modules(schema: Schema) -> list[str]:
    """The modules to import before a model of this schema is loaded, besides TensorFlow.

    Example:
        >>> op_modules(Schema(features={"title": {"kind": "text"}},
        ...                   tasks={"click": {"column": "click"}}))
        ['tensorflow_text']
    """
    has_text = any(isinstance(feature, Text) for feature in schema.features.values())
    return ["tensorflow_text"] if has_text else []


def load_saved_model(folder: Path, schema: Schema | None) -> Any:
    """What `tf.saved_model.load` makes of a version's folder.

    Args:
        folder: of the version.
        schema: of the model; None where it is not known.

    Raises:
        OSError: there is no SavedModel.
        tf.errors.OpError: it cannot be loaded.
    """
    import tensorflow as tf

    for module in op_modules(schema) if schema else ():
        importlib.import_module(module)
    return tf.saved_model.load(str(folder))


def named_inputs(function: Any) -> dict[str, Any]:
    """The inputs of a loaded signature, each a `tf.TensorSpec` of its name, by name.

    A signature made with them takes what this one takes.
    """
    import tensorflow as tf

    return {
        name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
        for name, spec in function.structured_input_signature[1].items()
    }
