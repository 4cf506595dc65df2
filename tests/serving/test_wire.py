"""The client's messages beside those of tensorflow-serving-api."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from serving.wire import messages_pb2 as wire
from serving.wire.tensors import to_array, to_proto

THEIRS = {
    name: getattr(module, name)
    for module, names in (
        (tensor_pb2, ["TensorProto"]),
        (tensor_shape_pb2, ["TensorShapeProto"]),
        (model_pb2, ["ModelSpec"]),
        (predict_pb2, ["PredictRequest", "PredictResponse"]),
        (
            get_model_status_pb2,
            ["GetModelStatusRequest", "GetModelStatusResponse", "ModelVersionStatus"],
        ),
        (
            get_model_metadata_pb2,
            ["GetModelMetadataRequest", "GetModelMetadataResponse", "SignatureDefMap"],
        ),
        (meta_graph_pb2, ["SignatureDef", "TensorInfo"]),
    )
    for name in names
}
ARRAYS = {
    "floats": np.array([[0.5, -1.0, np.inf]], "float32"),
    "one float": np.array([[0.1]], "float32"),
    "scalar": np.array(3.5, "float64"),
    "ids": np.array([[1, -(2**63)], [2**62, 0]]),
    "one id": np.array([7]),
    "int32": np.array([5, 6], "int32"),
    "one int32": np.array([[5]], "int32"),
    "flags": np.array([[True, False]]),
    "one flag": np.array([True]),
    "halves": np.array([0.1, 2.0], "float16"),
    "one half": np.array([0.1], "float16"),
    "strings": np.array([["a", "ü"]], object),
    "bytes": np.array([b"\xff\x00"], object),
    "unicode": np.array(["x", "yz"]),
    "no strings": np.zeros((1, 0), object),
    "no floats": np.zeros((0, 3), "float32"),
}


def fields(descriptor):
    own = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(own)
    kinds = {field.name: field for field in descriptor.fields}
    return {f.name: (f.number, f.type, f.label, kinds[f.name].has_presence) for f in own.field} | {
        nested.name: fields(nested) for nested in descriptor.nested_types
    }


def contained(own, theirs):
    return all(
        contained(value, theirs[name]) if isinstance(value, dict) else value == theirs[name]
        for name, value in own.items()
    )


@pytest.mark.parametrize("name", THEIRS)
def test_every_field_is_one_of_theirs(name):
    own, theirs = getattr(wire, name).DESCRIPTOR, THEIRS[name].DESCRIPTOR
    assert own.full_name != theirs.full_name
    assert contained(fields(own), fields(theirs))
    assert len(fields(own)) > 0


def test_every_message_is_compared():
    own = set(wire.DESCRIPTOR.message_types_by_name)
    assert own == set(THEIRS)


def test_types_and_states_are_theirs():
    for own, theirs in (
        (wire.DataType, types_pb2.DataType),
        (wire.ModelVersionStatus.State, get_model_status_pb2.ModelVersionStatus.State),
    ):
        assert set(own.items()) <= set(theirs.items())


@pytest.mark.parametrize("value", ARRAYS.values(), ids=ARRAYS)
def test_tensors_are_byte_for_byte_those_of_tensorflow(value):
    kind = tf.string if value.dtype.kind in "OSU" else None
    theirs = tf.make_tensor_proto(value, kind)
    own = to_proto(value)
    assert own.SerializeToString() == theirs.SerializeToString()
    found, expected = to_array(own), tf.make_ndarray(theirs)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


def test_a_request_is_byte_for_byte_theirs():
    made = []
    for messages, proto in ((wire, to_proto), (predict_pb2, tf.make_tensor_proto)):
        spec = messages.ModelSpec if messages is wire else model_pb2.ModelSpec
        request = messages.PredictRequest(
            model_spec=spec(name="films", signature_name="item_tower"), output_filter=["click"]
        )
        request.model_spec.version.value = 3
        for name, value in (("age", ARRAYS["one float"]), ("ids", ARRAYS["ids"])):
            request.inputs[name].CopyFrom(proto(value))
        made.append(request.SerializeToString(deterministic=True))
    assert made[0] == made[1]


@pytest.mark.parametrize("kind", ["float32", "float16", "int64", "bool", "float64", "int32"])
@pytest.mark.parametrize("values", [[1], [1, 0], [1, 0, 1, 1]])
def test_answers_in_fields_are_read_as_tensorflow_reads_them(kind, values):
    # As TensorFlow Serving answers: values in the fields of their type, the last one repeated.
    proto = tensor_pb2.TensorProto(dtype=tf.as_dtype(kind).as_datatype_enum)
    proto.tensor_shape.dim.add(size=4)
    field, own = {
        "float32": (proto.float_val, values),
        "float64": (proto.double_val, values),
        "int32": (proto.int_val, values),
        "int64": (proto.int64_val, values),
        "bool": (proto.bool_val, map(bool, values)),
        "float16": (proto.half_val, np.array(values, "float16").view("uint16").tolist()),
    }[kind]
    field.extend(own)
    found = to_array(wire.TensorProto.FromString(proto.SerializeToString()))
    expected = tf.make_ndarray(proto)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_bfloat16_is_read_as_float32():
    for values in ([1.0, 0.1], [2.5]):
        proto = tf.make_tensor_proto(np.array(values, ml_dtypes.bfloat16))
        found = to_array(wire.TensorProto.FromString(proto.SerializeToString()))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, tf.make_ndarray(proto).astype("float32"))


def test_what_is_no_tensor():
    with pytest.raises(ValueError, match="no tensor of complex64"):
        to_proto(np.zeros(2, "complex64"))
    with pytest.raises(ValueError, match="must be str or bytes, got 7"):
        to_proto(np.array(["a", 7], object))
    proto = to_proto(np.array([1, 2, 3]))
    proto.tensor_shape.dim[0].size = 2
    with pytest.raises(ValueError, match=r"3 values do not fill the shape \[2\]"):
        to_array(proto)
    with pytest.raises(ValueError, match="a tensor of DT_INVALID"):
        to_array(wire.TensorProto())
