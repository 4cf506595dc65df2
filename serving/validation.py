"""Checks of a request's tensors against a signature and the schema, before anything is computed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.types_pb2 import DataType

from ctr_tf.export.item_encoder import ITEM_VECTORS
from ctr_tf.schema import CANDIDATE_KEYS, InputSpec, Numeric, Schema

ENCODED = CANDIDATE_KEYS, InputSpec(ITEM_VECTORS, "candidate", "float32", ("B", "N", "E"))
"""Candidates that were encoded before."""

_STRING_BYTES = 8
"""What a string takes at least: a request may hold millions of empty ones."""


class InvalidInput(ValueError):
    """A request's tensor breaks a rule; the message names the feature."""


@dataclass(frozen=True)
class InputRule:
    """What one input of a signature must be.

    Args:
        dtype: its type.
        shape: None for a size that may vary.
        axes: a name for each axis known to agree with an axis of that name of other inputs.
        most: the largest size of an axis; None without a bound of its own.
        nan_allowed: whether NaN stands for a missing number.
    """

    dtype: tf.DType
    shape: tuple[int | None, ...]
    axes: tuple[str, ...]
    most: tuple[int | None, ...]
    nan_allowed: bool = False


@dataclass(frozen=True)
class Inputs:
    """A call's arrays, which keep every rule.

    Args:
        arrays: by input name.
        requests: B.
        candidates: N; None where the signature has no candidate axis.
    """

    arrays: dict[str, np.ndarray]
    requests: int
    candidates: int | None


def input_rules(specs: Mapping[str, tf.TensorSpec], schema: Schema | None) -> dict[str, InputRule]:
    """The rule of each input.

    Args:
        specs: a signature's inputs by name.
        schema: what the model was trained on; without it no axis but the first is known.
    """
    known = {spec.name: spec for spec in (*schema.inputs, *ENCODED)} if schema else {}
    sequences = schema.sequences if schema else {}
    longest = sum(sequence.max_length for sequence in sequences.values()) or None
    rules = {}
    # In the schema's order, so that errors compare an input with the first of its side.
    for name in [*(n for n in known if n in specs), *(n for n in specs if n not in known)]:
        spec = specs[name]
        shape = tuple(spec.shape)
        # A part of a user's state: what varies besides B are behaviours, and of which sequence is
        # known where there is only one.
        rest = [f"{index} of {name}" for index in range(1, len(shape))]
        if len(sequences) == 1:
            length = f"L of {next(iter(sequences))}"
            rest = [length if n is None else axis for axis, n in zip(rest, shape[1:])]
        axes, feature = ("B", *rest)[: len(shape)], None
        most = (None,) + (longest,) * (len(shape) - 1)
        if name in known:
            # Behaviours of one sequence have one length; the number of values is each input's own.
            sequence = known[name].sequence
            own = {"L": f"L of {sequence}", "M": f"M of {name}"}
            axes = tuple(own.get(axis, axis) for axis in known[name].axes)
            bounds = {"L": sequences[sequence].max_length} if sequence else {}
            most = tuple(bounds.get(axis) for axis in known[name].axes)
            feature = schema.features.get(known[name].feature)
        most = tuple(m if size is None else None for m, size in zip(most, shape))
        optional = isinstance(feature, Numeric) and feature.default is not None
        rules[name] = InputRule(spec.dtype, shape, axes, most, nan_allowed=optional)
    return rules


def read_inputs(
    protos: Mapping[str, TensorProto],
    rules: dict[str, InputRule],
    max_bytes: int,
    max_candidates: int,
) -> Inputs:
    """A request's tensors as arrays, none of which is made before all sizes are checked.

    Args:
        protos: tensors by input name.
        rules: what `input_rules` made of the signature.
        max_bytes: the most memory that all tensors may take.
        max_candidates: the most candidates of the call.

    Raises:
        InvalidInput: a missing or unknown input, a wrong type, rank or size, sizes that do not
            agree, too many behaviours, candidates or bytes, or a number that is not finite.
    """
    missing = [name for name in rules if name not in protos]
    if missing:
        raise InvalidInput(f"missing inputs: {', '.join(missing)}")
    for name in protos:
        if name not in rules:
            near = difflib.get_close_matches(name, rules, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"inputs: {', '.join(rules)}"
            raise InvalidInput(f"unknown input {name!r}; {hint}")
    sizes: dict[str, tuple[int, str]] = {}
    total = 0
    for name, rule in rules.items():
        shape = _shape(name, rule, protos[name])
        # One value may stand for a tensor of any size.
        total += math.prod(shape) * max(rule.dtype.size, _STRING_BYTES * (rule.dtype == tf.string))
        if total > max_bytes:
            raise InvalidInput(
                f"input {name!r}: with shape {list(shape)} the request takes over {max_bytes} bytes"
            )
        for axis, size in zip(rule.axes, shape):
            first, other = sizes.setdefault(axis, (size, name))
            if first != size:
                raise InvalidInput(
                    f"input {name!r}: axis {axis} has size {size}, but {first} in {other!r}"
                )
    requests, first = sizes.get("B", (1, ""))
    candidates, first = sizes.get("N", (None, first))
    total = requests * (1 if candidates is None else candidates)
    if total > max_candidates:
        raise InvalidInput(
            f"input {first!r}: {total} candidates in one call; at most {max_candidates}"
        )
    arrays = {name: _array(name, rule, protos[name]) for name, rule in rules.items()}
    return Inputs(arrays, requests, candidates)


def _shape(name: str, rule: InputRule, proto: TensorProto) -> tuple[int, ...]:
    if proto.dtype != rule.dtype.as_datatype_enum:
        known = proto.dtype in DataType.values()
        found = DataType.Name(proto.dtype).removeprefix("DT_").lower() if known else proto.dtype
        raise InvalidInput(f"input {name!r}: must be {rule.dtype.name}, got {found}")
    if proto.tensor_shape.unknown_rank:
        raise InvalidInput(f"input {name!r}: its shape is unknown")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if len(shape) != len(rule.shape):
        raise InvalidInput(
            f"input {name!r}: must have {len(rule.shape)} axes, got shape {list(shape)}"
        )
    for index, (size, expected, most) in enumerate(zip(shape, rule.shape, rule.most)):
        if size < 0 or expected not in (None, size):
            raise InvalidInput(
                f"input {name!r}: must have shape {list(rule.shape)}, got {list(shape)}"
            )
        if most is not None and size > most:
            raise InvalidInput(
                f"input {name!r}: axis {rule.axes[index]} has size {size}; at most {most}"
            )
    return shape


def _array(name: str, rule: InputRule, proto: TensorProto) -> np.ndarray:
    try:
        array = tf.make_ndarray(proto)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"input {name!r}: its values do not fill its shape: {error}") from error
    if rule.dtype == tf.bool and (array.view(np.uint8) > 1).any():
        raise InvalidInput(f"input {name!r}: a bool's byte must be 0 or 1")
    if rule.dtype.is_floating:
        bad = np.isinf(array) if rule.nan_allowed else ~np.isfinite(array)
        if bad.any():
            where = [int(i) for i in np.argwhere(bad)[0]]
            raise InvalidInput(f"input {name!r}: {array[tuple(where)]} at {where}; must be finite")
    return array
