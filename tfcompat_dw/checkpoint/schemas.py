"""The protocol buffer messages that TensorFlow's files are made of, as far as they are read here.

Built when this module is imported, in a pool of their own: TensorFlow's own classes may be loaded
beside them.  A field that is not listed is skipped; ``string`` fields are bytes here, so that text
which is no UTF-8 disturbs nothing but its own decoding; enums are int32, maps repeated entries, all
of which are the same on the wire.  For files of text and JSON, where they are not the same, there
is each message a second time with strings, ``DataType`` and maps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
    text_format,
)
from google.protobuf.message import DecodeError, EncodeError, Message

from tfcompat_dw.checkpoint.base import CheckpointError

_FIELDS = """
# tensorflow/core/framework/{versions,tensor_shape,tensor_slice,tensor}.proto
VersionDef
    1 int32 producer
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
    1 DataType dtype
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

# tensorflow/core/framework/{graph,node_def,attr_value,function,op_def,variable}.proto
GraphDef
    1 repeated NodeDef node
    2 FunctionDefLibrary library
    4 VersionDef versions
NodeDef
    1 string name
    2 string op
    3 repeated string input
    5 map AttrValue attr
AttrValue
    1 ListValue list
    2 bytes s
    3 int64 i
    4 float f
    5 bool b
    6 DataType type
    7 TensorShapeProto shape
    8 TensorProto tensor
    9 string placeholder
    10 NameAttrList func
ListValue
    2 repeated bytes s
    3 repeated int64 i
    4 repeated float f
    5 repeated bool b
    6 repeated DataType type
    7 repeated TensorShapeProto shape
    8 repeated TensorProto tensor
    9 repeated NameAttrList func
NameAttrList
    1 string name
FunctionDefLibrary
    1 repeated FunctionDef function
FunctionDef
    1 OpDef signature
    3 repeated NodeDef node_def
    4 map string ret
    7 intmap ArgAttrs arg_attr
ArgAttrs
    1 map AttrValue attr
OpDef
    1 string name
    2 repeated ArgDef input_arg
    3 repeated ArgDef output_arg
OpList
    1 repeated OpDef op
ArgDef
    1 string name
    3 DataType type
    4 string type_attr
    5 string number_attr
    6 string type_list_attr
VariableDef
    1 string variable_name

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

# tensorflow/core/protobuf/{saved_model,meta_graph,saver,saved_object_graph,struct}.proto
SavedModel
    1 int64 saved_model_schema_version
    2 repeated MetaGraphDef meta_graphs
MetaGraphDef
    1 MetaInfoDef meta_info_def
    2 GraphDef graph_def
    3 SaverDef saver_def
    4 map CollectionDef collection_def
    5 map SignatureDef signature_def
    7 SavedObjectGraph object_graph_def
MetaInfoDef
    2 OpList stripped_op_list
    4 repeated string tags
CollectionDef
    2 BytesList bytes_list
BytesList
    1 repeated bytes value
SignatureDef
    1 map TensorInfo inputs
    2 map TensorInfo outputs
TensorInfo
    1 string name
    2 DataType dtype
    3 TensorShapeProto tensor_shape
SaverDef
    3 string restore_op_name
SavedObjectGraph
    1 repeated SavedObject nodes
    2 map SavedConcreteFunction concrete_functions
SavedObject
    1 repeated ObjectReference children
    4 SavedUserObject user_object
    6 SavedFunction function
    7 SavedVariable variable
    8 SavedBareConcreteFunction bare_concrete_function
    9 SavedConstant constant
SavedUserObject
    1 string identifier
    3 string metadata
SavedFunction
    1 repeated string concrete_functions
SavedBareConcreteFunction
    1 string concrete_function_name
SavedConstant
    1 string operation
SavedVariable
    1 DataType dtype
    2 TensorShapeProto shape
    3 bool trainable
    6 string name
SavedConcreteFunction
    2 repeated int32 bound_inputs
    4 StructuredValue output_signature
StructuredValue
    53 DictValue dict_value
DictValue
    1 map StructuredValue fields

# keras/protobuf/saved_metadata.proto (Keras 2)
SavedMetadata
    1 repeated KerasObject nodes
KerasObject
    2 int32 node_id
    3 bytes node_path
    4 bytes identifier
    5 bytes metadata
"""
"""A name, and below it the fields: number, type and name; all optional but the repeated ones, and
``map``, whose keys are text, and ``intmap``."""

_PACKAGE = "tfcompat_dw"
_Field = descriptor_pb2.FieldDescriptorProto
_WIRE_TYPES = {"string": "bytes", "DataType": "int32"}
"""What fields of these types are in the messages for files that are not text."""


def _lines() -> Iterator[tuple[bool, list[str]]]:
    """Whether a line is a field, and its words."""
    for line in _FIELDS.splitlines():
        if line and not line.startswith("#"):
            yield line.startswith(" "), line.split()


def _build(of_text: bool) -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name="tfcompat_dw.proto", package=_PACKAGE)
    for name, number in DATA_TYPE_NUMBERS.items() if of_text else ():
        enum = file.enum_type[0] if file.enum_type else file.enum_type.add(name="DataType")
        enum.value.add(name=name, number=number)
    for is_field, words in _lines():
        if is_field:
            _add_field(file.message_type[-1], words, of_text)
        else:
            file.message_type.add(name=words[0])
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        message.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{message.name}")
        )
        for message in file.message_type
    }


def _add_field(message: descriptor_pb2.DescriptorProto, words: list[str], of_text: bool) -> None:
    number, *label, type, name = words
    field = message.field.add(name=name, number=int(number))
    field.label = _Field.LABEL_REPEATED if label else _Field.LABEL_OPTIONAL
    if label in (["map"], ["intmap"]):
        type = _add_entry(message, name, type, "string" if label == ["map"] else "int64", of_text)
    _set_type(field, type, of_text)


def _add_entry(
    message: descriptor_pb2.DescriptorProto, name: str, type: str, key: str, of_text: bool
) -> str:
    """The message that a map's entries are; its name."""
    entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
    for number, (part, part_type) in enumerate((("key", key), ("value", type)), 1):
        field = entry.field.add(name=part, number=number, label=_Field.LABEL_OPTIONAL)
        _set_type(field, part_type, of_text)
    entry.options.map_entry = of_text
    return f"{message.name}.{entry.name}"


def _set_type(field: descriptor_pb2.FieldDescriptorProto, type: str, of_text: bool) -> None:
    type = type if of_text else _WIRE_TYPES.get(type, type)
    if not type[0].isupper():
        field.type = _Field.Type.Value(f"TYPE_{type.upper()}")
        return
    field.type = _Field.TYPE_ENUM if type == "DataType" else _Field.TYPE_MESSAGE
    field.type_name = f".{_PACKAGE}.{type}"


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

_OLDER_NAMES = {"float32": "float", "float64": "double", "float16": "half"}
DATA_TYPE_NUMBERS = {"DT_INVALID": 0} | {
    f"DT_{_OLDER_NAMES.get(name, name).upper()}{suffix}": number + offset
    for number, name in DATA_TYPES.items()
    for suffix, offset in (("", 0), ("_REF", 100))
}
"""From a ``DataType``'s name in text to its number; types of references are the same plus 100."""

MESSAGES = _build(of_text=False)
"""Message classes by name."""
_TEXT_MESSAGES = _build(of_text=True)


def parse(message_class: type[Message], data: bytes | memoryview, path: Path, place: str) -> Any:
    """A message out of its bytes; what is none is a :class:`CheckpointError`."""
    try:
        return message_class.FromString(bytes(data))
    except DecodeError as error:
        name = message_class.DESCRIPTOR.name
        raise CheckpointError(path, place, f"no valid {name} message ({error})") from error


MOST_SPACES = 2**16
"""Between two words of text: the parser takes 200 bytes of memory for each."""
_SPACES = re.compile(r"[^\S\n]+")


def parse_text(name: str, data: bytes, path: Path, place: str) -> Any:
    """A message out of protocol buffers' text format; errors as those of :func:`parse`."""
    message = _TEXT_MESSAGES[name]()
    try:
        written = data.decode()
        if any(len(spaces[0]) > MOST_SPACES for spaces in _SPACES.finditer(written)):
            raise ValueError(f"more than {MOST_SPACES} spaces in a row")
        text_format.Parse(written, message, allow_unknown_field=True)
    except (text_format.ParseError, ValueError, RecursionError) as error:
        reason = f"no {name} message as text ({str(error)[:200]})"
        raise CheckpointError(path, place, reason) from error
    return _on_the_wire(message, path, place)


def of_json(name: str, value: Any, path: Path, place: str) -> Any:
    """A message out of parsed JSON of protocol buffers; errors as those of :func:`parse`."""
    message = _TEXT_MESSAGES[name]()
    try:
        json_format.ParseDict(value, message, ignore_unknown_fields=True)
    except (
        json_format.ParseError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        OverflowError,
        RecursionError,
    ) as error:
        reason = f"no {name} message as JSON ({str(error)[:200]})"
        raise CheckpointError(path, place, reason) from error
    return _on_the_wire(message, path, place)


def _on_the_wire(message: Message, path: Path, place: str) -> Any:
    """The message of the same name for files that are not text."""
    try:
        data = message.SerializeToString()
    except (EncodeError, ValueError, RecursionError) as error:
        raise CheckpointError(path, place, f"no valid message ({error})") from error
    return parse(MESSAGES[message.DESCRIPTOR.name], data, path, place)


def text(data: bytes, path: Path, place: str) -> str:
    """The text of a ``string`` field."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(path, place, f"a name that is no UTF-8: {data[:80]!r}") from error


def data_type(number: int) -> str:
    """TensorFlow's name of a ``DataType``."""
    return DATA_TYPES.get(number, f"type {number}")


def stored_type(dtype: str) -> str:
    """The type of the numbers themselves: quantized ones are integers."""
    return dtype[1:] if dtype.startswith(("qint", "quint")) else dtype
