"""``tf.map_fn`` in a graph: a loop that computes each element of a list from one of another.

TensorFlow writes it as a ``While`` over lists of tensors (``tensorflow/python/ops/map_fn.py``): an
element is taken out of the lists that are mapped, the results are put into others, and a counter
goes up by one.  Loops of any other kind stay what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def map_loop(library: Library, node: Node) -> MapLoop | None:
    """The loop as a map; None if it is another kind of loop."""
    names = node.attribute("body"), node.attribute("cond")
    if not all(isinstance(name, str) and name in library for name in names):
        return None
    body, condition = (library.body(str(name)) for name in names)
    if not {one.op for one in condition.nodes.values()} <= _COMPARISONS:
        return None
    return _Reading(library, body).map(str(names[0]))


class _Reading:
    """Looks at the body of a loop."""

    def __init__(self, library: Library, body: Body) -> None:
        self.library, self.body = library, body
        self.arguments = list(body.arguments)

    def map(self, name: str) -> MapLoop | None:
        """See :func:`map_loop`."""
        ends = [self._source(end) for end in self.body.ends]
        if len(ends) != len(self.arguments):
            return None
        counters = {n for n, end in enumerate(ends) if self._counts(n, end)}
        kept = {n for n, end in enumerate(ends) if end == (self.arguments[n], 0)}
        results = {n: self._put(n, end, counters) for n, end in enumerate(ends)}
        found = {n: end for n, end in results.items() if end is not None}
        if set(range(len(ends))) - counters - kept - found.keys() or not found:
            return None
        elements = self._elements(counters, kept)
        return None if elements is None else MapLoop(name, elements, found)

    def _source(self, name: str) -> tuple[str, int]:
        """Through what hands on its input."""
        for _ in range(len(self.body.nodes) + 1):
            node, index = self.library.source(self.body, name)
            found = self.body.nodes.get(node)
            if found is None or found.op != "Identity" or not found.inputs:
                return node, index
            name = found.inputs[0]
        return "", 0

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

    def _put(self, number: int, end: tuple[str, int], counters: set[int]) -> tuple[str, int] | None:
        """What is put into a list at the counter's place."""
        node = self._node(end, "TensorListSetItem")
        if node is None or len(node.inputs) < 3:
            return None
        target, place = self._source(node.inputs[0]), self._source(node.inputs[1])
        if target != (self.arguments[number], 0) or not self._is_counter(place, counters):
            return None
        return self._source(node.inputs[2])

    def _is_counter(self, source: tuple[str, int], counters: set[int]) -> bool:
        return any(source == (self.arguments[number], 0) for number in counters)

    def _elements(self, counters: set[int], kept: set[int]) -> dict[str, int] | None:
        """Where elements are taken out; None if a counter or a list is used in another way."""
        found: dict[str, int] = {}
        for node in self.body.nodes.values():
            sources = [self._source(one) for one in node.inputs]
            uses = [one for one in sources if self._is_counter(one, counters)]
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
    of the node's first inputs, the others are the node's others.
    """
    loops = {
        node.name: node.attributes["map"]
        for node in graph.nodes.values()
        if node.op in LOOPS and "map" in node.attributes
    }
    if not loops:
        return graph
    nodes = dict(graph.nodes)
    for name, found in loops.items():
        replaced = _map_node(nodes, nodes[name], found)
        if replaced is not None:
            nodes[name] = replaced
            _replace_stacks(nodes, name, found)
    ends = [*graph.outputs.values(), *(one.output for one in graph.inputs)]
    return replace(graph, nodes=needed(nodes, ends))


def _map_node(nodes: Mapping[str, GraphNode], loop: GraphNode, found: Any) -> GraphNode | None:
    """The loop on tensors instead of lists."""
    sources = []
    for number in found["elements"]:
        made = nodes[loop.inputs[number].node]
        if made.op != _FROM:
            return None
        sources.append(made.inputs[0])
    attributes = {"body": found["body"], "mapped": len(sources)}
    return GraphNode(loop.name, "MapFn", (*sources, *found["others"]), attributes)


def _replace_stacks(nodes: dict[str, GraphNode], name: str, found: Any) -> None:
    """The tensor that a list is made into is a result of the map."""
    for node in list(nodes.values()):
        if node.op == _STACK and node.inputs and node.inputs[0].node == name:
            number = found["results"].get(node.inputs[0].index)
            if number is not None:
                nodes[node.name] = GraphNode(node.name, "Identity", (Output(name, number),))
