"""A :class:`~.graph.Graph` out of what an :class:`~.inline.Inliner` finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.checkpoint.base import CheckpointError
from tfcompat_dw.checkpoint.constants import constant, constant_bytes
from tfcompat_dw.checkpoint.graph import Graph, GraphInput, GraphNode, Output
from tfcompat_dw.checkpoint.inline import FED, MAIN, VARIABLES, Inliner, Place, Scope
from tfcompat_dw.checkpoint.loops import LOOPS, MapLoop, MapLoops, with_maps
from tfcompat_dw.checkpoint.nodes import LONGEST_NAME, MOST_NODES, Attributes, Body, Node
from tfcompat_dw.checkpoint.schemas import data_type
from tfcompat_dw.names import Names

VALUE_KEY = "/.ATTRIBUTES/VARIABLE_VALUE"
"""What the keys of variables end with in TF 2's checkpoints."""
LONGEST_NAMES = 2**24
"""Characters of all names that are made of the names of calls."""
LARGEST_FILLED_GRAPH = 2**30
"""Bytes of constants that the file has fewer values of, or that are written out again."""
DEEPEST_MAPS = 20
"""Maps within each other."""
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
    size: int = 0
    """Bytes of the value."""
    filled: int = 0
    """Those of them that the file does not have: one number stands for many."""


def stored_constant(node: Node, path: Path) -> Stored:
    """The value of a node ``Const``, checked as far as that needs no memory."""
    proto = constant_proto(node, path)
    size, filled = constant_bytes(proto, path, node.name)
    told = node.attribute("dtype")
    if told is not None and told != data_type(proto.dtype):
        reason = f"a constant of type {told} whose value is {data_type(proto.dtype)}"
        raise CheckpointError(path, node.name, reason)
    return Stored(lambda: constant(proto, path, node.name), size=size, filled=filled)


def constant_proto(node: Node, path: Path) -> Any:
    """The ``TensorProto`` of a node ``Const``."""
    value = node.tensor("value")
    if value is None:
        raise CheckpointError(path, node.name, "a constant without a value")
    return value


@dataclass
class Sources:
    """Where a file has the values of constants and variables."""

    of_constant: Callable[[Node], Stored]
    variable: Callable[[str], Stored]
    """By the variable's name in the graph."""
    filled: int = 0
    """Bytes of the constants so far that the file does not have."""
    _known: dict[Attributes, Stored] = field(default_factory=dict)

    def constant(self, node: Node) -> Stored:
        """The value of a node, which calls may write out many times."""
        if node.about in self._known:
            self.filled += self._known[node.about].size
        else:
            self._known[node.about] = self.of_constant(node)
            self.filled += self._known[node.about].filled
        return self._known[node.about]


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
    counts = Counter(own.values())
    again = {name for name, count in counts.items() if count > 1}
    found = {key: name for key, name in own.items() if name not in again}
    names, room = Names(found.values()), LONGEST_NAMES
    keys = (key for key, name in own.items() if name in again)
    for key in sorted(keys, key=lambda key: key[0] > MAIN):  # those of the graph itself first
        name = own[key]
        if key[0] > MAIN:
            name = path_name(inliner, key)
            room -= len(name)
            if room < 0:
                raise CheckpointError(inliner.path, name[:200], "names that are longer than any is")
        found[key] = names.new(name)
    return {key: found[key] for key in own}


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

    names: Names
    """Of nodes; those that are still to come are taken, too."""
    nodes: dict[str, GraphNode] = field(default_factory=dict)
    constants: dict[str, Callable[[], Tensor]] = field(default_factory=dict)
    trainable: set[str] = field(default_factory=set)
    variable_names: dict[str, str] = field(default_factory=dict)


class Assembly:
    """The graph between some inputs and outputs.

    Args:
        inliner: what follows tensors; its ``fed`` has ``Place(FED, "0")`` for the first entry.
        name: of the graph.
        entries: its inputs.
        ends: its outputs by their names, resolved.
        sources: values.
        maps: the loops of the file, if an assembly around this one has looked at them.
        depth: how many maps are around it.
    """

    def __init__(
        self,
        inliner: Inliner,
        name: str,
        entries: Sequence[Entry],
        ends: Mapping[str, Place],
        sources: Sources,
        maps: MapLoops | None = None,
        depth: int = 0,
    ) -> None:
        self.inliner, self.name, self.entries = inliner, name, entries
        self.ends, self.sources = dict(ends), sources
        self.path = inliner.path
        self._maps, self._depth = maps or MapLoops(inliner.library), depth
        self._variables: dict[str, Stored] = {}
        self._entry_nodes: dict[str, str] = {}
        self._edges: Mapping[Key, list[Place]] = {}

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
        parts = _Parts(Names(names.values()))
        self._edges = edges
        self._entry_nodes = {
            entry.name: names[FED, str(number)]
            for number, entry in enumerate(self.entries)
            if (FED, str(number)) in names
        }

        def output(place: Place) -> Output:
            if place.output and self._is_constant(place):
                reason = f"a constant has no result {place.output}"
                raise CheckpointError(self.path, place.node, reason)
            return Output(names[place.scope, place.node], place.output)

        for key, inputs in edges.items():
            self._add(parts, key, names[key], tuple(map(output, inputs)), inputs)
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

    def _is_constant(self, place: Place) -> bool:
        node = self.inliner.node(place)
        return node is not None and node.op == "Const"

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
            parts.constants[name] = self._constant(node)
        elif node.op in PLACEHOLDERS:
            raise CheckpointError(
                self.path,
                node.name,
                "a placeholder that is no input of this graph: take outputs that do not need it",
            )
        op, of_variable = node.op, bool(places) and places[0].scope == VARIABLES
        if of_variable and op == "ResourceGather":
            op, attributes = "GatherV2", dict(attributes)
            inputs = (*inputs, self._add_axis(parts, name, attributes))
        elif of_variable:
            op = _OF_VALUES.get(op, op)
        if op in LOOPS and (found := self._map(scope, node, inputs, places)) is not None:
            attributes = {**attributes, "map": found}
        parts.nodes[name] = GraphNode(name, op, inputs, attributes)

    def _constant(self, node: Node) -> Callable[[], Tensor]:
        stored = self.sources.constant(node)
        if self.sources.filled > LARGEST_FILLED_GRAPH:
            reason = f"its constants stand for {self.sources.filled} bytes more than the file has"
            raise CheckpointError(self.path, node.name, reason)
        return stored.read

    def _add_axis(self, parts: _Parts, name: str, attributes: dict[str, Any]) -> Output:
        """``GatherV2`` takes an axis, which begins after the batch."""
        batch = attributes.get("batch_dims")
        axis = torch.tensor(
            batch if isinstance(batch, int) and abs(batch) < 64 else 0, dtype=torch.int32
        )
        own = parts.names.new(f"{name}/axis")
        parts.nodes[own] = GraphNode(own, "Const", (), {"dtype": "int32"})
        parts.constants[own] = lambda: axis
        attributes.update(Taxis="int32", Tparams=attributes.pop("dtype", "float32"))
        return Output(own)

    def _attributes(self, scope: int, node: Node) -> Mapping[str, Any]:
        """The node's; those that a function leaves open are its call's."""
        call, left_open = self.inliner.scopes[scope].call, node.about.placeholders
        if call is None or not left_open:
            return node.about.public
        self.inliner.spend(len(node.about.public))
        given = {
            name: call.attribute(of_call)
            for name, of_call in left_open.items()
            if name in node.about.public
        }
        return {**node.about.public, **given}

    # ---- maps --------------------------------------------------------------------------------

    def _map(
        self, scope: int, node: Node, inputs: Sequence[Output], places: Sequence[Place]
    ) -> dict[str, Any] | None:
        """What a loop does for each element, if that is all it does."""
        loop = self._maps.of(node) if self._depth < DEEPEST_MAPS else None
        if loop is None:
            return None
        inner = self.inliner.call(scope, node, loop.body, node.inputs)
        if len(places) != len(inner.body.arguments):
            reason = f"a loop over {len(places)} values, its body takes {len(inner.body.arguments)}"
            raise CheckpointError(self.path, node.name, reason)
        entries, elements, others = self._inner_entries(loop, inner, inputs, places)
        ends = {
            str(number): self.inliner.resolve(Place(inner.number, *source))
            for number, source in loop.results.items()
        }
        body = Assembly(
            self.inliner, node.name, entries, ends, self.sources, self._maps, self._depth + 1
        )
        graph = body.graph(None, unused=False)
        ordered_inputs = sorted(graph.inputs, key=lambda one: one.name not in elements)
        return {
            "body": replace(graph, inputs=tuple(ordered_inputs)),
            "elements": [elements[one.name] for one in ordered_inputs if one.name in elements],
            "others": [others[one.name] for one in ordered_inputs if one.name not in elements],
            "results": {number: place for place, number in enumerate(loop.results)},
        }

    def _inner_entries(
        self, loop: MapLoop, inner: Scope, inputs: Sequence[Output], places: Sequence[Place]
    ) -> tuple[list[Entry], dict[str, int], dict[str, Output]]:
        """What goes into the body of a map.

        All inputs of the network, of which it may take the sizes; elements, with the numbers of
        their lists; and what the loop is given that is computed from values of inputs.
        """
        self.inliner.spend(len(self.entries) + len(places))
        entries = list(self.entries)
        names = Names(entry.name for entry in entries)
        others = {entry.name: Output(self._entry_nodes[entry.name]) for entry in entries}
        elements: dict[str, int] = {}

        def add(node: str, dtype: str) -> str:
            name = names.new(node)
            self.inliner.fed[Place(inner.number, node)] = Place(FED, str(len(entries)))
            entries.append(Entry(name, node, None, dtype))
            return name

        for node, number in loop.elements.items():
            elements[add(node, _element_dtype(inner.body, node))] = number
        lists = {*loop.elements.values(), *loop.results}
        for number, argument in enumerate(inner.body.arguments):
            place = places[number]
            if number not in lists and (place.scope, place.node) in self._of_values:
                dtype = data_type(inner.body.signature.input_arg[number].type)
                others[add(argument, dtype)] = inputs[number]
        return entries, elements, others

    @cached_property
    def _of_values(self) -> set[Key]:
        """Nodes that depend on inputs by more than their sizes, or on a loop."""
        found: set[Key] = set()
        looped: set[Key] = set()
        for key, inputs in self._edges.items():
            node = self.inliner.node(Place(*key))
            op = "" if node is None else node.op
            before = {(place.scope, place.node) for place in inputs}
            if op in LOOPS or not before.isdisjoint(looped):
                looped.add(key)
                found.add(key)
            elif key[0] == FED or (op not in OF_SIZES and not before.isdisjoint(found)):
                found.add(key)
        return found


def _element_dtype(body: Body, name: str) -> str:
    found = body.nodes[name].attribute("element_dtype")
    return found if isinstance(found, str) else "float32"


PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
OF_SIZES = ("Shape", "ShapeN", "Size", "Rank")
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
