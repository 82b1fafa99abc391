"""The variables of a graph: their values in a checkpoint, and whether they are trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from functools import cached_property

from tfcompat_dw.checkpoint.assemble import Stored
from tfcompat_dw.checkpoint.base import Checkpoint, CheckpointError
from tfcompat_dw.checkpoint.inline import Inliner
from tfcompat_dw.checkpoint.nodes import Library, Node
from tfcompat_dw.checkpoint.restore import Restored, fitting, restored_variables

MOVING = ("moving_mean", "moving_variance", "moving_var", "ExponentialMovingAverage")
"""Parts of the names of variables that no optimizer changes."""


class VariableValues:
    """Finds the values of the variables of a graph.

    Args:
        checkpoint: where they are; None if the file has none.
        library: the graph with the operation that restores them.
        restore: its name, or nothing.
        trained: names in the graph of trained variables, if the file lists them.
        names: variables' own names, by their names in the graph, as far as they differ.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        library: Library,
        restore: str = "",
        trained: Set[str] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.checkpoint, self.library, self.restore = checkpoint, library, restore
        self.trained, self.names = trained, names or {}
        self.path = library.path

    def stored(self, name: str) -> Stored:
        """The value of a variable.

        Raises:
            CheckpointError: it has none, or one of another type or shape.
        """
        node = self.library.main.nodes.get(name)
        own = self.names.get(name) or _shared_name(node) or name
        if self.checkpoint is None:
            reason = (
                "a variable, whose value is not in this file: freeze the graph, or open the "
                "model.ckpt.meta beside its checkpoint"
            )
            raise CheckpointError(self.path, name, reason)
        found = fitting(self.checkpoint, self._restored, lambda: self._keys, name, own)
        if found is None:
            raise CheckpointError(self.path, name, "the checkpoint has no value of this variable")
        self._check(self.checkpoint, name, node, found)
        return self._stored(self.checkpoint, found, name, own)

    @cached_property
    def _restored(self) -> dict[str, Restored]:
        if not self.restore:
            return {}
        return restored_variables(Inliner(self.library, self.path), self.restore)

    @cached_property
    def _keys(self) -> dict[str, str]:
        """Of the checkpoint, by the full names of variables that it has once."""
        names = {} if self.checkpoint is None else self.checkpoint.variable_names()
        counts = Counter(names.values())
        return {full: key for key, full in names.items() if counts[full] == 1}

    def _check(self, checkpoint: Checkpoint, name: str, node: Node | None, found: Restored) -> None:
        if node is None:
            return
        dtype, shape = node.attribute("dtype"), node.attribute("shape")
        stored = checkpoint.info(found.key).dtype, found.shape(checkpoint)
        if dtype not in (None, stored[0]) or not fits(shape, stored[1]):
            reason = (
                f"a variable of type {dtype} and shape {shape}, but its value, "
                f"{found.key[:200]!r}, is {stored[0]} of shape {stored[1]}"
            )
            raise CheckpointError(self.path, name, reason)

    def _stored(self, checkpoint: Checkpoint, found: Restored, name: str, own: str) -> Stored:
        is_trained = self._is_trained(checkpoint, found, name)
        return Stored(lambda: found.of(checkpoint), own, found.key, is_trained)

    def _is_trained(self, checkpoint: Checkpoint, found: Restored, name: str) -> bool:
        if self.trained is not None:
            return name in self.trained
        is_float = checkpoint.info(found.key).dtype.startswith(("float", "bfloat"))
        return is_float and not any(part in name for part in MOVING)


def _shared_name(node: Node | None) -> str:
    found = None if node is None else node.attribute("shared_name")
    return found if isinstance(found, str) else ""


def fits(told: object, shape: Iterable[int]) -> bool:
    """Whether a shape is what a variable says, which may leave sizes open."""
    if not isinstance(told, tuple):
        return True
    sizes = tuple(shape)
    return len(told) == len(sizes) and all(
        one in (None, size) for one, size in zip(told, sizes, strict=True)
    )
