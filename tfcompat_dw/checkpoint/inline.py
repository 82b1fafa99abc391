"""Where a graph's tensors come from, once functions, variables' handles and switches are gone.

Nothing is copied: a tensor is asked for, and what stands between it and the operation that computes
it is followed: into a function that is called and out of it again, through the branch that a
constant predicate takes, from the reading of a variable to the variable.  So only what is needed is
ever written out, and each call of a function is a :class:`Scope` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tfcompat_dw.checkpoint.base import CheckpointError
from tfcompat_dw.checkpoint.constants import constant, constant_info
from tfcompat_dw.checkpoint.graph import HAND_ON
from tfcompat_dw.checkpoint.nodes import Body, Library, Node

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")
HANDLES = ("VarHandleOp", "VariableV2", "Variable", "AutoReloadVariable")
"""Operations that are variables; a variable's handle and its value are the same place here."""
HAND_ON_HANDLES = (*HAND_ON, "RefIdentity")
MAIN, VARIABLES, FED = 0, -1, -2
"""Numbers of scopes: the graph itself, all variables, and what the caller gives."""
DEEPEST_CALLS = 100
DEEPEST_PREDICATES = 30
MOST_SCOPES = 50_000
MOST_STEPS = 2**20
"""From one tensor to the next, for a whole graph."""


class Place(NamedTuple):
    """One output of a node, or an argument, in a scope."""

    scope: int
    node: str
    output: int = 0


@dataclass(frozen=True)
class Scope:
    """One call of a function, or the graph."""

    number: int
    body: Body
    call: Node | None = None
    parent: Scope | None = None
    arguments: tuple[Place, ...] = ()

    def path(self) -> Iterator[Scope]:
        """This one, the one that calls it, and so on."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


class Inliner:
    """The graph of a file as if it had no functions.

    Args:
        library: the graph and its functions.
        root: the function whose arguments are inputs; the graph itself if None.
        fed: outputs of nodes, and arguments, that are inputs of the network, with the inputs' own
            names, or variables; others may be added before they are met.
        path: for errors.
    """

    def __init__(
        self,
        library: Library,
        path: Path,
        fed: dict[Place, Place] | None = None,
        root: Body | None = None,
    ) -> None:
        self.library, self.path = library, path
        self.fed = {} if fed is None else fed  # an empty one may be filled later
        self.scopes = [Scope(MAIN, root or library.main)]
        self._calls: dict[tuple[int, str], Scope] = {}
        self._ends: dict[Place, Place] = {}
        self._steps = 0
        self._predicates: dict[Place, int | None] = {}
        self._open_predicates = 0
        self._dead: dict[tuple[int, str], bool] = {}

    def node(self, place: Place) -> Node | None:
        """The node that computes it; None for variables, inputs and arguments."""
        return self.scopes[place.scope].body.nodes.get(place.node) if place.scope >= 0 else None

    def place(self, scope: int, name: str) -> Place:
        """What an input's name stands for."""
        body = self.scopes[scope].body
        node, index = self.library.source(body, name)
        if node not in body.nodes and node not in body.arguments:
            raise self._nothing(body, node)
        return Place(scope, node, index)

    def _nothing(self, body: Body, node: str) -> CheckpointError:
        inside = f"function {body.name[:200]!r}" if body.name else "the graph"
        return CheckpointError(self.path, inside, f"there is no node {node[:200]!r}")

    def resolve(self, place: Place) -> Place:
        """Where the value of a tensor is computed, or enters."""
        chain: dict[Place, None] = {}
        while (end := self._ends.get(place)) is None:
            if place in chain:
                raise self.circle(place.node)
            chain[place] = None
            self.spend()
            following = self._following(place)
            if following is None:
                end = place
                break
            place = following
        self._ends.update(dict.fromkeys(chain, end))
        return end

    def inputs(self, place: Place) -> list[Place]:
        """Of the node that computes a resolved place."""
        node = self.node(place)
        if node is None:
            return []
        names = [self.place(place.scope, name) for name in node.inputs]
        if node.op in ("Merge", "RefMerge"):  # what goes round in a loop
            names = [
                one for one in names if self._op(one) not in ("NextIteration", "RefNextIteration")
            ]
        return [self.resolve(one) for one in names]

    def spend(self, amount: int = 1) -> None:
        """Keeps count, so that no file takes forever."""
        self._steps += amount
        if self._steps > MOST_STEPS:
            raise CheckpointError(
                self.path, "", f"the graph takes more than {MOST_STEPS} steps to write out"
            )

    def circle(self, name: str) -> CheckpointError:
        """The error for a node that needs its own result."""
        return CheckpointError(
            self.path, name[:200], "the graph runs in a circle through this node"
        )

    def _op(self, place: Place) -> str:
        node = self.node(place)
        return node.op if node else ""

    # ---- one step ----------------------------------------------------------------------------

    def _following(self, place: Place) -> Place | None:
        """What has the same value; None for a place that computes it."""
        if place in self.fed:
            return self.fed[place]
        node = self.node(place)
        if node is None:
            return self._argument(place)
        if node.op in HANDLES:
            return Place(VARIABLES, self._variable(place, node))
        if node.op in CALLS or node.op in self.library:
            function = node.op if node.op in self.library else node.attribute("f")
            return self._result(place, self.call(place.scope, node, function, node.inputs))
        if node.op in BRANCHES:
            return self._branch(place, node)
        if node.op == "IdentityN":
            return self._input(place, node, place.output)
        if node.op in ("Switch", "RefSwitch"):
            return self._switched(place, node)
        if node.op in ("Merge", "RefMerge"):
            return self._merged(place, node)
        if node.op in HAND_ON_HANDLES and self._passes_handle(node):
            return self._input(place, node, 0)
        return None

    def _passes_handle(self, node: Node) -> bool:
        return node.op == "ReadVariableOp" or node.attribute("T") == "resource"

    def _input(self, place: Place, node: Node, number: int) -> Place:
        if number >= len(node.inputs):
            reason = f"{node.op} with {len(node.inputs)} inputs, which has no number {number}"
            raise CheckpointError(self.path, node.name[:200], reason)
        return self.place(place.scope, node.inputs[number])

    def _variable(self, place: Place, node: Node) -> str:
        """Its name: that of the node in the graph; functions share handles by name."""
        shared = node.attribute("shared_name")
        is_shared = place.scope != MAIN and isinstance(shared, str) and shared
        return str(shared) if is_shared else node.name

    def _argument(self, place: Place) -> Place | None:
        if place.scope < 0:
            return None
        scope = self.scopes[place.scope]
        if scope.parent is None:
            return None
        number = scope.body.arguments.get(place.node)
        if number is None:
            raise self._nothing(scope.body, place.node)
        if number >= len(scope.arguments):
            reason = f"called with {len(scope.arguments)} arguments, has more"
            raise CheckpointError(self.path, f"function {scope.body.name[:200]!r}", reason)
        return scope.arguments[number]

    # ---- calls -------------------------------------------------------------------------------

    def call(self, scope: int, node: Node, function: Any, inputs: tuple[str, ...]) -> Scope:
        """The scope of a call, which is always the same for the same node."""
        key = scope, node.name
        if key not in self._calls:
            self.spend(len(inputs))
            arguments = tuple(self.place(scope, name) for name in inputs)
            self._calls[key] = self._new_scope(scope, node, function, arguments)
        return self._calls[key]

    def _new_scope(
        self, parent: int, node: Node, function: Any, arguments: tuple[Place, ...]
    ) -> Scope:
        if not isinstance(function, str):
            raise CheckpointError(self.path, node.name[:200], f"{node.op} of no function")
        around = [scope.body.name for scope in self.scopes[parent].path()]
        if function in around:
            raise CheckpointError(self.path, function[:200], "a function that calls itself")
        if len(around) > DEEPEST_CALLS:
            reason = f"more than {DEEPEST_CALLS} functions within each other"
            raise CheckpointError(self.path, function[:200], reason)
        if len(self.scopes) >= MOST_SCOPES:
            reason = f"more than {MOST_SCOPES} calls of functions"
            raise CheckpointError(self.path, function[:200], reason)
        body = self.library.body(function)
        scope = Scope(len(self.scopes), body, node, self.scopes[parent], arguments)
        self.scopes.append(scope)
        return scope

    def _result(self, place: Place, scope: Scope) -> Place:
        ends = scope.body.ends
        if place.output >= len(ends):
            reason = f"function {scope.body.name[:200]!r} has no result {place.output}"
            raise CheckpointError(self.path, place.node[:200], reason)
        return self.place(scope.number, ends[place.output])

    def _branch(self, place: Place, node: Node) -> Place | None:
        """Into the branch that a constant takes."""
        if not node.inputs:
            raise CheckpointError(self.path, node.name[:200], f"{node.op} without inputs")
        chosen = self.predicate(self.place(place.scope, node.inputs[0]))
        if chosen is None:
            return None
        if node.op in ("Case", "StatelessCase"):
            branches = node.attribute("branches") or [None]
            function = branches[chosen if 0 <= chosen < len(branches) else -1]
        else:
            function = node.attribute("then_branch" if chosen else "else_branch")
        return self._result(place, self.call(place.scope, node, function, node.inputs[1:]))

    # ---- switches ----------------------------------------------------------------------------

    def predicate(self, place: Place) -> int | None:
        """The value of a constant flag or number; None if it is not constant."""
        if place in self._predicates or self._open_predicates >= DEEPEST_PREDICATES:
            return self._predicates.get(place)
        self._predicates[place] = None  # what depends on itself
        self._open_predicates += 1
        try:
            self._predicates[place] = self._evaluated(self.resolve(place))
        finally:
            self._open_predicates -= 1
        return self._predicates[place]

    def _evaluated(self, place: Place) -> int | None:
        node = self.node(place)
        if node is None:
            return None
        if node.op == "Const":
            return self._scalar(node)
        function = _LOGIC.get((node.op, len(node.inputs)))
        if function is None:
            return None
        values = [self.predicate(self.place(place.scope, name)) for name in node.inputs]
        return None if None in values else int(function(*values))

    def _scalar(self, node: Node) -> int | None:
        value = node.tensor("value")
        if value is None:
            return None
        info = constant_info(value, self.path, node.name)
        if info.elements != 1 or info.dtype not in ("bool", "int32", "int64"):
            return None
        return int(constant(value, self.path, node.name).item())

    def _switched(self, place: Place, node: Node) -> Place | None:
        """Through a switch whose predicate is constant."""
        chosen = self.predicate(self._input(place, node, 1))
        return self._input(place, node, 0) if chosen == place.output else None

    def _merged(self, place: Place, node: Node) -> Place | None:
        """To the only input of a merge that comes to life."""
        if place.output or len(node.inputs) < 2:
            return None
        alive = [name for name in node.inputs if not self._is_dead(place.scope, name)]
        return self.place(place.scope, alive[0]) if len(alive) == 1 else None

    def _is_dead(self, scope: int, name: str) -> bool:
        """Whether an input never comes, because a switch sends it the other way."""
        place = self.place(scope, name)
        self._find_dead(scope, place.node)
        return self._known_dead(scope, place)

    def _find_dead(self, scope: int, start: str) -> None:
        """Whether a node, and those before it, run: not if an input, or a node before, is dead."""
        stack, entered = [start], set()
        while stack:
            name = stack[-1]
            node = self.scopes[scope].body.nodes.get(name)
            if node is None or (scope, name) in self._dead:
                stack.pop()
            elif name in entered:
                self._dead[scope, name] = self._runs_never(scope, node)
                stack.pop()
            else:
                entered.add(name)
                stack.extend(one for one in self._before(scope, node) if one not in entered)

    def _before(self, scope: int, node: Node) -> Iterator[str]:
        """Nodes that it waits for."""
        for name in node.inputs:
            self.spend()
            yield self.place(scope, name).node
        for name in node.controls:
            self.spend()
            yield name

    def _runs_never(self, scope: int, node: Node) -> bool:
        """Once it is known of the nodes before it."""
        flags = [self._known_dead(scope, self.place(scope, name)) for name in node.inputs]
        if node.op in ("Merge", "RefMerge"):
            return bool(flags) and all(flags)
        return any(flags) or any(self._dead.get((scope, name), False) for name in node.controls)

    def _known_dead(self, scope: int, place: Place) -> bool:
        node = self.node(place)
        if node is None or place in self.fed:
            return False
        if node.op in ("Switch", "RefSwitch"):
            chosen = self.predicate(self._input(place, node, 1))
            if chosen is not None and chosen != place.output:
                return True
        return self._dead.get((scope, node.name), False)


_LOGIC: Mapping[tuple[str, int], Callable[..., Any]] = {
    ("Identity", 1): lambda value: value,
    ("PlaceholderWithDefault", 1): lambda value: value,
    ("StopGradient", 1): lambda value: value,
    ("LogicalNot", 1): lambda value: not value,
    ("LogicalAnd", 2): lambda one, other: one and other,
    ("LogicalOr", 2): lambda one, other: one or other,
}
"""Operations of flags that are computed here, with the number of their inputs."""
