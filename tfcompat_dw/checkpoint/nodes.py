"""The nodes of a ``GraphDef``: of its own graph, and of each function in its library.

``tensorflow/core/framework/{graph,node_def,attr_value,function,op_def}.proto``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tfcompat_dw.checkpoint.base import CheckpointError
from tfcompat_dw.checkpoint.schemas import MESSAGES, data_type, parse, text

MOST_NODES = 200_000
"""Of one graph, once functions are written out; the largest known networks have a tenth of it."""

_OUTPUTS = {
    "Merge": ("output", "value_index"),
    "Switch": ("output_false", "output_true"),
    "RefSwitch": ("output_false", "output_true"),
    "RefMerge": ("output", "value_index"),
    **dict.fromkeys(
        ("FusedBatchNorm", "FusedBatchNormV2"),
        ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    ),
    **dict.fromkeys(
        ("FusedBatchNormV3", "_FusedBatchNormEx"),
        (
            "y",
            "batch_mean",
            "batch_variance",
            "reserve_space_1",
            "reserve_space_2",
            "reserve_space_3",
        ),
    ),
    **dict.fromkeys(("TopK", "TopKV2", "ApproxTopK"), ("values", "indices")),
    **dict.fromkeys(("Unique", "UniqueV2"), ("y", "idx")),
    **dict.fromkeys(("UniqueWithCounts", "UniqueWithCountsV2"), ("y", "idx", "count")),
    "ListDiff": ("out", "idx"),
    "MaxPoolWithArgmax": ("output", "argmax"),
    "NonMaxSuppressionV4": ("selected_indices", "valid_outputs"),
    "NonMaxSuppressionV5": ("selected_indices", "selected_scores", "valid_outputs"),
    "CombinedNonMaxSuppression": (
        "nmsed_boxes",
        "nmsed_scores",
        "nmsed_classes",
        "valid_detections",
    ),
    "DecodeWav": ("audio", "sample_rate"),
    **dict.fromkeys(("BlockLSTM", "BlockLSTMV2"), ("i", "cs", "f", "o", "ci", "co", "h")),
    "LSTMBlockCell": ("i", "cs", "f", "o", "ci", "co", "h"),
    "GRUBlockCell": ("r", "u", "c", "h"),
    "CudnnRNN": ("output", "output_h", "output_c", "reserve_space"),
    **dict.fromkeys(
        ("CudnnRNNV2", "CudnnRNNV3"),
        ("output", "output_h", "output_c", "reserve_space", "host_reserved"),
    ),
    **dict.fromkeys(("Svd", "BatchSvd"), ("s", "u", "v")),
    **dict.fromkeys(("SelfAdjointEigV2", "Eig"), ("e", "v")),
    "Qr": ("q", "r"),
    "Lu": ("lu", "p"),
    "LogMatrixDeterminant": ("sign", "log_abs_determinant"),
    "TensorArrayV3": ("handle", "flow"),
    "TensorArrayConcatV3": ("value", "lengths"),
    "TensorListPopBack": ("output_handle", "tensor"),
    **dict.fromkeys(("TensorListConcat", "TensorListConcatV2"), ("tensor", "lengths")),
    **dict.fromkeys(
        ("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"),
        ("loss", "backprop"),
    ),
    **dict.fromkeys(("QuantizeV2", "Requantize"), ("output", "output_min", "output_max")),
    "SparseReshape": ("output_indices", "output_shape"),
    "SparseFillEmptyRows": (
        "output_indices",
        "output_values",
        "empty_row_indicator",
        "reverse_index_map",
    ),
    "CTCGreedyDecoder": (
        "decoded_indices",
        "decoded_values",
        "decoded_shape",
        "log_probability",
    ),
}
"""Outputs of operations that have several, as TensorFlow registers them
(``tensorflow/core/ops/*.cc``): a function's nodes name them."""

COUNTS = {
    "Split": "num_split",
    "SplitV": "num_split",
    "Unpack": "num",
    "IdentityN": "T",
    "ShapeN": "N",
    **dict.fromkeys(
        ("PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "Case"), "Tout"
    ),
    "StatelessCase": "Tout",
    **dict.fromkeys(("While", "StatelessWhile"), "T"),
}
"""The attribute that says how many outputs an operation has, or lists their types."""


# ---- attributes ----------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """What an ``AttrValue`` says, as :class:`~.graph.GraphNode` has it; of functions the names.

    None where it is a tensor, or nothing at all.
    """
    for descriptor, found in value.ListFields():
        if descriptor.name == "list":
            return _plain_list(found)
        return _plain_field(descriptor.name, found)
    return None


def _plain_list(value: Any) -> list[Any]:
    for descriptor, found in value.ListFields():
        return [_plain_field(descriptor.name, one) for one in found]
    return []


def _plain_field(name: str, value: Any) -> Any:
    if name in ("s", "placeholder"):
        return _readable(value)
    if name == "func":
        return _readable(value.name)
    if name == "type":
        return data_type(value - 100 if value > 100 else value)  # a reference to one
    if name == "shape":
        return open_shape(value)
    return None if name == "tensor" else value


def _readable(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def open_shape(proto: Any) -> tuple[int | None, ...] | None:
    """A ``TensorShapeProto`` with None where a size is open; None where the rank is."""
    if proto.unknown_rank:
        return None
    return tuple(dim.size if dim.size >= 0 else None for dim in proto.dim)


# ---- nodes ---------------------------------------------------------------------------------------


class Node:
    """A ``NodeDef``."""

    __slots__ = ("inputs", "name", "op", "proto")

    def __init__(self, proto: Any, path: Path) -> None:
        self.proto = proto
        self.name = text(proto.name, path, "a node's name")
        self.op = text(proto.op, path, self.name)
        if not self.name or not self.op:
            raise CheckpointError(path, self.name, "a node without a name, or without an operation")
        names = [text(name, path, self.name) for name in proto.input]
        self.inputs = tuple(name for name in names if not name.startswith("^"))

    @property
    def controls(self) -> Iterator[str]:
        """Names of nodes that run before it."""
        return (
            name[1:].decode(errors="replace") for name in self.proto.input if name.startswith(b"^")
        )

    def attribute(self, name: str) -> Any:
        """The value of one attribute; None where it has none."""
        found = self.message(name)
        return None if found is None else plain(found)

    def message(self, name: str) -> Any:
        """An ``AttrValue``, or None."""
        key = name.encode()
        return next((one.value for one in self.proto.attr if one.key == key), None)

    def attributes(self) -> dict[str, Any]:
        """All of them but TensorFlow's notes to itself and tensors."""
        found = {}
        for one in self.proto.attr:
            name = _readable(one.key)
            if isinstance(name, str) and not name.startswith("_") and not _is_tensor(one.value):
                found[name] = plain(one.value)
        return found


def _is_tensor(value: Any) -> bool:
    return bool(value.HasField("tensor"))


@dataclass
class Body:
    """The graph, or a function: nodes by name, and what goes in and out."""

    name: str
    nodes: dict[str, Node]
    arguments: dict[str, int] = field(default_factory=dict)
    """From the name to the number."""
    results: dict[str, str] = field(default_factory=dict)
    """From the name to where its value comes from, in the order of the function's outputs."""
    signature: Any = None
    """The function's ``OpDef``."""
    proto: Any = None

    @cached_property
    def ends(self) -> list[str]:
        """Where its results come from, by their numbers."""
        return list(self.results.values())

    def argument_attribute(self, number: int, name: str) -> Any:
        """What is noted of an argument, such as ``_output_shapes``."""
        for entry in () if self.proto is None else self.proto.arg_attr:
            if entry.key == number:
                for one in entry.value.attr:
                    if one.key == name.encode():
                        return plain(one.value)
        return None


def nodes_by_name(protos: Iterable[Any], path: Path, place: str) -> dict[str, Node]:
    """Two nodes of the same name are an error."""
    nodes: dict[str, Node] = {}
    for proto in protos:
        node = Node(proto, path)
        if node.name in nodes:
            raise CheckpointError(path, place, f"two nodes are named {node.name[:200]!r}")
        if len(nodes) >= MOST_NODES:
            raise CheckpointError(path, place, f"more than {MOST_NODES} nodes")
        nodes[node.name] = node
    return nodes


class Library:
    """The functions of a graph, each taken apart when it is asked for.

    Args:
        graph_def: the ``GraphDef`` whose library it is.
        operations: ``OpDef`` messages, if the file has them: what outputs operations have.
        path: for errors.
    """

    def __init__(self, graph_def: Any, operations: Iterable[Any], path: Path) -> None:
        self.path = path
        self.main = Body("", nodes_by_name(graph_def.node, path, "the graph"))
        self._protos = {
            _readable(proto.signature.name): proto for proto in graph_def.library.function
        }
        self._bodies: dict[str, Body] = {}
        self._operations: Mapping[bytes, Any] = {one.name: one for one in operations}

    def __contains__(self, name: object) -> bool:
        return name in self._protos

    def body(self, name: str) -> Body:
        """A function.

        Raises:
            CheckpointError: there is none of that name, or it contradicts itself.
        """
        if name not in self._bodies:
            if name not in self._protos:
                raise CheckpointError(self.path, name[:200], "this function is not in the file")
            self._bodies[name] = self._taken_apart(name, self._protos[name])
        return self._bodies[name]

    def _taken_apart(self, name: str, proto: Any) -> Body:
        signature = proto.signature
        for one in (*signature.input_arg, *signature.output_arg):
            if one.number_attr or one.type_list_attr:
                reason = "a function with lists of arguments, which is not read"
                raise CheckpointError(self.path, name, reason)
        arguments = [text(one.name, self.path, name) for one in signature.input_arg]
        results = {text(one.key, self.path, name): one.value for one in proto.ret}
        ends = {}
        for one in signature.output_arg:
            output = text(one.name, self.path, name)
            if output not in results:
                raise CheckpointError(self.path, name, f"its result {output!r} comes from nowhere")
            ends[output] = text(results[output], self.path, name)
        numbers = {argument: number for number, argument in enumerate(arguments)}
        if len(numbers) != len(arguments):
            raise CheckpointError(self.path, name, "two arguments of the same name")
        nodes = nodes_by_name(proto.node_def, self.path, name)
        return Body(name, nodes, numbers, ends, signature, proto)

    # ---- outputs -----------------------------------------------------------------------------

    def source(self, body: Body, name: str) -> tuple[str, int]:
        """The node, or argument, that an input's name stands for, and which of its outputs.

        In the graph that is ``node`` or ``node:1``, in a function ``node:output:0``.
        """
        first, *more = name.split(":")
        number = more[-1] if more else "0"
        if len(more) > 2 or not (number.isascii() and number.isdecimal() and len(number) < 7):
            if len(more) != 1 or not body.name:
                raise CheckpointError(self.path, body.name, f"no name of an output: {name[:200]!r}")
            number = "0"
        if len(more) == 2 and first in body.nodes:
            return first, self._offset(body.nodes[first], more[0]) + int(number)
        return first, int(number)

    def _offset(self, node: Node, output: str) -> int:
        """The number of the first of the outputs that have this name."""
        offset = 0
        for name, count in self._outputs_of(node):
            if name == output:
                return offset
            offset += count
        return 0

    def _outputs_of(self, node: Node) -> Iterator[tuple[str, int]]:
        """Names, and how many tensors each stands for, as far as it is known."""
        if node.op in self:
            yield from ((name, 1) for name in self.body(node.op).results)
        elif definition := self._operations.get(node.op.encode()):
            for one in definition.output_arg:
                yield _readable_text(one.name), _count(node, one.number_attr, one.type_list_attr)
        else:
            yield from ((name, 1) for name in _OUTPUTS.get(node.op, ()))

    def output_count(self, node: Node) -> int:
        """How many results a node has; 1 where it is not known."""
        if attribute := COUNTS.get(node.op):
            found = node.attribute(attribute)
            count = len(found) if isinstance(found, list) else found
            return count if isinstance(count, int) and 0 < count <= MOST_NODES else 1
        return max(1, sum(count for _, count in self._outputs_of(node)))


def _count(node: Node, number: bytes, types: bytes) -> int:
    if not number and not types:
        return 1
    found = node.attribute(_readable_text(number or types))
    count = len(found) if isinstance(found, list) else found
    return count if isinstance(count, int) and 0 <= count <= MOST_NODES else 1


def _readable_text(value: bytes) -> str:
    return value.decode(errors="replace")


def parsed_graph(data: bytes | memoryview, path: Path) -> Any:
    """A ``GraphDef`` out of its bytes."""
    return parse(MESSAGES["GraphDef"], data, path, "")
