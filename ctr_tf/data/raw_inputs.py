"""From one request's plain values to the named tensors of a call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from ctr_tf.schema import CANDIDATE_KEYS, CANDIDATES_MASK, MISSING_INT, InputSpec, Schema

Arrays = dict[str, np.ndarray]

_DTYPES = {"int64": np.int64, "float32": np.float32, "string": object, "bool": np.bool_}
_MISSING = {"int64": MISSING_INT, "float32": np.nan, "string": "", "bool": False}


def request_inputs(
    schema: Schema,
    values: Mapping[str, Any],
    candidates: Any = None,
    only: Collection[str] | None = None,
) -> Arrays:
    """The raw inputs of one request, with masks that say that all of it is valid.

    Args:
        schema: the model's schema.
        values: by input name without the request axis: a scalar for user and context features, a
            list for a sequence attribute or a candidate feature, a list of lists where each
            behaviour or candidate has several values. Masks may be left out. None is a missing
            value.
        candidates: candidate features by name that are not among the values: a data frame, a row a
            candidate, or a dict of lists. NaN and NA are missing there too, as data frames have
            it. An export with a table of items takes `candidate_keys` in their place.
        only: the inputs wanted; all by default.

    Returns:
        The inputs, first axis 1.

    Raises:
        ValueError: a missing or unknown input, one that is given twice, values of another type, or
            lists of different lengths.

    Example:
        >>> schema = Schema(features={"item_id": {"kind": "categorical", "dtype": "int"}},
        ...                 tasks={"click": {"column": "click"}})
        >>> inputs = request_inputs(schema, {"item_id": [7, 8]})
        >>> inputs["item_id"].tolist(), inputs["candidates_mask"].tolist()
        ([[7, 8]], [[True, True]])
    """
    specs = {spec.name: spec for spec in schema.inputs}
    values = {**values, **_columns(candidates, values)}
    keyed = CANDIDATE_KEYS.name in values
    if keyed:
        specs[CANDIDATE_KEYS.name] = CANDIDATE_KEYS
    unknown = sorted(set(values) - set(specs))
    if unknown:
        raise ValueError(f"unknown input {unknown[0]!r}; inputs: {', '.join(specs)}")
    if only is not None:
        specs = {name: spec for name, spec in specs.items() if name in only}
    found: Arrays = {}
    lengths: dict[str, tuple[int, str]] = {}
    for name, spec in specs.items():
        if name not in values:
            if spec.dtype == "bool" or (keyed and spec.side == "candidate"):
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
        if name not in found and spec.dtype == "bool":
            # A schema without candidate features scores the request itself, once.
            length, _ = lengths.get(spec.sequence or CANDIDATES_MASK, (1, ""))
            found[name] = np.ones((1, length), np.bool_)
    return {name: found[name] for name in specs if name in found}


def split(schema: Schema, inputs: Arrays, most: int) -> list[Arrays]:
    """One request's inputs, cut into requests of at most so many candidates.

    Args:
        schema: the model's schema.
        inputs: with a candidate axis in those of the candidate side.
        most: candidates of each.

    Example:
        >>> schema = Schema(features={"item_id": {"kind": "categorical", "dtype": "int"}},
        ...                 tasks={"click": {"column": "click"}})
        >>> inputs = request_inputs(schema, {"item_id": [7, 8, 9]})
        >>> [each["item_id"].tolist() for each in split(schema, inputs, 2)]
        [[[7, 8]], [[9]]]
    """
    count = inputs[CANDIDATES_MASK].shape[1]
    own = {spec.name for spec in (*schema.inputs, CANDIDATE_KEYS) if spec.side == "candidate"}
    return [
        {n: x[:, first : first + most] if n in own else x for n, x in inputs.items()}
        for first in range(0, max(count, 1), most)
    ]


def _columns(candidates: Any, values: Mapping[str, Any]) -> dict[str, list]:
    """Candidate features as lists, NaN as None."""
    if candidates is None:
        return {}
    found = {}
    for name in getattr(candidates, "columns", candidates):
        if name in values:
            raise ValueError(f"input {name!r}: given among the values and the candidates")
        found[name] = [None if _is_missing(value) else value for value in candidates[name]]
    return found


def _is_missing(value: Any) -> bool:
    # Pandas' own NA is not even equal to itself, nor unequal.
    return (isinstance(value, float) and value != value) or type(value).__name__ == "NAType"


def _array(spec: InputSpec, value: Any) -> np.ndarray:
    missing = _MISSING[spec.dtype]
    try:
        if _listed(value) and spec.axes[1:] in (("N", "M"), ("L", "M")):
            rows = [() if row is None else row for row in value]
            for row in rows:
                if not _listed(row):
                    raise ValueError(f"each must be a list of values, got {row!r}")
            width = max(map(len, rows), default=0)
            flat = [each for row in rows for each in [*row, *[missing] * (width - len(row))]]
            array = _typed(spec.dtype, flat).reshape(len(rows), width)
        elif _listed(value):
            array = _typed(spec.dtype, [missing if each is None else each for each in value])
        else:
            array = _typed(spec.dtype, missing if value is None else value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"input {spec.name!r}: not {spec.dtype} values: {error}") from error
    if array.ndim != len(spec.axes) - 1:
        raise ValueError(
            f"input {spec.name!r}: must have {len(spec.axes) - 1} axes, got {array.ndim}"
        )
    return array[None]


def _listed(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def _typed(dtype: str, value: Any) -> np.ndarray:
    array = np.array(value, object if dtype == "string" else None)
    kind = array.dtype.kind
    if dtype == "string":
        wrong = np.array([not isinstance(each, (str, bytes)) for each in array.ravel()], bool)
    elif kind in "OSU" or (dtype == "int64" and kind == "b"):
        # Digits are no number.
        array = np.array(value, object)
        wrong = np.array([isinstance(x, (str, bytes, bool)) for x in array.ravel()], bool)
    elif dtype == "int64" and kind == "f":
        # From 2^53 on two ids are one number.
        exact = (np.abs(array) < 2**53) & (array == np.trunc(array))
        wrong = ~(exact | (array == MISSING_INT)).ravel()
    elif dtype == "int64":
        wrong = (array > np.iinfo(np.int64).max).ravel() if kind == "u" else np.zeros(0, bool)
    else:
        with np.errstate(over="ignore"):
            wrong = np.isinf(array.astype(np.float32)).ravel()
    if wrong.any():
        raise ValueError(f"got {array.ravel()[wrong.argmax()]!r}")
    return array.astype(_DTYPES[dtype])
