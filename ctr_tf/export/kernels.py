"""Which ops of a signature could not run on a GPU."""

from __future__ import annotations

from typing import Iterator

from tensorflow.core.framework import attr_value_pb2, node_def_pb2
from tensorflow.python.framework import kernels

# Structure of a function, not computation: the runtime replaces them.
_STRUCTURAL = {"Placeholder", "NoOp", "_Arg", "_Retval"}


def placed_nodes(function) -> Iterator[tuple[node_def_pb2.NodeDef, bool]]:
    """Every node of a concrete function and of the functions it calls, with whether it is pinned
    to the CPU.

    Args:
        function: a `ConcreteFunction`.
    """
    graph = function.graph.as_graph_def()
    library = {f.signature.name: f for f in graph.library.function}
    pending, seen = list(graph.node), set()
    while pending:
        node = pending.pop()
        yield node, "CPU" in node.device.upper()
        for called in _called(node):
            if called in library and called not in seen:
                seen.add(called)
                pending.extend(library[called].node_def)


def nodes_without_gpu_kernel(function) -> list[str]:
    """The nodes outside the CPU preprocessing that have no GPU kernel for their types.

    Args:
        function: a `ConcreteFunction`, such as one of `Signatures.functions`.

    Returns:
        `op (node name)` of each; empty where a GPU could run all of them.

    Example:
        >>> import tensorflow as tf
        >>> half = tf.function(lambda x: x / 2).get_concrete_function(tf.TensorSpec([], tf.float32))
        >>> nodes_without_gpu_kernel(half)
        []
        >>> name = tf.function(tf.strings.lower).get_concrete_function(tf.TensorSpec([], tf.string))
        >>> nodes_without_gpu_kernel(name)
        ['StringLower (StringLower)']
    """
    return sorted(
        f"{node.op} ({node.name})"
        for node, on_cpu in placed_nodes(function)
        if not on_cpu and node.op not in _STRUCTURAL and not _has_gpu_kernel(node)
    )


def _called(node: node_def_pb2.NodeDef) -> list[str]:
    names = []
    for value in node.attr.values():
        names += [f.name for f in (value.func, *value.list.func) if f.name]
    return names


def _has_gpu_kernel(node: node_def_pb2.NodeDef) -> bool:
    return any(
        kernel.device_type in ("GPU", "DEFAULT")
        and all(_allows(constraint, node.attr) for constraint in kernel.constraint)
        for kernel in kernels.get_registered_kernels_for_op(node.op).kernel
    )


def _allows(constraint, attributes: dict[str, attr_value_pb2.AttrValue]) -> bool:
    value = attributes.get(constraint.name)
    found = [value.type] if value and value.type else list(value.list.type) if value else []
    return set(found) <= set(constraint.allowed_values.list.type)
