"""Which tensor of a checkpoint each variable of a graph is, as the graph itself restores them.

The graph has an operation that does it (``SaverDef.restore_op_name``): ``RestoreV2`` reads tensors
by their names, ``AssignVariableOp`` or ``Assign`` puts each into a variable
(``tensorflow/python/training/saver.py``, ``tensorflow/python/checkpoint/functional_saver.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from tfcompat_dw.checkpoint.base import Checkpoint, CheckpointError
from tfcompat_dw.checkpoint.constants import constant_strings
from tfcompat_dw.checkpoint.inline import CALLS, VARIABLES, Inliner, Place
from tfcompat_dw.checkpoint.nodes import Node

ASSIGNS = ("Assign", "AssignVariableOp")
RESTORES = ("RestoreV2", "Restore", "RestoreSlice")
MOST_IDENTITIES = 100
LONGEST_SLICE = 4096
"""Characters: 64 dimensions have two numbers each."""


@dataclass(frozen=True)
class Restored:
    """A tensor of the checkpoint, or a slice of it."""

    key: str
    part: tuple[slice, ...] | None = None

    def of(self, checkpoint: Checkpoint) -> Tensor:
        """The values."""
        tensor = checkpoint[self.key]
        return tensor if self.part is None else tensor[self.part]

    def shape(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """Without reading the values."""
        shape = checkpoint.info(self.key).shape
        if self.part is None:
            return shape
        return tuple(len(range(n)[one]) for n, one in zip(shape, self.part, strict=True))


def restored_variables(inliner: Inliner, operation: str) -> dict[str, Restored]:
    """From variables' names in the graph to where their values are.

    Args:
        inliner: of the graph itself.
        operation: the name of the one that restores; nothing is found if there is none.
    """
    return dict(_Walk(inliner).variables(operation.partition(":")[0]))


class _Walk:
    def __init__(self, inliner: Inliner) -> None:
        self.inliner = inliner
        self._texts: dict[Node, list[str]] = {}

    def variables(self, start: str) -> Iterator[tuple[str, Restored]]:
        """Everything that runs before the operation, or within it."""
        queue = [(0, start)]
        seen = set(queue)
        for scope, name in queue:  # which grows meanwhile
            self.inliner.spend()
            node = self.inliner.scopes[scope].body.nodes.get(name)
            if node is None:
                continue
            if node.op in ASSIGNS:
                yield from self._assigned(scope, node)
                continue
            for key in self._next(scope, node):
                if key not in seen:
                    seen.add(key)
                    queue.append(key)

    def _next(self, scope: int, node: Node) -> Iterator[tuple[int, str]]:
        library = self.inliner.library
        if node.op in CALLS or node.op in library:
            function = node.op if node.op in library else node.attribute("f")
            called = self.inliner.call(scope, node, function, node.inputs)
            self.inliner.spend(len(called.body.nodes))
            for one in called.body.nodes.values():
                if one.op in ASSIGNS or one.op in CALLS:
                    yield called.number, one.name
        else:
            yield from ((scope, self.inliner.place(scope, name).node) for name in node.inputs)
            yield from ((scope, name) for name in node.controls)

    def _assigned(self, scope: int, node: Node) -> Iterator[tuple[str, Restored]]:
        if len(node.inputs) < 2:
            return
        variable, value = (
            self.inliner.resolve(self.inliner.place(scope, name)) for name in node.inputs[:2]
        )
        found = self._restored(value)
        if variable.scope == VARIABLES and found is not None:
            yield variable.node, found

    def _restored(self, value: Place) -> Restored | None:
        for _ in range(MOST_IDENTITIES):
            node = self.inliner.node(value)
            if node is None or node.op != "Identity" or not node.inputs:
                break
            value = self.inliner.resolve(self.inliner.place(value.scope, node.inputs[0]))
        if node is None or node.op not in RESTORES or len(node.inputs) < 2:
            return None
        names, parts = self._strings(value, 1), self._strings(value, 2)
        if value.output >= len(names):
            return None
        part = parts[value.output] if value.output < len(parts) else ""
        return Restored(names[value.output], self._slices(part, node.name) if part else None)

    def _strings(self, value: Place, number: int) -> list[str]:
        """A constant input of an operation that restores."""
        restoring = self.inliner.node(value)
        if restoring is None or number >= len(restoring.inputs):
            return []
        place = self.inliner.place(value.scope, restoring.inputs[number])
        node = self.inliner.node(self.inliner.resolve(place))
        if node is None or node.op != "Const":
            return []
        if node not in self._texts:
            tensor, path = node.tensor("value"), self.inliner.path
            is_text = tensor is not None and tensor.dtype == _STRING
            found = constant_strings(tensor, path, node.name) if is_text else []
            self._texts[node] = [one.decode(errors="replace") for one in found]
        return self._texts[node]

    def _slices(self, text: str, name: str) -> tuple[slice, ...]:
        """``7 3 0,3:-``: the whole shape, and for each dimension a start and a length, or all."""
        part = text[-LONGEST_SLICE:].split(" ")[-1].split(":")
        if not all(_EXTENT.fullmatch(one) for one in part):
            raise CheckpointError(self.inliner.path, name, f"no slice of a tensor: {text[:200]!r}")
        found = []
        for one in part:
            start, _, length = one.partition(",")
            found.append(slice(int(start), int(start) + int(length)) if length else slice(None))
        return tuple(found)


_STRING = 7
"""``DT_STRING``."""
_EXTENT = re.compile(r"-|\d{1,18},\d{1,18}", re.ASCII)


def fitting(
    checkpoint: Checkpoint,
    restored: Mapping[str, Restored],
    keys: Callable[[], Mapping[str, str]],
    name: str,
    own: str,
) -> Restored | None:
    """Where a variable's value is: as it is restored, else by its name.

    Args:
        checkpoint: what has it.
        restored: what the graph restores, by the variables' names in it.
        keys: gives keys of the checkpoint by the full names of variables that it has once.
        name: of the variable in the graph.
        own: the variable's own.
    """
    found = restored.get(name)
    if found is not None:
        info = checkpoint.info(found.key) if found.key in checkpoint else None
        if info is None or (found.part is not None and len(found.part) != len(info.shape)):
            return None
        return found
    for same in (own, name):
        if same in checkpoint:
            return Restored(same)
    key = keys().get(own)
    return None if key is None else Restored(key)
