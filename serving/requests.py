"""From one request's plain values to the named tensors of a call."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctr_tf.schema import CANDIDATES_MASK, MISSING_INT, InputSpec, Schema

_DTYPES = {"int64": np.int64, "float32": np.float32, "string": object, "bool": np.bool_}
_PADDING = {"int64": MISSING_INT, "float32": 0.0, "string": "", "bool": False}


def request_inputs(schema: Schema, values: dict[str, Any]) -> dict[str, np.ndarray]:
    """The raw inputs of one request, with masks that say that all of it is valid.

    Args:
        schema: the model's schema.
        values: by input name without the request axis: a scalar for user and context features, a
            list for a sequence attribute or a candidate feature, a list of lists where each
            behaviour or candidate has several values. Masks may be left out.

    Returns:
        Every input of `serving_default`, first axis 1.

    Raises:
        ValueError: a missing or unknown input, or lists of different lengths.

    Example:
        >>> schema = Schema(features={"item_id": {"kind": "categorical", "dtype": "int"}},
        ...                 tasks={"click": {"column": "click"}})
        >>> inputs = request_inputs(schema, {"item_id": [7, 8]})
        >>> inputs["item_id"].tolist(), inputs["candidates_mask"].tolist()
        ([[7, 8]], [[True, True]])
    """
    specs = {spec.name: spec for spec in schema.inputs}
    unknown = sorted(set(values) - set(specs))
    if unknown:
        raise ValueError(f"unknown input {unknown[0]!r}; inputs: {', '.join(specs)}")
    found: dict[str, np.ndarray] = {}
    lengths: dict[str, tuple[int, str]] = {}
    for name, spec in specs.items():
        if name not in values:
            if spec.dtype == "bool":
                continue
            raise ValueError(f"missing input {name!r}")
        found[name] = _array(spec, values[name])
        if spec.axes[1:2] in (("N",), ("L",)):
            group = spec.sequence or CANDIDATES_MASK
            length = found[name].shape[1]
            first, other = lengths.setdefault(group, (length, name))
            if first != length:
                raise ValueError(f"input {name!r}: has {length} values, {other!r} has {first}")
    for name, spec in specs.items():
        if name not in found:
            # A schema without candidate features scores the request itself, once.
            length, _ = lengths.get(spec.sequence or CANDIDATES_MASK, (1, ""))
            found[name] = np.ones((1, length), np.bool_)
    return {name: found[name] for name in specs}


def _array(spec: InputSpec, value: Any) -> np.ndarray:
    dtype = _DTYPES[spec.dtype]
    try:
        if spec.axes[-1] == "M" and len(spec.axes) == 3:
            width = max((len(row) for row in value), default=0)
            padding = [_PADDING[spec.dtype]]
            value = [[*row, *padding * (width - len(row))] for row in value]
            array = np.array(value, dtype).reshape(len(value), width)
        else:
            array = np.array(value, dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"input {spec.name!r}: not {spec.dtype} values: {error}") from error
    if array.ndim != len(spec.axes) - 1:
        raise ValueError(
            f"input {spec.name!r}: must have {len(spec.axes) - 1} axes, got {array.ndim}"
        )
    return array[None]
