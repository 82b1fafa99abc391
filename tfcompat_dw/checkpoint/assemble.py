"""A :class:`~.graph.Graph` out of what an :class:`~.inline.Inliner` finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.checkpoint.base import CheckpointError
from tfcompat_dw.checkpoint.constants import constant, constant_info, filled_bytes
from tfcompat_dw.checkpoint.graph import Graph, GraphInput, GraphNode, Output
from tfcompat_dw.checkpoint.inline import FED, MAIN, VARIABLES, Inliner, Place
from tfcompat_dw.checkpoint.loops import LOOPS, map_loop, with_maps
from tfcompat_dw.checkpoint.nodes import MOST_NODES, Body, Node
from tfcompat_dw.checkpoint.schemas import data_type

VALUE_KEY = "/.ATTRIBUTES/VARIABLE_VALUE"
"""What the keys of variables end with in TF 2's checkpoints."""
LONGEST_NAME = 4096
"""Characters, with the names of the calls around it."""
LARGEST_FILLED_GRAPH = 2**30
"""Bytes of all constants that the file has fewer values of."""
SUGGESTED = 10
"""Names in an error."""

Shape = tuple[int | None, ...] | None


@dataclass(frozen=True)
class Entry:
    """An input of the network."""

    name: str
    """The caller's."""
    node: str
    """Of the placeholder."""
    shape: Shape
    dtype: str


@dataclass(frozen=True)
class Stored:
    """A variable's, or a constant's, value, and what is known of it."""

    read: Callable[[], Tensor]
    name: str = ""
    """The variable's own."""
    key: str = ""
    """Of the checkpoint, where several variables have the same name."""
    trainable: bool = False


def stored_constant(node: Node, path: Path) -> Stored:
    """The value of a node ``Const``, checked as far as that needs no memory."""
    proto = constant_proto(node, path)
    constant_info(proto, path, node.name)
    told = node.attribute("dtype")
    if told is not None and told != data_type(proto.dtype):
        reason = f"a constant of type {told} whose value is {data_type(proto.dtype)}"
        raise CheckpointError(path, node.name, reason)
    return Stored(lambda: constant(proto, path, node.name))


def constant_proto(node: Node, path: Path) -> Any:
    """The ``TensorProto`` of a node ``Const``."""
    value = node.message("value")
    if value is None or not value.HasField("tensor"):
        raise CheckpointError(path, node.name, "a constant without a value")
    return value.tensor


@dataclass(frozen=True)
class Sources:
    """Where a file has the values of constants and variables."""

    constant: Callable[[Node], Stored]
    variable: Callable[[str], Stored]
    """By the variable's name in the graph."""


class LazyTensors(Mapping[str, Tensor]):
    """Tensors by name, each read when it is asked for."""

    def __init__(self, readers: Mapping[str, Callable[[], Tensor]]) -> None:
        self._readers = readers

    def __getitem__(self, name: str) -> Tensor:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def __contains__(self, name: object) -> bool:
        return name in self._readers


# ---- order and names -----------------------------------------------------------------------------


Key = tuple[int, str]
"""A node in a scope."""


def ordered(inliner: Inliner, ends: Iterable[Place]) -> dict[Key, list[Place]]:
    """The nodes that the ends need, each after those whose results it takes, with its inputs."""
    edges: dict[Key, list[Place]] = {}
    done: dict[Key, list[Place]] = {}
    for end in ends:
        stack: list[Place] = [end]
        while stack:
            place = stack[-1]
            key = place.scope, place.node
            if key in done:
                stack.pop()
            elif key in edges:
                done[key] = edges[key]
                stack.pop()
            else:
                if len(edges) >= MOST_NODES:
                    raise CheckpointError(
                        inliner.path, "", f"a graph of more than {MOST_NODES} nodes"
                    )
                edges[key] = inliner.inputs(place)
                stack.extend(_unfinished(inliner, edges[key], edges, done))
    return done


def _unfinished(
    inliner: Inliner,
    inputs: Sequence[Place],
    edges: Mapping[Key, Any],
    done: Mapping[Key, Any],
) -> Iterator[Place]:
    """Inputs that are to be visited, the first one last; one that is being visited is an error."""
    for place in reversed(inputs):
        inliner.spend()
        key = place.scope, place.node
        if key in done:
            continue
        if key in edges:
            raise inliner.circle(place.node)
        yield place


def names_of(inliner: Inliner, own: Mapping[Key, str]) -> dict[Key, str]:
    """The nodes' names: their own where these are unique, else with the calls around them."""
    taken: set[str] = set()
    counts: dict[str, int] = {}
    for name in own.values():
        counts[name] = counts.get(name, 0) + 1
    found: dict[Key, str] = {}
    for key in sorted(own, key=lambda key: key[0] > MAIN):  # those of the graph itself first
        name = own[key]
        if counts[name] > 1 and (key[0] > MAIN or name in taken):
            name = path_name(inliner, key) if key[0] >= MAIN else name
        name = _untaken(name, taken, counts)
        taken.add(name)
        found[key] = name
    return {key: found[key] for key in own}


def _untaken(name: str, taken: set[str], counts: dict[str, int]) -> str:
    """The name, or the first of ``name_1``, ``name_2``, ... that is free."""
    if name not in taken:
        return name
    number = counts.get(f"{name}_", 0) + 1
    while f"{name}_{number}" in taken or f"{name}_{number}" in counts:
        number += 1
    counts[f"{name}_"] = number
    return f"{name}_{number}"


def path_name(inliner: Inliner, key: Key) -> str:
    """A node's name after the names of the calls around it, as TensorFlow writes it."""
    scope, name = key
    parts = [name]
    for one in inliner.scopes[scope].path() if scope > MAIN else ():
        if one.call is not None:
            parts.append(one.call.name)
    if sum(map(len, parts)) > LONGEST_NAME:
        raise CheckpointError(inliner.path, name[:200], "names that are longer than any is")
    return "/".join(reversed(parts))


# ---- the graph -----------------------------------------------------------------------------------


@dataclass
class _Parts:
    """What a graph is made of, while it is put together."""

    nodes: dict[str, GraphNode] = field(default_factory=dict)
    constants: dict[str, Callable[[], Tensor]] = field(default_factory=dict)
    trainable: set[str] = field(default_factory=set)
    variable_names: dict[str, str] = field(default_factory=dict)
    filled: int = 0


class Assembly:
    """The graph between some inputs and outputs.

    Args:
        inliner: what follows tensors; its ``fed`` has ``Place(FED, "0")`` for the first entry.
        name: of the graph.
        entries: its inputs.
        ends: its outputs by their names, resolved.
        sources: values.
    """

    def __init__(
        self,
        inliner: Inliner,
        name: str,
        entries: Sequence[Entry],
        ends: Mapping[str, Place],
        sources: Sources,
    ) -> None:
        self.inliner, self.name, self.entries = inliner, name, entries
        self.ends, self.sources = dict(ends), sources
        self.path = inliner.path
        self._variables: dict[str, Stored] = {}

    def graph(self, outputs: Sequence[str] | None, unused: bool = True) -> Graph:
        """The graph to its own outputs, or to those that are asked for.

        Args:
            outputs: names of nodes; None for the graph's own outputs.
            unused: whether inputs that no output needs are inputs nevertheless.
        """
        edges: dict[Key, list[Place]] = {(FED, str(n)): [] for n in range(len(self.entries))}
        edges |= ordered(self.inliner, self._all_ends(outputs))
        used = (name for scope, name in edges if scope == VARIABLES)
        self._variables = self._named_variables(used)
        names = names_of(self.inliner, self._own_names(edges))
        ends = self.ends
        if outputs is not None:
            ends = {name: self._asked(name, edges, names) for name in outputs}
            edges = _needed(edges, ends.values())
        elif not unused:
            edges = _needed(edges, ends.values())
        return self._put_together(edges, names, ends)

    def _own_names(self, keys: Iterable[Key]) -> dict[Key, str]:
        """The names of nodes, placeholders and variables, which need not be unique."""
        own = {}
        for key in keys:
            scope, name = key
            if scope == FED:
                name = self.entries[int(name)].node
            elif scope == VARIABLES:
                name = self._variables[name].name
            own[key] = name
        return own

    def _named_variables(self, names: Iterable[str]) -> dict[str, Stored]:
        """Variables by their names in the graph; where several have one name, the key is it."""
        found = {name: self.sources.variable(name) for name in names}
        counts = Counter(one.name for one in found.values())
        for name, one in found.items():
            if not one.name or counts[one.name] > 1:
                key = one.key.removesuffix(VALUE_KEY) or name
                found[name] = replace(one, name=key if counts[key] == 0 else name)
        return found

    def _all_ends(self, outputs: Sequence[str] | None) -> list[Place]:
        """The graph's outputs, and what else is asked for of the graph itself."""
        main = self.inliner.scopes[MAIN].body
        extra = [name for name in outputs or () if name.partition(":")[0] in main.nodes]
        return [*self.ends.values(), *(self._of_main(name) for name in extra)]

    def _of_main(self, name: str) -> Place:
        node, _, index = name.partition(":")
        return self.inliner.resolve(Place(MAIN, node, _index(index, name)))

    def _asked(self, name: str, edges: Mapping[Key, Any], names: Mapping[Key, str]) -> Place:
        """The place of a node that is asked for by its name, with or without calls before it."""
        node, _, index = name.partition(":")
        if node in self.inliner.scopes[MAIN].body.nodes:
            return self._of_main(name)
        for key, own in names.items():
            if own == node:
                return Place(*key, _index(index, name))
        for key in edges:
            if node.endswith(key[1]) and node == path_name(self.inliner, key):
                return Place(*key, _index(index, name))
        raise ValueError(_unknown(node, list(names.values()), list(self.ends)))

    def _put_together(
        self, edges: Mapping[Key, list[Place]], names: Mapping[Key, str], ends: Mapping[str, Place]
    ) -> Graph:
        parts = _Parts()
        self._entry_nodes = {
            entry.name: names[FED, str(number)]
            for number, entry in enumerate(self.entries)
            if (FED, str(number)) in names
        }

        def output(place: Place) -> Output:
            return Output(names[place.scope, place.node], place.output)

        for key, inputs in edges.items():
            self._add(parts, key, names[key], tuple(map(output, inputs)), inputs)
        if parts.filled > LARGEST_FILLED_GRAPH:
            reason = f"its constants stand for {parts.filled} bytes more than the file has"
            raise CheckpointError(self.path, "", reason)
        given = [
            GraphInput(entry.name, Output(names[FED, str(number)]), entry.shape, entry.dtype)
            for number, entry in enumerate(self.entries)
            if (FED, str(number)) in edges
        ]
        graph = Graph(
            self.name,
            parts.nodes,
            tuple(given),
            {name: output(place) for name, place in ends.items()},
            LazyTensors(parts.constants),
            frozenset(parts.trainable),
            parts.variable_names,
        )
        return with_maps(graph)

    # ---- nodes -------------------------------------------------------------------------------

    def _add(
        self,
        parts: _Parts,
        key: Key,
        name: str,
        inputs: tuple[Output, ...],
        places: Sequence[Place],
    ) -> None:
        scope, own = key
        if scope == FED:
            entry = self.entries[int(own)]
            attributes = {"dtype": entry.dtype, "shape": entry.shape}
            parts.nodes[name] = GraphNode(name, "Placeholder", (), attributes)
        elif scope == VARIABLES:
            self._add_variable(parts, own, name)
        else:
            node = self.inliner.node(Place(scope, own))
            if node is None:
                raise CheckpointError(self.path, own[:200], "an argument that nobody gives")
            self._add_node(parts, scope, node, name, inputs, places)

    def _add_variable(self, parts: _Parts, own: str, name: str) -> None:
        stored = self._variables[own]
        parts.nodes[name] = GraphNode(name, "Variable")
        parts.constants[name] = stored.read
        parts.variable_names[name] = stored.name
        if stored.trainable:
            parts.trainable.add(name)

    def _add_node(
        self,
        parts: _Parts,
        scope: int,
        node: Node,
        name: str,
        inputs: tuple[Output, ...],
        places: Sequence[Place],
    ) -> None:
        attributes = self._attributes(scope, node)
        if node.op == "Const":
            parts.constants[name] = self.sources.constant(node).read
            if (value := node.message("value")) is not None and value.HasField("tensor"):
                parts.filled += filled_bytes(value.tensor, self.path, node.name)
        op, of_variable = node.op, bool(places) and places[0].scope == VARIABLES
        if of_variable and op == "ResourceGather":
            op, inputs = "GatherV2", (*inputs, self._add_axis(parts, name, attributes))
        elif of_variable:
            op = _OF_VALUES.get(op, op)
        if op in LOOPS:
            attributes |= self._map(parts, scope, node)
        parts.nodes[name] = GraphNode(name, op, inputs, attributes)

    def _add_axis(self, parts: _Parts, name: str, attributes: dict[str, Any]) -> Output:
        """``GatherV2`` takes an axis, which begins after the batch."""
        batch = attributes.get("batch_dims")
        axis = torch.tensor(
            batch if isinstance(batch, int) and abs(batch) < 64 else 0, dtype=torch.int32
        )
        own = _untaken(f"{name}/axis", set(parts.nodes), {})
        parts.nodes[own] = GraphNode(own, "Const", (), {"dtype": "int32"})
        parts.constants[own] = lambda: axis
        attributes.update(Taxis="int32", Tparams=attributes.pop("dtype", "float32"))
        return Output(own)

    def _map(self, parts: _Parts, scope: int, node: Node) -> dict[str, Any]:
        """What a loop does for each element, if that is all it does."""
        loop = map_loop(self.inliner.library, node)
        if loop is None or len(self.inliner.scopes[scope].body.name) > LONGEST_NAME:
            return {}
        inner = self.inliner.call(scope, node, loop.body, node.inputs)
        entries = list(self.entries)
        fed = dict(self.inliner.fed)
        for name in loop.elements:
            fed[Place(inner.number, name)] = Place(FED, str(len(entries)))
            entries.append(Entry(name, name, None, _element_dtype(inner.body, name)))
        self.inliner.fed = fed
        ends = {
            str(number): self.inliner.resolve(Place(inner.number, *source))
            for number, source in loop.results.items()
        }
        body = Assembly(self.inliner, node.name, entries, ends, self.sources)
        graph = body.graph(None, unused=False)
        mapped = set(loop.elements)
        inputs = sorted(graph.inputs, key=lambda one: one.name not in mapped)
        elements = [loop.elements[one.name] for one in inputs if one.name in mapped]
        others = [Output(self._entry_nodes[one.name]) for one in inputs if one.name not in mapped]
        results = {number: place for place, number in enumerate(loop.results)}
        graph = replace(graph, inputs=tuple(inputs))
        found = {"body": graph, "elements": elements, "others": others, "results": results}
        return {"map": found}

    def _attributes(self, scope: int, node: Node) -> dict[str, Any]:
        """The node's; those that a function leaves open are its call's."""
        attributes = node.attributes()
        call = self.inliner.scopes[scope].call
        for one in node.proto.attr:
            name = one.key.decode(errors="replace")
            if call is not None and name in attributes and one.value.HasField("placeholder"):
                attributes[name] = call.attribute(str(attributes[name]))
        return attributes


def _element_dtype(body: Body, name: str) -> str:
    found = body.nodes[name].attribute("element_dtype")
    return found if isinstance(found, str) else "float32"


_OF_VALUES = {"ResourceGatherNd": "GatherNd", "VariableShape": "Shape"}
"""Operations that take a variable's handle, and those that take its value."""


def _needed(edges: dict[Key, list[Place]], ends: Iterable[Place]) -> dict[Key, list[Place]]:
    """The nodes that the ends need, in the same order."""
    needed = {(place.scope, place.node) for place in ends}
    for key in reversed(edges):
        if key in needed:
            needed.update((place.scope, place.node) for place in edges[key])
    return {key: edges[key] for key in edges if key in needed}


def _index(text: str, name: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise ValueError(f"{name!r} is not the name of a node, nor 'node:number' of a result")
    return int(text)


def _unknown(name: str, names: Sequence[str], ends: Sequence[str]) -> str:
    likely = get_close_matches(name, [one for one in names[:5000] if len(one) < 200], SUGGESTED)
    return (
        f"the graph has no node {name!r}, or its outputs do not need it; "
        + (f"similar names: {', '.join(likely)}; " if likely else "")
        + f"its outputs are {', '.join(ends[:SUGGESTED])}"
    )
