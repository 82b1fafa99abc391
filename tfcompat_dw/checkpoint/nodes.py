"""The nodes of a ``GraphDef``: of its own graph, and of each function in its library.

``tensorflow/core/framework/{graph,node_def,attr_value,function,op_def}.proto``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tfcompat_dw.checkpoint.base import CheckpointError
from tfcompat_dw.checkpoint.schemas import MESSAGES, data_type, text

MOST_NODES = 200_000
"""Of one graph, once functions are written out; the largest known networks have a tenth of it."""
LONGEST_NAME = 4096
"""Characters, with the names of the calls around it."""
MOST_OUTPUTS = 100
"""Names of outputs of one operation; TensorFlow's own have ten at the most."""

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
    """A ``NodeDef``.  Its attributes are read once, however many calls write the node out."""

    __slots__ = ("_about", "_offsets", "inputs", "name", "op", "proto")

    def __init__(self, proto: Any, path: Path) -> None:
        self.proto = proto
        self.name = text(proto.name, path, "a node's name")
        self.op = text(proto.op, path, self.name[:200])
        if not self.name or not self.op:
            reason = "a node without a name, or without an operation"
            raise CheckpointError(path, self.name[:200], reason)
        if max(len(self.name), len(self.op)) > LONGEST_NAME:
            raise CheckpointError(path, self.name[:200], "a name that is longer than any is")
        names = [text(name, path, self.name[:200]) for name in proto.input]
        self.inputs = tuple(name for name in names if not name.startswith("^"))
        self._about: Attributes | None = None
        self._offsets: dict[str, int] | None = None

    @property
    def controls(self) -> Iterator[str]:
        """Names of nodes that run before it."""
        return (
            name[1:].decode(errors="replace") for name in self.proto.input if name.startswith(b"^")
        )

    def with_inputs(self, inputs: Iterable[str], path: Path) -> Node:
        """The same operation on something else; its attributes are in memory once."""
        fields = {"name": self.proto.name, "op": self.proto.op}
        proto = MESSAGES["NodeDef"](**fields, input=[one.encode() for one in inputs])
        made = Node(proto, path)
        made._about = self.about
        return made

    @property
    def about(self) -> Attributes:
        """All of its attributes."""
        if self._about is None:
            self._about = Attributes(self.proto.attr)
        return self._about

    def attribute(self, name: str) -> Any:
        """The value of one attribute; None where it has none."""
        return self.about.plain.get(name)

    def tensor(self, name: str) -> Any:
        """The ``TensorProto`` that an attribute is; None where it is none."""
        return self.about.tensors.get(name)

    def offset(
        self, output: str, outputs: Callable[[Node], Iterator[tuple[str, int]]]
    ) -> int | None:
        """The number of the first output of this name; ``outputs`` lists them, and how many."""
        if self._offsets is None:
            self._offsets, offset = {}, 0
            for name, count in outputs(self):
                self._offsets.setdefault(name, offset)
                offset += count
        return self._offsets.get(output)


class Attributes:
    """What the attributes of a node are.  Of two of the same name the last counts."""

    __slots__ = ("placeholders", "plain", "public", "tensors")

    def __init__(self, entries: Iterable[Any]) -> None:
        self.plain: dict[str, Any] = {}
        self.tensors: dict[str, Any] = {}
        self.placeholders: dict[str, str] = {}
        """Attributes that a function leaves to its callers, with the callers' names of them."""
        for entry in entries:
            name = _readable(entry.key)
            if isinstance(name, str):
                self._add(name, entry.value)
        self.public: Mapping[str, Any] = {
            name: value
            for name, value in self.plain.items()
            if not name.startswith("_") and name not in self.tensors
        }
        """Without TensorFlow's notes to itself, and tensors."""

    def _add(self, name: str, value: Any) -> None:
        self.plain[name] = plain(value)
        if value.HasField("tensor"):
            self.tensors[name] = value.tensor
        else:
            self.tensors.pop(name, None)
        if value.HasField("placeholder"):
            self.placeholders[name] = str(self.plain[name])
        else:
            self.placeholders.pop(name, None)


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

    @cached_property
    def _of_arguments(self) -> dict[int, Any]:
        """What is noted of arguments, by their numbers."""
        return {} if self.proto is None else {one.key: one.value for one in self.proto.arg_attr}

    def argument_attribute(self, number: int, name: str) -> Any:
        """What is noted of an argument, such as ``_output_shapes``."""
        noted = self._of_arguments.get(number)
        for one in () if noted is None else noted.attr:
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
        self._protos: dict[str | bytes, Any] = {}
        for proto in graph_def.library.function:
            name = _readable(proto.signature.name)
            if name in self._protos:
                raise CheckpointError(path, "", f"two functions are named {name[:200]!r}")
            self._protos[name] = proto
        self._bodies: dict[str, Body] = {}
        self._operations: Mapping[bytes, Any] = {one.name: one for one in operations}

    def __contains__(self, name: object) -> bool:
        return name in self._protos or name in self._bodies

    def replace_main(self, main: Body, functions: Mapping[str, Body]) -> None:
        """Takes another graph, which calls functions that are not in the file."""
        self.main = main
        self._bodies |= functions

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
                raise CheckpointError(self.path, name[:200], reason)
        arguments = [text(one.name, self.path, name) for one in signature.input_arg]
        results = {text(one.key, self.path, name): one.value for one in proto.ret}
        ends = {}
        for one in signature.output_arg:
            output = text(one.name, self.path, name)
            if output not in results:
                reason = f"its result {output[:200]!r} comes from nowhere"
                raise CheckpointError(self.path, name[:200], reason)
            ends[output] = text(results[output], self.path, name)
        numbers = {argument: number for number, argument in enumerate(arguments)}
        for kind, found, told in (
            ("arguments", numbers, signature.input_arg),
            ("results", ends, signature.output_arg),
        ):
            if len(found) != len(told):
                raise CheckpointError(self.path, name[:200], f"two {kind} of the same name")
        nodes = nodes_by_name(proto.node_def, self.path, name)
        return Body(name, nodes, numbers, ends, signature, proto)

    # ---- outputs -----------------------------------------------------------------------------

    def source(self, body: Body, name: str) -> tuple[str, int]:
        """The node, or argument, that an input's name stands for, and which of its outputs.

        In the graph that is ``node`` or ``node:1``, in a function ``node:output:0``.
        """
        if len(name) > 2 * LONGEST_NAME:
            raise self._no_output(body, name)
        first, *more = name.split(":")
        number = more[-1] if more else "0"
        if len(more) > 2 or not (number.isascii() and number.isdecimal() and len(number) < 7):
            if len(more) != 1 or not body.name:
                raise self._no_output(body, name)
            number = "0"
        if len(more) == 2 and first in body.nodes:
            offset = body.nodes[first].offset(more[0], self._outputs_of)
            if offset is None and self._is_described(body.nodes[first]):
                raise self._no_output(body, name)
            return first, (offset or 0) + int(number)
        return first, int(number)

    def _no_output(self, body: Body, name: str) -> CheckpointError:
        return CheckpointError(self.path, body.name[:200], f"no name of an output: {name[:200]!r}")

    def _is_described(self, node: Node) -> bool:
        """Whether the file itself says what its outputs are."""
        return node.op in self or node.op.encode() in self._operations

    def _outputs_of(self, node: Node) -> Iterator[tuple[str, int]]:
        """Names, and how many tensors each stands for, as far as it is known."""
        if node.op in self:
            yield from ((name, 1) for name in self.body(node.op).results)
        elif definition := self._operations.get(node.op.encode()):
            if len(definition.output_arg) > MOST_OUTPUTS:
                reason = f"an operation of {len(definition.output_arg)} outputs"
                raise CheckpointError(self.path, node.op[:200], reason)
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
