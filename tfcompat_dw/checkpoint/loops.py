"""``tf.map_fn`` in a graph: a loop that computes each element of a list from one of another.

TensorFlow writes it as a ``While`` over lists of tensors (``tensorflow/python/ops/map_fn.py``): an
element is taken out of the lists that are mapped, the results are put into others, and a counter
goes up by one.  Loops of any other kind stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tfcompat_dw.checkpoint.graph import Graph, GraphNode, Output, needed
from tfcompat_dw.checkpoint.nodes import Body, Library, Node

LOOPS = ("While", "StatelessWhile")
_COMPARISONS = {"Less", "LogicalAnd", "Identity", "Const"}
_FROM, _STACK = "TensorListFromTensor", "TensorListStack"


@dataclass(frozen=True)
class MapLoop:
    """What a loop that is a map takes and gives."""

    body: str
    """The function."""
    elements: Mapping[str, int]
    """Names of the nodes in it that take an element, with the number of the loop's input."""
    results: Mapping[int, tuple[str, int]]
    """By the number of the loop's output: where the element that is put there comes from."""


class MapLoops:
    """The loops of a file that are maps, each body looked at once."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._found: dict[tuple[str, str], MapLoop | None] = {}

    def of(self, node: Node) -> MapLoop | None:
        """The loop as a map; None if it is another kind of loop."""
        names = node.attribute("body"), node.attribute("cond")
        if not all(isinstance(name, str) and name in self._library for name in names):
            return None
        if names not in self._found:
            self._found[names] = self._read(*names)
        return self._found[names]

    def _read(self, name: str, condition: str) -> MapLoop | None:
        nodes = self._library.body(condition).nodes.values()
        if not {one.op for one in nodes} <= _COMPARISONS:
            return None
        return _Reading(self._library, self._library.body(name)).map(name)


class _Reading:
    """Looks at the body of a loop."""

    def __init__(self, library: Library, body: Body) -> None:
        self.library, self.body = library, body
        self.arguments = list(body.arguments)
        self._sources: dict[str, tuple[str, int]] = {}

    def map(self, name: str) -> MapLoop | None:
        """See :class:`MapLoops`."""
        ends = [self._source(end) for end in self.body.ends]
        if len(ends) != len(self.arguments):
            return None
        counting = {n for n, end in enumerate(ends) if self._counts(n, end)}
        counters = {(self.arguments[n], 0) for n in counting}
        kept = {n for n, end in enumerate(ends) if end == (self.arguments[n], 0)}
        results = {n: self._put(n, end, counters) for n, end in enumerate(ends)}
        found = {n: end for n, end in results.items() if end is not None}
        if set(range(len(ends))) - counting - kept - found.keys() or not found:
            return None
        elements = self._elements(counters, kept)
        return None if elements is None else MapLoop(name, elements, found)

    def _source(self, name: str) -> tuple[str, int]:
        """Through what hands on its input; nothing, if that is a circle."""
        chain: dict[str, None] = {}
        end = self._sources.get(name)
        while end is None:
            chain[name] = None
            source = self.library.source(self.body, name)
            node = self.body.nodes.get(source[0])
            if node is None or node.op != "Identity" or not node.inputs:
                end = source
            else:
                name = node.inputs[0]
                end = ("", 0) if name in chain else self._sources.get(name)
        self._sources.update(dict.fromkeys(chain, end))
        return end

    def _node(self, source: tuple[str, int], *ops: str) -> Node | None:
        node = self.body.nodes.get(source[0])
        return node if node is not None and node.op in ops else None

    def _counts(self, number: int, end: tuple[str, int]) -> bool:
        """Whether an argument goes up by one."""
        node = self._node(end, "Add", "AddV2")
        if node is None or len(node.inputs) != 2:
            return False
        sources = [self._source(one) for one in node.inputs]
        return (self.arguments[number], 0) in sources and any(
            self._node(one, "Const") is not None for one in sources
        )

    def _put(
        self, number: int, end: tuple[str, int], counters: set[tuple[str, int]]
    ) -> tuple[str, int] | None:
        """What is put into a list at the counter's place."""
        node = self._node(end, "TensorListSetItem")
        if node is None or len(node.inputs) < 3:
            return None
        target, place = self._source(node.inputs[0]), self._source(node.inputs[1])
        if target != (self.arguments[number], 0) or place not in counters:
            return None
        return self._source(node.inputs[2])

    def _elements(self, counters: set[tuple[str, int]], kept: set[int]) -> dict[str, int] | None:
        """Where elements are taken out; None if a counter or a list is used in another way."""
        found: dict[str, int] = {}
        for node in self.body.nodes.values():
            sources = [self._source(one) for one in node.inputs]
            uses = [one for one in sources if one in counters]
            if node.op == "TensorListGetItem" and len(sources) > 1 and uses:
                number = self.body.arguments.get(sources[0][0])
                if number not in kept:
                    return None
                found[node.name] = number
            elif uses and node.op not in ("TensorListSetItem", "Add", "AddV2", "Identity"):
                return None
        return found or None


# ---- in the graph --------------------------------------------------------------------------------


def with_maps(graph: Graph) -> Graph:
    """``MapFn`` nodes in the place of loops that are maps.

    Their attribute ``body`` is the graph of one element; its first ``mapped`` inputs are elements
    of the node's first inputs, the others are the node's others.  Its outputs are the
    node's results in the order in which it has them, not in that of their names.
    """
    loops = {
        node.name: node.attributes["map"]
        for node in graph.nodes.values()
        if node.op in LOOPS and "map" in node.attributes
    }
    if not loops:
        return graph
    nodes = dict(graph.nodes)
    stacks: dict[str, list[GraphNode]] = {}
    for node in graph.nodes.values():
        if node.op == _STACK and node.inputs:
            stacks.setdefault(node.inputs[0].node, []).append(node)
    for name, found in loops.items():
        replaced = _map_node(nodes, nodes[name], found)
        if replaced is not None:
            nodes[name] = replaced
            _replace_stacks(nodes, stacks.get(name, ()), found)
    ends = [*graph.outputs.values(), *(one.output for one in graph.inputs)]
    return replace(graph, nodes=needed(nodes, ends))


def _map_node(nodes: Mapping[str, GraphNode], loop: GraphNode, found: Any) -> GraphNode | None:
    """The loop on tensors instead of lists."""
    sources = []
    for number in found["elements"]:
        made = nodes[loop.inputs[number].node]
        if made.op != _FROM or not made.inputs:
            return None
        sources.append(made.inputs[0])
    attributes = {"body": found["body"], "mapped": len(sources)}
    return GraphNode(loop.name, "MapFn", (*sources, *found["others"]), attributes)


def _replace_stacks(nodes: dict[str, GraphNode], stacks: Iterable[GraphNode], found: Any) -> None:
    """The tensor that a list is made into is a result of the map."""
    for node in stacks:
        source = node.inputs[0]
        number = found["results"].get(source.index)
        if number is not None:
            nodes[node.name] = GraphNode(node.name, "Identity", (Output(source.node, number),))
