"""The protocol buffer messages that TensorFlow's files are made of, as far as they are read here.

Built when this module is imported, in a pool of their own: TensorFlow's own classes may be loaded
beside them.  A field that is not listed is skipped; ``string`` fields are bytes here, so that text
which is no UTF-8 disturbs nothing but its own decoding; enums are int32, maps repeated entries, all
of which are the same on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from tfcompat_dw.checkpoint.base import CheckpointError

_FIELDS = """
# tensorflow/core/framework/{versions,tensor_shape,tensor_slice,tensor}.proto
VersionDef
    2 int32 min_consumer
    3 repeated int32 bad_consumers
TensorShapeProto
    2 repeated Dim dim
    3 bool unknown_rank
Dim
    1 int64 size
TensorSliceProto
    1 repeated Extent extent
Extent
    1 int64 start
    2 int64 length
TensorProto
    1 int32 dtype
    2 TensorShapeProto tensor_shape
    4 bytes tensor_content
    5 repeated float float_val
    6 repeated double double_val
    7 repeated int32 int_val
    8 repeated bytes string_val
    9 repeated float scomplex_val
    10 repeated int64 int64_val
    11 repeated bool bool_val
    12 repeated double dcomplex_val
    13 repeated int32 half_val
    16 repeated uint32 uint32_val
    17 repeated uint64 uint64_val

# tensorflow/core/protobuf/tensor_bundle.proto
BundleHeaderProto
    1 int32 num_shards
    2 int32 endianness
    3 VersionDef version
BundleEntryProto
    1 int32 dtype
    2 TensorShapeProto shape
    3 int32 shard_id
    4 int64 offset
    5 int64 size
    6 fixed32 crc32c
    7 repeated TensorSliceProto slices

# tensorflow/core/util/saved_tensor_slice.proto
SavedTensorSlices
    1 SavedTensorSliceMeta meta
    2 SavedSlice data
SavedTensorSliceMeta
    1 repeated SavedSliceMeta tensor
    2 VersionDef versions
SavedSliceMeta
    1 bytes name
    2 TensorShapeProto shape
    3 int32 type
    4 repeated TensorSliceProto slice
SavedSlice
    1 bytes name
    2 TensorSliceProto slice
    3 TensorProto data

# tensorflow/python/training/checkpoint_state.proto
CheckpointState
    1 bytes model_checkpoint_path

# tensorflow/core/protobuf/trackable_object_graph.proto
TrackableObjectGraph
    1 repeated TrackableObject nodes
TrackableObject
    1 repeated ObjectReference children
    2 repeated SerializedTensor attributes
ObjectReference
    1 int32 node_id
    2 bytes local_name
SerializedTensor
    1 bytes name
    2 bytes full_name
    3 bytes checkpoint_key

# tensorflow/core/protobuf/{saved_model,meta_graph,saved_object_graph}.proto
SavedModel
    1 int64 saved_model_schema_version
    2 repeated MetaGraphDef meta_graphs
MetaGraphDef
    7 SavedObjectGraph object_graph_def
SavedObjectGraph
    1 repeated SavedObject nodes
SavedObject
    1 repeated ObjectReference children
    4 SavedUserObject user_object
SavedUserObject
    1 bytes identifier
    3 bytes metadata

# keras/protobuf/saved_metadata.proto (Keras 2)
SavedMetadata
    1 repeated KerasObject nodes
KerasObject
    2 int32 node_id
    3 bytes node_path
    4 bytes identifier
    5 bytes metadata
"""
"""A name, and below it the fields: number, type and name; all optional but the repeated ones."""

_PACKAGE = "tfcompat_dw"


def _lines() -> Iterator[tuple[bool, list[str]]]:
    """Whether a line is a field, and its words."""
    for line in _FIELDS.splitlines():
        if line and not line.startswith("#"):
            yield line.startswith(" "), line.split()


def _build() -> dict[str, type[Message]]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="tfcompat_dw.proto", package=_PACKAGE)
    for is_field, words in _lines():
        if not is_field:
            message = file.message_type.add(name=words[0])
            continue
        number, *repeated, type, name = words
        label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
        field = message.field.add(name=name, number=int(number), label=label)
        if type[0].isupper():
            field.type, field.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{type}"
        else:
            field.type = kinds.Type.Value(f"TYPE_{type.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        message.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{message.name}")
        )
        for message in file.message_type
    }


MESSAGES = _build()
"""Message classes by name."""


def parse(message_class: type[Message], data: bytes | memoryview, path: Path, place: str) -> Any:
    """A message out of its bytes; what is none is a :class:`CheckpointError`."""
    try:
        return message_class.FromString(bytes(data))
    except DecodeError as error:
        name = message_class.DESCRIPTOR.name
        raise CheckpointError(path, place, f"no valid {name} message ({error})") from error


def text(data: bytes, path: Path, place: str) -> str:
    """The text of a ``string`` field."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(path, place, f"a name that is no UTF-8: {data[:80]!r}") from error


DATA_TYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    29: "int4",
    30: "uint4",
}
"""``tensorflow/core/framework/types.proto``."""


def data_type(number: int) -> str:
    """TensorFlow's name of a ``DataType``."""
    return DATA_TYPES.get(number, f"type {number}")


def stored_type(dtype: str) -> str:
    """The type of the numbers themselves: quantized ones are integers."""
    return dtype[1:] if dtype.startswith(("qint", "quint")) else dtype
