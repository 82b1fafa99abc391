"""Graphs in files of their own: a ``GraphDef``, and a ``MetaGraphDef`` beside its checkpoint.

``tensorflow/core/framework/graph.proto`` as ``.pb`` or text, what TF 1 calls a frozen graph, and
``tensorflow/core/protobuf/meta_graph.proto`` as TF 1's ``Saver`` writes it: ``model.ckpt.meta``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tfcompat_dw.checkpoint.assemble import (
    Assembly,
    Entry,
    Shape,
    Sources,
    constant_proto,
    stored_constant,
)
from tfcompat_dw.checkpoint.base import Checkpoint, CheckpointError, TensorInfo
from tfcompat_dw.checkpoint.bundle import Bundle
from tfcompat_dw.checkpoint.constants import constant, constant_info, constant_strings
from tfcompat_dw.checkpoint.frames import library_of
from tfcompat_dw.checkpoint.graph import Graph
from tfcompat_dw.checkpoint.inline import FED, MAIN, Inliner, Place
from tfcompat_dw.checkpoint.mapped import MappedFile
from tfcompat_dw.checkpoint.nodes import Body, Library, Node
from tfcompat_dw.checkpoint.open import unknown_kind
from tfcompat_dw.checkpoint.saved_model import SAVED_MODEL, SavedModelVariables
from tfcompat_dw.checkpoint.schemas import MESSAGES, parse, parse_text, text
from tfcompat_dw.checkpoint.table_checkpoint import SHARDS, TableCheckpoint
from tfcompat_dw.checkpoint.variable_values import VariableValues

NO_RESULTS = frozenset(
    {"NoOp", "Assert", "Print", "PrintV2", "Const", "Placeholder", "PlaceholderWithDefault"}
    | {"VariableV2", "Variable", "VarHandleOp", "AutoReloadVariable", "ReadVariableOp"}
    | {
        "Save",
        "SaveV2",
        "SaveSlices",
        "ShardedFilename",
        "MergeV2Checkpoints",
        "VarIsInitializedOp",
    }
    | {"ScatterAdd", "ScatterUpdate", "ScatterSub", "AssignAddVariableOp"}
    | {"AssignSubVariableOp", "AssignVariableOp", "IsVariableInitialized"}
)
"""Operations whose results, where nobody takes them, are no outputs of a network."""
NO_RESULT_ENDS = (
    "Summary",
    "SummaryV2",
    "Assign",
    "AssignAdd",
    "AssignSub",
    "Enqueue",
    "EnqueueV2",
)
NO_RESULT_STARTS = ("Apply", "ResourceApply", "SparseApply", "ResourceSparseApply", "Restore")
MOST_ENDS = 100_000
"""Results that nobody takes."""
SHAPES_OF_RANK_0 = 24
"""Before this version of graphs a shape without sizes meant that nothing is known of it
(``tensorflow/core/public/version.h``)."""


class FrozenGraph(Checkpoint):
    """A ``GraphDef``; keys are the names of its constants.

    Args:
        path: the file.
        graph_def: the message, once it is read.
        variables: the values of its variables, if they are in other files; their keys are first.
        restore: the name of the operation that restores these.
        trained: names of the trained ones, if that is known.
    """

    format = "TF graph"

    def __init__(
        self,
        path: Path,
        graph_def: Any,
        variables: Checkpoint | None = None,
        restore: str = "",
        trained: frozenset[str] | None = None,
    ) -> None:
        super().__init__(path)
        self._producer = graph_def.versions.producer
        self._library = library_of(graph_def, (), path)
        self._variables = variables
        self._values = VariableValues(variables, self._library, restore, trained)
        nodes = self._library.main.nodes.values()
        self._constants = {
            node.name: constant_proto(node, path)
            for node in nodes
            if node.op == "Const" and (variables is None or node.name not in variables)
        }

    # ---- tensors -----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        yield from self._variables or ()
        yield from self._constants

    def __len__(self) -> int:
        return len(self._variables or ()) + len(self._constants)

    def __contains__(self, name: object) -> bool:
        return name in self._constants or (self._variables is not None and name in self._variables)

    def info(self, name: str) -> TensorInfo:
        """Data type and shape."""
        if name not in self._constants and self._variables is not None:
            return self._variables.info(name)
        return constant_info(self._constants[name], self.path, name)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._constants and self._variables is not None:
            return self._variables[name]
        return constant(self._constants[name], self.path, name)

    def strings(self, name: str) -> list[bytes]:
        """The elements of a constant of strings; ``TypeError`` for another one."""
        if name not in self._constants and self._variables is not None:
            return self._variables.strings(name)
        return constant_strings(self._constants[name], self.path, name)

    # ---- the graph ---------------------------------------------------------------------------

    def graph(self, signature: str | None = None, outputs: Sequence[str] | None = None) -> Graph:
        """From its placeholders to what nobody takes, or to ``outputs``; it has no signatures.

        A placeholder with a default is this default, unless there is no other input.
        """
        if signature is not None:
            raise ValueError(f"a graph of no signatures; {signature!r} is asked for")
        sources = Sources(lambda node: stored_constant(node, self.path), self._values.stored)
        return free_graph(self._library, self.path, sources, outputs, self._producer)


def free_graph(
    library: Library,
    path: Path,
    sources: Sources,
    outputs: Sequence[str] | None,
    producer: int = SHAPES_OF_RANK_0,
) -> Graph:
    """A graph without a signature, from its placeholders to its ends, or to ``outputs``.

    Args:
        library: the graph and its functions.
        path: for errors; the graph has the file's name.
        sources: values.
        outputs: names of nodes that are wanted in the place of those whose results nobody takes.
        producer: the version of TensorFlow's graphs that wrote it.
    """
    entries = placeholder_entries(library.main, producer)
    fed = {Place(MAIN, entry.node): Place(FED, str(number)) for number, entry in enumerate(entries)}
    inliner = Inliner(library, path, fed)
    ends = {}
    if outputs is None or any(_node_name(name) not in library.main.nodes for name in outputs):
        ends = {
            name: inliner.resolve(inliner.place(MAIN, name))
            for name in _ends(library, {entry.node for entry in entries})
        }
        if not ends:
            raise CheckpointError(path, "", "a graph without outputs: nothing is computed in it")
    return Assembly(inliner, path.stem, entries, ends, sources).graph(outputs, unused=False)


def _node_name(name: str) -> str:
    return name.partition(":")[0]


def placeholder_entries(body: Body, producer: int = SHAPES_OF_RANK_0) -> list[Entry]:
    """The inputs of a graph that does not name them."""
    return [
        Entry(node.name, node.name, placeholder_shape(node, producer), _dtype(node))
        for node in _placeholders(body)
    ]


def _placeholders(body: Body) -> list[Node]:
    """The nodes that are inputs."""
    for op in ("Placeholder", "PlaceholderV2"):
        if found := [node for node in body.nodes.values() if node.op == op]:
            return found
    found = [node for node in body.nodes.values() if node.op == "PlaceholderWithDefault"]
    images = [node for node in found if _dtype(node) not in ("bool", "string")]
    return images or found


def _dtype(node: Node) -> str:
    dtype = node.attribute("dtype")
    return dtype if isinstance(dtype, str) else "float32"


def placeholder_shape(node: Node, producer: int = SHAPES_OF_RANK_0) -> Shape:
    """The shape of an input; None where nothing is known of it."""
    shape = node.attribute("shape")
    if not isinstance(shape, tuple) or (not shape and producer < SHAPES_OF_RANK_0):
        known = node.attribute("_output_shapes")
        shape = known[0] if isinstance(known, list) and known else None
    return shape if isinstance(shape, tuple) else None


def _ends(library: Library, inputs: set[str]) -> list[str]:
    """Outputs of nodes that nobody takes, of those that depend on inputs if any do."""
    nodes = library.main.nodes
    taken: dict[str, list[str]] = {}
    for node in nodes.values():
        for name in node.inputs:
            taken.setdefault(library.source(library.main, name)[0], []).append(node.name)
    ends = [node for node in nodes.values() if node.name not in taken and _is_result(node)]
    reached = _reached(inputs, taken)
    ends = [node for node in ends if node.name in reached] or ends
    counts = [library.output_count(node) for node in ends]
    if sum(counts) > MOST_ENDS:
        reason = f"{sum(counts)} results that nobody takes; say which ones are the outputs"
        raise CheckpointError(library.path, "", reason)
    return [
        name for node, count in zip(ends, counts, strict=True) for name in _results(node, count)
    ]


def _is_result(node: Node) -> bool:
    return not (
        node.op in NO_RESULTS
        or node.op.endswith(NO_RESULT_ENDS)
        or node.op.startswith(NO_RESULT_STARTS)
    )


def _reached(inputs: set[str], taken: dict[str, list[str]]) -> set[str]:
    """Nodes that depend on inputs."""
    found, queue = set(inputs), list(inputs)
    while queue:
        for name in taken.get(queue.pop(), ()):
            if name not in found:
                found.add(name)
                queue.append(name)
    return found


def _results(node: Node, count: int) -> list[str]:
    return [node.name, *(f"{node.name}:{number}" for number in range(1, count))]


# ---- what a file is ------------------------------------------------------------------------------


def open_graph(path: Path) -> Checkpoint:
    """A file that no magic number tells apart: what it is, is found by reading it.

    Raises:
        CheckpointError: it is damaged, or of no kind that is known.
    """
    file = MappedFile(path)
    data = bytes(file.view(0, file.size, ""))
    if path.suffix == ".meta":
        return meta_graph(path, parse(MESSAGES["MetaGraphDef"], data, path, ""))
    if _is_text(path, data):
        return _text_graph(path, data)
    graph_def = _parsed("GraphDef", data, path)
    if graph_def is not None and _is_graph(graph_def):
        return FrozenGraph(path, graph_def)
    saved = _parsed("SavedModel", data, path)
    if saved is not None and any(_is_graph(one.graph_def) for one in saved.meta_graphs):
        return _saved_model(path)
    meta = _parsed("MetaGraphDef", data, path)
    if meta is not None and _is_graph(meta.graph_def):
        return meta_graph(path, meta)
    if graph_def is not None and len(graph_def.node):  # says what is wrong with a node
        return FrozenGraph(path, graph_def)
    if path.suffix == ".pb" or path.name == SAVED_MODEL:
        parse(MESSAGES["GraphDef"], data, path, "")
    raise unknown_kind(path, data[:8])


def _parsed(name: str, data: bytes, path: Path) -> Any:
    try:
        return parse(MESSAGES[name], data, path, "")
    except CheckpointError:
        return None


def _is_graph(graph_def: Any) -> bool:
    return len(graph_def.node) > 0 and all(node.name and node.op for node in graph_def.node)


def _is_text(path: Path, data: bytes) -> bool:
    start = data[:4096].lstrip()
    words = (b"#", b"node", b"versions", b"library", b"meta_info_def", b"saved_model_schema")
    return path.suffix == ".pbtxt" or start.startswith(words)


def _text_graph(path: Path, data: bytes) -> Checkpoint:
    if b"saved_model_schema_version" in data[:4096]:
        return _saved_model(path)
    if b"meta_info_def" in data[:4096]:
        return meta_graph(path, parse_text("MetaGraphDef", data, path, ""))
    graph_def = parse_text("GraphDef", data, path, "")
    if not _is_graph(graph_def):
        raise CheckpointError(path, "", "a graph without nodes")
    return FrozenGraph(path, graph_def)


def _saved_model(path: Path) -> SavedModelVariables:
    if path.stem != Path(SAVED_MODEL).stem:
        reason = (
            f"a SavedModel's file {SAVED_MODEL} of another name: give it its name, and its folder"
        )
        raise CheckpointError(path, "", reason)
    return SavedModelVariables(path.parent)


def meta_graph(path: Path, meta: Any) -> FrozenGraph:
    """A ``MetaGraphDef`` and the checkpoint beside it, whose name is the same without ``.meta``."""
    prefix = path.with_suffix("")
    variables: Checkpoint | None = None
    if prefix.with_name(prefix.name + ".index").is_file():
        variables = Bundle(prefix)
    elif path.suffix == ".meta":
        variables = _of_format_v1(prefix)
    restore = text(meta.saver_def.restore_op_name, path, "saver_def")
    return FrozenGraph(path, meta.graph_def, variables, restore, trained_variables(meta, path))


def _of_format_v1(prefix: Path) -> TableCheckpoint | None:
    """In one file or several, if they are there."""
    if prefix.is_file():
        return TableCheckpoint(prefix)
    shards = prefix.with_name(f"{prefix.name}{SHARDS}?????")
    pattern = re.compile(rf"{re.escape(prefix.name)}-\d{{5}}-of-\d{{5}}", re.ASCII)
    try:
        is_there = any(pattern.fullmatch(file.name) for file in prefix.parent.iterdir())
    except OSError:  # a folder that nobody may look into
        is_there = False
    return TableCheckpoint(shards) if is_there else None


def trained_variables(meta: Any, path: Path) -> frozenset[str] | None:
    """What the collection ``trainable_variables`` lists; None if there is none."""
    for entry in meta.collection_def:
        if entry.key == b"trainable_variables":
            listed = entry.value.bytes_list.value
            found = [
                parse(MESSAGES["VariableDef"], one, path, "trainable_variables") for one in listed
            ]
            names = (text(one.variable_name, path, "trainable_variables") for one in found)
            return frozenset(name.partition(":")[0] for name in names)
    return None
