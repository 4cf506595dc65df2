"""Arrays as TensorFlow's tensor messages, and back, without TensorFlow."""

from __future__ import annotations

import math

import numpy as np

from serving.wire.messages_pb2 import DataType, TensorProto

# NumPy has no bfloat16: no array becomes one, and what is read of one is a float32.
_TYPES = {
    DataType.DT_FLOAT: ("float32", "float_val"),
    DataType.DT_DOUBLE: ("float64", "double_val"),
    DataType.DT_INT32: ("int32", "int_val"),
    DataType.DT_INT64: ("int64", "int64_val"),
    DataType.DT_BOOL: ("bool", "bool_val"),
    DataType.DT_HALF: ("float16", "half_val"),
    DataType.DT_BFLOAT16: ("bfloat16", "half_val"),
}
_NAMES = {DataType.DT_STRING: "string", **{kind: name for kind, (name, _) in _TYPES.items()}}
_KINDS = {name: kind for kind, name in _NAMES.items()}


def dtype_name(kind: int) -> str:
    """The name of a type, as TensorFlow says it."""
    return _NAMES.get(kind) or DataType.Name(kind)


def to_proto(value: np.ndarray) -> TensorProto:
    """An array as a message, byte for byte what `tf.make_tensor_proto` makes of it.

    Args:
        value: numbers, truth values, or strings as `str` or `bytes`.

    Raises:
        ValueError: an array of another type, or one of objects that are no strings.

    Example:
        >>> proto = to_proto(np.array([[3, 4]]))
        >>> proto.dtype == DataType.DT_INT64, [dim.size for dim in proto.tensor_shape.dim]
        (True, [1, 2])
        >>> to_array(proto).tolist(), to_array(to_proto(np.array(["a", "é"]))).tolist()
        ([[3, 4]], [b'a', b'\\xc3\\xa9'])
    """
    value = np.asarray(value)
    # An empty object array does not say that it holds strings.
    strings = value.dtype.kind in "OSU"
    kind = _KINDS.get("string" if strings else value.dtype.name)
    if kind is None:
        raise ValueError(f"no tensor of {value.dtype}; one of {', '.join(_KINDS)}")
    proto = TensorProto(dtype=kind)
    # Of a scalar too: there it says that the shape is known.
    proto.tensor_shape.SetInParent()
    for size in value.shape:
        proto.tensor_shape.dim.add(size=size)
    if strings:
        proto.string_val.extend(_bytes(each) for each in value.ravel())
    elif value.size > 1 and kind != DataType.DT_BOOL:
        proto.tensor_content = value.tobytes()
    else:
        name, field = _TYPES[kind]
        own = value.view("uint16") if name == "float16" else value
        getattr(proto, field).extend(own.ravel().tolist())
    return proto


def to_array(proto: TensorProto) -> np.ndarray:
    """The array of a message, strings as `bytes`; a single value stands for all.

    Raises:
        ValueError: a type that a model's signature has none of, or values that do not fill the
            shape.
    """
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.dtype == DataType.DT_STRING:
        return _filled(np.array(list(proto.string_val), object), shape)
    if proto.dtype not in _TYPES:
        raise ValueError(f"a tensor of {dtype_name(proto.dtype)}; one of {', '.join(_KINDS)}")
    name, field = _TYPES[proto.dtype]
    stored = "uint16" if field == "half_val" else name
    if proto.tensor_content:
        values = np.frombuffer(proto.tensor_content, stored).copy()
    else:
        values = np.array(getattr(proto, field), stored)
    if name == "float16":
        values = values.view(name)
    if name == "bfloat16":
        values = (values.astype("uint32") << 16).view("float32")
    return _filled(values, shape)


def _filled(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    # TensorFlow leaves out what repeats the last value.
    behind = math.prod(shape) - len(values)
    if behind < 0 or (behind and not len(values)):
        raise ValueError(f"{len(values)} values do not fill the shape {list(shape)}")
    return np.concatenate([values, np.repeat(values[-1:], behind)]).reshape(shape)


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise ValueError(f"a string must be str or bytes, got {value!r}")
