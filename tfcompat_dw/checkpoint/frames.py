"""Loops of TensorFlow 1, and of TensorFlow.js, as loops over functions.

There a part of the graph runs again and again between ``Enter`` and ``Exit`` nodes
(``tensorflow/core/common_runtime/lower_while_op.cc``, ``tensorflow/python/ops/while_loop.py``).
Here it becomes what TensorFlow 2 writes: a ``While`` with a function for its body and one for its
condition; ``TensorArray`` operations become those of lists.  Loops around others stay as they are.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tfcompat_dw.checkpoint.nodes import Body, Library, Node
from tfcompat_dw.checkpoint.schemas import MESSAGES

_OF_LISTS = {
    "TensorArrayScatterV3": "TensorListFromTensor",
    "TensorArrayGatherV3": "TensorListStack",
}
ENTER, EXIT = ("Enter", "RefEnter"), ("Exit", "RefExit")
_CONTROL = (*ENTER, *EXIT, "NextIteration", "RefNextIteration", "LoopCond")
LOOKS = 16
"""How often a node may be looked at, on the average: about five times if all are in one loop.
Loops beyond that stay as they are."""


class _NoLoopError(Exception):
    """These nodes are no loop that is known."""


@dataclass(frozen=True)
class _Variable:
    """What goes round in a loop."""

    enter: Node
    merge: Node
    switch: Node
    following: str
    """Where its next value comes from: an input's name."""


def library_of(graph_def: Any, operations: Iterable[Any], path: Path) -> Library:
    """The functions of a graph, and the graph, whose loops call functions."""
    library = Library(graph_def, operations, path)
    enters: dict[str, list[Node]] = {}
    for node in library.main.nodes.values():
        if node.op in ENTER and isinstance(frame := node.attribute("frame_name"), str):
            enters.setdefault(frame, []).append(node)
    if enters:
        rewriting = _Rewriting(library)
        for frame, nodes in enters.items():
            try:
                rewriting.add(_Loop(rewriting, frame, nodes))
            except _NoLoopError:
                continue
        library.replace_main(rewriting.main(), rewriting.functions)
    return library


class _Rewriting:
    """A graph, and what becomes of its loops."""

    def __init__(self, library: Library) -> None:
        self.library, self.body, self.path = library, library.main, library.path
        self.functions: dict[str, Body] = {}
        self.looks = LOOKS * len(self.body.nodes)
        self._made: list[Node] = []
        self._names: set[str] = set()
        """Of those."""
        self._gone: set[str] = set()
        self._exits: dict[str, str] = {}
        """From the name of an ``Exit`` to that of the loop's output."""

    def source(self, name: str) -> tuple[str, int]:
        """From an input's name to the node and the number of its output."""
        return self.library.source(self.body, name)

    def look(self, count: int = 1) -> None:
        """Keeps count, so that loops that share nodes do not take forever."""
        self.looks -= count
        if self.looks < 0:
            raise _NoLoopError

    @cached_property
    def users(self) -> Mapping[str, list[Node]]:
        """Nodes that take a node's results, by its name."""
        found: dict[str, list[Node]] = {}
        for node in self.body.nodes.values():
            for name in node.inputs:
                found.setdefault(self.source(name)[0], []).append(node)
        return found

    def add(self, loop: _Loop) -> None:
        """Puts a ``While`` in the place of a loop."""
        name = self._new(loop.frame, self.body.nodes, self._names)
        self._names.add(name)
        functions = {
            "body": self._new(f"{name}/body", self.library, self.functions),
            "cond": self._new(f"{name}/condition", self.library, self.functions),
        }
        body, condition = loop.body(functions["body"]), loop.condition(functions["cond"])
        self.functions |= {functions["body"]: body, functions["cond"]: condition}
        while_ = _node(name, "While", [one.inputs[0] for one in loop.enters], self.path)
        for key, function in functions.items():
            while_.proto.attr.add(key=key.encode()).value.func.name = function.encode()
        types = while_.proto.attr.add(key=b"T").value.list
        types.type.extend(_type(enter) for enter in loop.enters)
        self._made.append(while_)
        self._gone |= loop.inside
        for number, variable in enumerate(loop.variables):
            for node in self.users.get(variable.switch.name, ()):
                if node.op in EXIT:
                    self._exits[node.name] = f"{name}:{number}"
                    self._gone.add(node.name)

    def _new(self, name: str, *taken: Container[str]) -> str:
        """The name, or a longer one that is free."""
        while any(name in one for one in taken):
            name += "_"
        return name

    def main(self) -> Body:
        """The graph with loops that call functions."""
        if not self._made:
            return self.body
        nodes = {
            node.name: self._rewritten(node)
            for node in (*self.body.nodes.values(), *self._made)
            if node.name not in self._gone
        }
        return Body("", nodes)

    def _rewritten(self, node: Node) -> Node:
        inputs = [self._exits.get(self.source(name)[0], name) for name in node.inputs]
        of_lists = _OF_LISTS.get(node.op)
        if of_lists is not None and self._is_range(node, 1):  # still takes its places, to no end
            return _node(node.name, of_lists, inputs[2:0:-1], self.path)
        return node if inputs == list(node.inputs) else node.with_inputs(inputs, self.path)

    def _is_range(self, node: Node, number: int) -> bool:
        """Whether an input is 0, 1, 2, ...: the elements are taken one after the other."""
        if number + 1 >= len(node.inputs):
            return False
        places = self.body.nodes.get(self.source(node.inputs[number])[0])
        return places is not None and places.op == "Range"


class _Loop:
    """One loop: the nodes of a frame.

    Raises:
        _NoLoopError: it is none that is known.
    """

    def __init__(self, rewriting: _Rewriting, frame: str, enters: Sequence[Node]) -> None:
        self.graph, self.frame = rewriting, frame
        self.nodes, self.source = rewriting.body.nodes, rewriting.source
        if any(len(one.inputs) != 1 for one in enters):
            raise _NoLoopError
        self.constant = [one for one in enters if one.attribute("is_constant")]
        self.inside = self._inside(enters)
        changing = [one for one in enters if not one.attribute("is_constant")]
        self.variables = [self._variable(one) for one in changing]
        self.enters = [*changing, *self.constant]
        conditions = {self.source(one.switch.inputs[1])[0] for one in self.variables}
        if len(conditions) != 1:
            raise _NoLoopError
        self.loop_condition = self._node(conditions.pop(), "LoopCond", inputs=1)

    def _inside(self, enters: Iterable[Node]) -> set[str]:
        """The names of all nodes that run again and again."""
        names = {one.name for one in enters}
        found, stack = set(names), list(names)
        while stack:
            for node in self.graph.users.get(stack.pop(), ()):
                self.graph.look()
                if node.op in ENTER:
                    raise _NoLoopError
                if node.op not in EXIT and node.name not in found:
                    found.add(node.name)
                    stack.append(node.name)
        return found

    def _node(self, name: str, *ops: str, inputs: int) -> Node:
        node = self.nodes.get(name)
        if node is None or node.op not in ops or len(node.inputs) != inputs:
            raise _NoLoopError
        return node

    def _user(self, name: str, *ops: str) -> Node:
        found = [one for one in self.graph.users.get(name, ()) if one.op in ops]
        if len(found) != 1 or len(found[0].inputs) != 2:
            raise _NoLoopError
        return found[0]

    def _variable(self, enter: Node) -> _Variable:
        merge = self._user(enter.name, "Merge", "RefMerge")
        if self.source(merge.inputs[0]) != (enter.name, 0):
            raise _NoLoopError
        following = self.source(merge.inputs[1])[0]
        end = self._node(following, "NextIteration", "RefNextIteration", inputs=1)
        switch = self._user(merge.name, "Switch", "RefSwitch")
        if self.source(switch.inputs[0]) != (merge.name, 0):
            raise _NoLoopError
        return _Variable(enter, merge, switch, end.inputs[0])

    # ---- functions ---------------------------------------------------------------------------

    def body(self, name: str) -> Body:
        """What is done each time: from the variables to their next values."""
        arguments = {(one.switch.name, 1): one.switch.name for one in self.variables}
        ends = [one.following for one in self.variables]
        return self._function(name, arguments, ends)

    def condition(self, name: str) -> Body:
        """Whether it is done again."""
        arguments = {(one.merge.name, 0): one.merge.name for one in self.variables}
        return self._function(name, arguments, [self.loop_condition.inputs[0]])

    def _function(
        self, name: str, arguments: dict[tuple[str, int], str], ends: Sequence[str]
    ) -> Body:
        """The nodes between the arguments and the ends; what is constant is an argument, too."""
        passed = [one.name for one in self.constant]
        arguments = arguments | {(one, 0): one for one in passed}
        nodes: dict[str, Node] = {}
        stack = list(ends)
        while stack:
            source = self.source(stack.pop())
            if source in arguments or source[0] in nodes:
                continue
            node = self._plain(source[0])
            self.graph.look(1 + len(node.inputs))
            nodes[node.name] = node
            stack += node.inputs
        kept = {node.name: self._of_lists(node, arguments) for node in nodes.values()}
        results = [self._named(one, arguments) for one in ends]
        if len(ends) == len(self.variables):
            results += passed
        return Body(
            name,
            kept,
            {one: number for number, one in enumerate(arguments.values())},
            {str(number): one for number, one in enumerate(results)},
            _signature(name, list(arguments.values()), self.enters),
        )

    def _plain(self, name: str) -> Node:
        node = self.nodes.get(name)
        if node is None or node.op in _CONTROL or node.op.startswith("Placeholder"):
            raise _NoLoopError
        return node

    def _named(self, name: str, arguments: Mapping[tuple[str, int], str]) -> str:
        """An input's name within a function."""
        node, number = self.source(name)
        return arguments.get((node, number), f"{node}:{number}")

    def _of_lists(self, node: Node, arguments: Mapping[tuple[str, int], str]) -> Node:
        """A node within a function; of arrays those of lists."""
        inputs = [self._named(one, arguments) for one in node.inputs]
        path = self.graph.path
        if node.op == "TensorArrayReadV3" and len(inputs) == 3:
            made = _node(node.name, "TensorListGetItem", [inputs[2], inputs[1]], path)
            for entry in node.proto.attr:
                if entry.key == b"dtype":
                    made.proto.attr.add(key=b"element_dtype").value.CopyFrom(entry.value)
            return made
        if node.op == "TensorArrayWriteV3" and len(inputs) == 4:
            order = [inputs[3], inputs[1], inputs[2]]
            return _node(node.name, "TensorListSetItem", order, path)
        return node.with_inputs(inputs, path)


# ---- messages ------------------------------------------------------------------------------------


def _node(name: str, op: str, inputs: Iterable[str], path: Path) -> Node:
    """A node without attributes."""
    proto = MESSAGES["NodeDef"](
        name=name.encode(), op=op.encode(), input=[one.encode() for one in inputs]
    )
    return Node(proto, path)


def _type(node: Node) -> int:
    """The number of its type; 0 where it has none."""
    return next((entry.value.type for entry in node.proto.attr if entry.key == b"T"), 0)


def _signature(name: str, arguments: Sequence[str], enters: Sequence[Node]) -> Any:
    """A function's ``OpDef``, as far as it is looked at."""
    found: Any = MESSAGES["OpDef"](name=name.encode())
    for argument, enter in zip(arguments, enters, strict=True):
        found.input_arg.add(name=argument.encode(), type=_type(enter))
    return found
