"""The graph of a TensorFlow.js model: a ``GraphDef`` as JSON, its constants among the weights.

``tfjs-converter/src/data/compiled_api.ts`` and ``operations/operation_mapper.ts`` of TensorFlow.js;
the JSON is protocol buffers' own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tfcompat_dw.checkpoint.assemble import (
    Assembly,
    Entry,
    Sources,
    Stored,
    constant_proto,
    stored_constant,
)
from tfcompat_dw.checkpoint.base import TORCH_DTYPES, Checkpoint, CheckpointError
from tfcompat_dw.checkpoint.constants import has_values
from tfcompat_dw.checkpoint.frames import library_of
from tfcompat_dw.checkpoint.graph import Graph
from tfcompat_dw.checkpoint.graph_def import free_graph, placeholder_entries
from tfcompat_dw.checkpoint.inline import FED, MAIN, Inliner, Place
from tfcompat_dw.checkpoint.nodes import Library, Node, open_shape
from tfcompat_dw.checkpoint.schemas import data_type, of_json


class JavaScriptGraph:
    """The graph of a model.

    Args:
        weights: the values of constants, by their nodes' names.
        path: the JSON file.
        model: what is in it; ``modelTopology`` is a dictionary with a list ``node``.
    """

    def __init__(self, weights: Checkpoint, path: Path, model: Mapping[str, Any]) -> None:
        self.weights, self.path, self.model = weights, path, model

    def graph(self, signature: str | None, outputs: Sequence[str] | None) -> Graph:
        """See :meth:`Checkpoint.graph`; there is one signature at the most, without a name."""
        if signature is not None:
            raise ValueError(f"TensorFlow.js names no signatures; {signature!r} is asked for")
        topology = self.model["modelTopology"]
        parts = {key: topology[key] for key in ("node", "library", "versions") if key in topology}
        graph_def = of_json("GraphDef", parts, self.path, "modelTopology")
        library = library_of(graph_def, (), self.path)
        sources = Sources(self._constant, self._variable)
        about = self._signature()
        if about is None:
            return free_graph(library, self.path, sources, outputs, graph_def.versions.producer)
        producer = graph_def.versions.producer
        return self._assembly(library, sources, about, producer).graph(outputs)

    def _signature(self) -> dict[str, Any] | None:
        """What goes in and comes out, where the file says it."""
        extra = self.model.get("userDefinedMetadata")
        for holder in (self.model, extra if isinstance(extra, dict) else {}):
            found = holder.get("signature")
            if isinstance(found, dict) and found.get("outputs"):
                return found
        return None

    def _assembly(
        self, library: Library, sources: Sources, about: dict[str, Any], producer: int
    ) -> Assembly:
        fed: dict[Place, Place] = {}
        entries: list[Entry] = []
        inliner = Inliner(library, self.path, fed)
        for name, info in self._tensors(about.get("inputs"), "inputs"):
            if "resourceId" in info:  # a table, which the graph makes itself
                continue
            place = inliner.place(MAIN, info["name"])
            entries.append(self._entry(name, place.node, info))
            fed[place] = Place(FED, str(len(entries) - 1))
        if not entries:  # some signatures name outputs only
            entries = placeholder_entries(library.main, producer)
            numbers = {entry.node: str(number) for number, entry in enumerate(entries)}
            fed |= {Place(MAIN, node): Place(FED, number) for node, number in numbers.items()}
        if not isinstance(about["outputs"], dict):
            raise self._error("signature.outputs", "no names of tensors")
        ends = {
            name: inliner.resolve(inliner.place(MAIN, info["name"]))
            for name, info in self._tensors(about["outputs"], "outputs")
        }
        return Assembly(inliner, self.path.resolve().parent.name, entries, ends, sources)

    def _entry(self, name: str, node: str, info: dict[str, Any]) -> Entry:
        known = {key: info[key] for key in ("dtype", "tensorShape") if key in info}
        tensor = of_json("TensorInfo", known, self.path, f"signature.inputs.{name[:80]}")
        shape = open_shape(tensor.tensor_shape) if tensor.HasField("tensor_shape") else None
        return Entry(name, node, shape, data_type(tensor.dtype))

    def _tensors(self, tensors: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """In the file's order, which is that of TensorFlow.js."""
        for name, info in tensors.items() if isinstance(tensors, dict) else ():
            if not isinstance(info, dict) or not isinstance(info.get("name"), str):
                raise self._error(f"signature.{place}", f"{name[:80]!r} names no tensor")
            yield name, info

    def _constant(self, node: Node) -> Stored:
        """Among the weights, or in the node itself."""
        if node.name in self.weights:
            info = self.weights.info(node.name)
            kind = TORCH_DTYPES.get(info.dtype, torch.uint8)
            return Stored(lambda: self.weights[node.name], size=info.elements * kind.itemsize)
        stored = stored_constant(node, self.path)
        if stored.size and not has_values(constant_proto(node, self.path)):
            raise self._error(node.name, "a constant, whose value is not among the weights")
        return stored

    def _variable(self, name: str) -> Stored:
        if name not in self.weights:
            raise self._error(name[:200], "a variable, which is not among the weights")
        return Stored(lambda: self.weights[name], name, name)

    def _error(self, place: str, reason: str) -> CheckpointError:
        return CheckpointError(self.path, place, reason)
