"""The `tf.train.Example` message without TensorFlow, so that Beam workers stay light.

The classes are built in a descriptor pool of their own: TensorFlow may be imported in the same
process and registers messages of the same names.

Example:
    >>> example = Example()
    >>> example.features.feature["x"].int64_list.value.append(3)
    >>> Example.FromString(serialise(example)) == example
    True
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_Field = descriptor_pb2.FieldDescriptorProto


def _message(file: descriptor_pb2.FileDescriptorProto, name: str, *fields: tuple) -> None:
    message = file.message_type.add(name=name)
    for number, (label, field_type, field, type_name) in enumerate(fields, start=1):
        message.field.add(
            name=field, number=number, label=label, type=field_type, type_name=type_name
        )


def _build() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="ctr_tf/example.proto", package="tensorflow", syntax="proto3"
    )
    one, many, message = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED, _Field.TYPE_MESSAGE
    _message(file, "BytesList", (many, _Field.TYPE_BYTES, "value", None))
    _message(file, "FloatList", (many, _Field.TYPE_FLOAT, "value", None))
    _message(file, "Int64List", (many, _Field.TYPE_INT64, "value", None))
    _message(
        file,
        "Feature",
        (one, message, "bytes_list", ".tensorflow.BytesList"),
        (one, message, "float_list", ".tensorflow.FloatList"),
        (one, message, "int64_list", ".tensorflow.Int64List"),
    )
    feature = file.message_type[-1]
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    _message(file, "Features", (many, message, "feature", ".tensorflow.Features.FeatureEntry"))
    entry = file.message_type[-1].nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=one, type=_Field.TYPE_STRING)
    entry.field.add(
        name="value", number=2, label=one, type=message, type_name=".tensorflow.Feature"
    )
    _message(file, "Example", (one, message, "features", ".tensorflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.{name}"))
        for name in ("Feature", "Features", "Example")
    }


_classes = _build()
Feature = _classes["Feature"]
Features = _classes["Features"]
Example = _classes["Example"]


def serialise(example: Message) -> bytes:
    """The bytes of an Example, its features in the order of their names.

    Args:
        example: an `Example`.
    """
    return example.SerializeToString(deterministic=True)
