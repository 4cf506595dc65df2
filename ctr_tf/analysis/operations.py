"""Floating-point operations of TensorFlow's ops, counted as they are executed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import tensorflow as tf
from tensorflow.python.framework import op_callbacks

Result = TypeVar("Result")

PRODUCTS = {"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"}
"""Products of matrices."""

BY_OUTPUT = {
    *("Add", "AddV2", "BiasAdd", "Div", "DivNoNan", "FloorDiv", "FloorMod", "Mul", "MulNoNan"),
    *("Pow", "RealDiv", "SquaredDifference", "Sub", "Xdivy", "Xlogy"),
    *("Abs", "Ceil", "Floor", "Maximum", "Minimum", "Neg", "Reciprocal", "Round", "Sign"),
    *("Cos", "Erf", "Erfc", "Exp", "Expm1", "Log", "Log1p", "Rsqrt", "Sin", "Sqrt", "Square"),
    *("Elu", "LeakyRelu", "Relu", "Relu6", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh"),
    *("Equal", "Greater", "GreaterEqual", "IsFinite", "IsInf", "IsNan", "Less", "LessEqual"),
    "NotEqual",
}
"""Functions of each element: one operation for each element of the output."""

BY_INPUT = {
    *("Cumsum", "Max", "Mean", "Min", "Prod", "SegmentMax", "SegmentMean", "SegmentMin"),
    *("SegmentSum", "Sum", "UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentSum"),
}
"""Sums and their like: one operation for each element of the first input."""

SOFTMAX = {"LogSoftmax", "Softmax"}
"""Largest, difference, exponential, sum and quotient: five for each element."""

FREE = {
    *("All", "Any", "LogicalAnd", "LogicalNot", "LogicalOr"),
    *("BroadcastArgs", "Rank", "Shape", "ShapeN", "Size"),
    *("BroadcastTo", "Fill", "OnesLike", "Range", "Tile", "ZerosLike"),
    *("Bitcast", "Cast", "ExpandDims", "Identity", "IdentityN", "Reshape", "Squeeze"),
    *("StopGradient", "Transpose"),
    *("Concat", "ConcatV2", "MirrorPad", "Pack", "Pad", "PadV2", "ReverseV2", "Roll", "Slice"),
    *("Split", "SplitV", "StridedSlice", "Unpack"),
    *("DynamicPartition", "DynamicStitch", "ParallelDynamicStitch"),
    *("Gather", "GatherNd", "GatherV2", "ReadVariableOp", "ResourceGather", "ResourceGatherNd"),
    *("ScatterNd", "Select", "SelectV2", "TensorScatterUpdate", "Where"),
}
"""Data moved, copied, chosen or made, shapes, and logic."""


@dataclass(frozen=True)
class Flops:
    """Floating-point operations.

    Args:
        products: those of products of matrices.
        others: all others.

    Example:
        >>> cost = Flops(products=6) + 2 * Flops(others=1)
        >>> cost.total, cost - Flops(others=2)
        (8, Flops(products=6, others=0))
    """

    products: int = 0
    others: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.products + self.others

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.products + other.products, self.others + other.others)

    def __sub__(self, other: "Flops") -> "Flops":
        return self + -1 * other

    def __rmul__(self, times: int) -> "Flops":
        return Flops(times * self.products, times * self.others)


def counted(function: Callable[[], Result]) -> tuple[Result, Flops]:
    """Calls a function op by op; what it returns, and what that has cost.

    Every op that is executed is seen with the shapes that it has then, so that a loop costs by its
    trips, a condition by the branch taken, and packed sequences by their valid positions. The cost
    of an op follows from its type alone, in one of five tables:

    - a product of matrices (`PRODUCTS`), m x k by k x n, costs 2 m k n; an Einsum that adds
      nothing up, as of an outer product, one for each element of the output;
    - a function of each element (`BY_OUTPUT`), transcendental ones and comparisons among them,
      costs one for each element of the output;
    - a sum and its like (`BY_INPUT`) cost one for each element of the input;
    - a softmax (`SOFTMAX`) costs five for each element;
    - what moves data or handles shapes (`FREE`) costs nothing, nor does any op on integers or
      truth values.

    An op in no table is an error, so that nothing goes uncounted. One that holds others, as a
    function compiled before or a loop of a graph does, is in none: functions within run op by op.

    Raises:
        ValueError: an op is in no table, or the call is within a graph.

    Example:
        >>> x = tf.ones((2, 3))
        >>> product, cost = counted(lambda: tf.nn.relu(tf.matmul(x, tf.ones((3, 4)))))
        >>> product.shape, cost
        (TensorShape([2, 4]), Flops(products=48, others=8))
    """
    if not tf.executing_eagerly():
        raise ValueError("operations are counted as they are executed, not within a graph")
    total = Flops()

    def add(kind, inputs, attributes, outputs, op_name=None, graph=None):
        nonlocal total
        # What is put into a graph is not executed.
        if graph is None:
            pairs = dict(zip(attributes[::2], attributes[1::2]))
            total += cost_of(tf.compat.as_str(kind), inputs, pairs, outputs)

    eagerly = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    op_callbacks.add_op_callback(add)
    try:
        result = function()
    finally:
        op_callbacks.remove_op_callback(add)
        tf.config.run_functions_eagerly(eagerly)
    return result, total


def cost_of(
    kind: str,
    inputs: Sequence[tf.Tensor],
    attributes: dict[str, Any],
    outputs: Sequence[tf.Tensor],
) -> Flops:
    """What one executed op costs; see `counted`.

    Args:
        kind: type of the op.
        inputs, outputs: its tensors, of known shapes.
        attributes: of the op.

    Raises:
        ValueError: the op is in no table.
    """
    if kind in FREE:
        return Flops()
    if kind not in PRODUCTS | BY_OUTPUT | BY_INPUT | SOFTMAX:
        raise ValueError(
            f"no cost is known of the op {kind!r}: name it in one of the tables of "
            "ctr_tf/analysis/operations.py, or run what it holds op by op"
        )
    if inputs[0].dtype.is_integer or inputs[0].dtype.is_bool:
        return Flops()
    if kind == "Einsum":
        shapes = [tensor.shape for tensor in inputs]
        return _einsum(tf.compat.as_str(attributes["equation"]), shapes, outputs[0].shape)
    if kind in PRODUCTS:
        transposed = attributes.get("transpose_a") or attributes.get("adj_x")
        return Flops(2 * prod(outputs[0].shape) * inputs[0].shape[-2 if transposed else -1])
    if kind in BY_OUTPUT:
        return Flops(others=prod(outputs[0].shape))
    return Flops(others=(5 if kind in SOFTMAX else 1) * prod(inputs[0].shape))


def _einsum(equation: str, shapes: Sequence[tf.TensorShape], result: tf.TensorShape) -> Flops:
    """A product over the axes that both operands have and the result has not.

    An axis that one operand alone has is summed before.
    """
    given, _, kept = equation.partition("->")
    terms, sizes = given.split(","), {}
    for term, shape in zip(terms, shapes, strict=True):
        # Axes that an ellipsis stands for are all in the result.
        left, _, right = term.partition("...")
        sizes |= dict(zip(left, shape)) | dict(zip(reversed(right), reversed(shape)))
    summed = [set(term) - set(kept) for term in terms]
    shared = set.intersection(*summed) if len(terms) > 1 else set()
    others = sum(prod(shape) for own, shape in zip(summed, shapes) if own - shared)
    if shared:
        return Flops(2 * prod(result) * prod(sizes[axis] for axis in shared), others)
    return Flops(others=others + prod(result) * (len(terms) - 1))
