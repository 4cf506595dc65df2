"""Several calls' inputs as those of one call, and its answer as theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ctr_tf.schema import MISSING_INT
from serving.validation import InputRule, Inputs


def batched_candidates(calls: Sequence[Inputs]) -> int:
    """The candidates of calls that are made as one, padding included.

    Example:
        >>> batched_candidates([Inputs({}, requests=1, candidates=3), Inputs({}, 2, 5)])
        15
    """
    return sum(each.requests for each in calls) * max(each.candidates for each in calls)


def batched_bytes(calls: Sequence[Inputs]) -> int:
    """The bytes of the inputs of calls that are made as one, padding included; a string counts 8.

    Example:
        >>> calls = [Inputs({"ids": np.zeros((1, n), "int64")}, 1, n) for n in (3, 5)]
        >>> batched_bytes(calls)
        80
    """
    requests = sum(each.requests for each in calls)
    total = 0
    for name, first in calls[0].arrays.items():
        longest = np.max([each.arrays[name].shape[1:] for each in calls], axis=0)
        total += requests * int(np.prod(longest)) * first.itemsize
    return total


def join(calls: Sequence[Inputs], rules: Mapping[str, InputRule]) -> dict[str, np.ndarray]:
    """The inputs of one call, one request after the other.

    Candidates, behaviours and values are padded to the longest as the schema says: masks with
    false, ids and strings with what stands for a missing one.

    Args:
        calls: inputs that were checked against the rules.
        rules: of the signature.

    Returns:
        Arrays by input name, the first axis all calls' requests.
    """
    joined = {}
    for name in rules:
        arrays = [each.arrays[name] for each in calls]
        longest = np.max([array.shape[1:] for array in arrays], axis=0)
        padding = {"i": MISSING_INT, "O": b""}.get(arrays[0].dtype.kind, 0)
        padded = [_padded(array, longest, padding) for array in arrays]
        joined[name] = np.concatenate(padded)
    return joined


def part(
    outputs: Mapping[str, np.ndarray], calls: Sequence[Inputs]
) -> Iterator[dict[str, np.ndarray]]:
    """Each call's share of the outputs (B, N) of a call that `join` made.

    Example:
        >>> outputs = {"click": np.array([[0.1, 0.0], [0.2, 0.3]])}
        >>> [each["click"].tolist() for each in part(outputs, [Inputs({}, 1, 1), Inputs({}, 1, 2)])]
        [[[0.1]], [[0.2, 0.3]]]
    """
    start = 0
    for each in calls:
        end = start + each.requests
        yield {name: value[start:end, : each.candidates] for name, value in outputs.items()}
        start = end


def _padded(array: np.ndarray, longest: np.ndarray, padding: int | bytes) -> np.ndarray:
    missing = [(0, most - size) for most, size in zip(longest, array.shape[1:])]
    return np.pad(array, [(0, 0), *missing], constant_values=padding)
