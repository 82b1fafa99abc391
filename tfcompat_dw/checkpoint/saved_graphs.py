"""The graphs of a SavedModel: one for each signature, or for each function of the saved object.

``tensorflow/core/protobuf/{meta_graph,saved_object_graph}.proto``.  A signature names tensors of
the graph; what TF 2 saved is a call of a function there, with the handles of variables as its last
arguments.  An object that was saved without signatures has its functions nevertheless, with the
numbers of the objects that these take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tfcompat_dw.checkpoint.assemble import (
    Assembly,
    Entry,
    Sources,
    Stored,
    stored_constant,
)
from tfcompat_dw.checkpoint.base import Checkpoint, CheckpointError
from tfcompat_dw.checkpoint.frames import library_of
from tfcompat_dw.checkpoint.graph import Graph
from tfcompat_dw.checkpoint.graph_def import trained_variables
from tfcompat_dw.checkpoint.inline import CALLS, FED, MAIN, VARIABLES, Inliner, Place
from tfcompat_dw.checkpoint.nodes import Body, open_shape
from tfcompat_dw.checkpoint.schemas import data_type, text
from tfcompat_dw.checkpoint.variable_values import VariableValues, fits
from tfcompat_dw.names import Names

DEFAULT = "serving_default"
OF_TENSORFLOW = ("__saved_model_init_op", "__saved_model_train_op")
"""Signatures that are no networks."""


@dataclass
class _Ends:
    """What a graph goes from and to."""

    inliner: Inliner
    entries: list[Entry] = field(default_factory=list)
    outputs: dict[str, Place] = field(default_factory=dict)


class SavedGraphs:
    """The graphs of a ``MetaGraphDef``.

    Args:
        checkpoint: the SavedModel, which has the variables' values.
        meta: the message.
        keys: gives the checkpoint's keys of saved objects by their numbers.
    """

    def __init__(
        self, checkpoint: Checkpoint, meta: Any, keys: Callable[[], dict[int, str]]
    ) -> None:
        self.checkpoint, self.meta, self.path = checkpoint, meta, checkpoint.path
        operations = meta.meta_info_def.stripped_op_list.op
        self._library = library_of(meta.graph_def, operations, self.path)
        self._objects = list(meta.object_graph_def.nodes)
        self._find_keys = keys
        self._captured: dict[str, int] = {}
        """Numbers of captured objects by the names that they have in the graph."""
        self._captured_names: dict[int, str] = {}
        """The other way round."""
        self._names = Names()

    def signatures(self) -> tuple[str, ...]:
        """Those for inference; the names of functions where there are none."""
        names = sorted(self._signatures, key=lambda name: (name != DEFAULT, name))
        return tuple(names or self._functions)

    def graph(self, signature: str | None, outputs: Sequence[str] | None) -> Graph | None:
        """See :meth:`Checkpoint.graph`; None if there is nothing to call."""
        names = self.signatures()
        if not names:
            return None
        if signature is None:
            signature = names[0]
        if signature not in names:
            raise ValueError(
                f"{self.path} has no signature {signature!r}; it has {', '.join(names)}"
            )
        if signature in self._signatures:
            ends = self._of_signature(signature)
        else:
            ends = self._of_function(self._functions[signature])
        return self._assembly(ends).graph(outputs)

    def _assembly(self, ends: _Ends) -> Assembly:
        sources = Sources(lambda node: stored_constant(node, self.path), self._stored)
        outputs = {name: ends.inliner.resolve(place) for name, place in ends.outputs.items()}
        return Assembly(ends.inliner, self.path.name, ends.entries, outputs, sources)

    # ---- signatures ----------------------------------------------------------------------------

    @cached_property
    def _signatures(self) -> dict[str, Any]:
        found = {
            text(entry.key, self.path, "signature_def"): entry.value
            for entry in self.meta.signature_def
        }
        return {
            name: one for name, one in found.items() if name not in OF_TENSORFLOW and one.outputs
        }

    def _of_signature(self, name: str) -> _Ends:
        signature = self._signatures[name]
        fed: dict[Place, Place] = {}
        entries: list[Entry] = []
        plain = Inliner(self._library, self.path)
        for key, tensor in self._tensors(signature.inputs, name):
            place = plain.place(MAIN, text(tensor.name, self.path, name))
            shape = open_shape(tensor.tensor_shape) if tensor.HasField("tensor_shape") else None
            fed[place] = Place(FED, str(len(entries)))
            entries.append(Entry(key, place.node, shape, data_type(tensor.dtype)))
        inliner = Inliner(self._library, self.path, fed)
        outputs = {
            key: inliner.place(MAIN, text(tensor.name, self.path, name))
            for key, tensor in self._tensors(signature.outputs, name)
        }
        return _Ends(inliner, entries, outputs)

    def _tensors(self, entries: Any, name: str) -> Iterator[tuple[str, Any]]:
        """Sorted by their names; each has to be one tensor."""
        found = {text(entry.key, self.path, name): entry.value for entry in entries}
        for key in sorted(found):
            if not found[key].name:
                reason = f"{key!r} is made of several tensors, such as a sparse one"
                raise CheckpointError(self.path, f"signature {name!r}", reason)
            yield key, found[key]

    # ---- functions of objects ------------------------------------------------------------------

    @cached_property
    def _functions(self) -> dict[str, str]:
        """The functions of the saved object by its attributes' names."""
        found: dict[str, str] = {}
        for child in self._objects[0].children if self._objects else ():
            if not 0 <= child.node_id < len(self._objects):
                continue
            attribute = text(child.local_name, self.path, "the saved object")
            for number, name in enumerate(_concrete(self._objects[child.node_id])):
                function = text(name, self.path, "the saved object")
                if function in self._library and name in self._bound:
                    found[f"{attribute}_{number}" if number else attribute] = function
        return found

    @cached_property
    def _bound(self) -> dict[bytes, Any]:
        """``SavedConcreteFunction`` messages by the functions' names."""
        return {one.key: one.value for one in self.meta.object_graph_def.concrete_functions}

    def _of_function(self, name: str) -> _Ends:
        body = self._library.body(name)
        bound = self._bound[name.encode()]
        arguments = list(body.arguments)
        captured = list(bound.bound_inputs)
        if len(captured) > len(arguments):
            raise CheckpointError(self.path, name[:200], "more objects than arguments")
        given = arguments[: len(arguments) - len(captured)]
        ends = _Ends(Inliner(self._library, self.path, root=body))
        fed: dict[Place, Place] = {}
        names = Names()
        for number, argument in enumerate(given):
            fed[Place(MAIN, argument)] = Place(FED, str(number))
            ends.entries.append(_entry(body, number, argument, names))
        for argument, number in zip(arguments[len(given) :], captured, strict=True):
            fed[Place(MAIN, argument)] = Place(VARIABLES, self._object_name(number))
        ends.inliner.fed = fed
        outputs = _output_names(bound.output_signature, list(body.results))
        ends.outputs = {
            one: ends.inliner.place(MAIN, end) for one, end in zip(outputs, body.ends, strict=True)
        }
        return ends

    # ---- variables -----------------------------------------------------------------------------

    def _object_name(self, number: int) -> str:
        """A name for a captured object, which says which it is."""
        if not 0 <= number < len(self._objects):
            raise CheckpointError(self.path, "bound_inputs", f"there is no object {number}")
        saved = self._objects[number]
        if saved.HasField("constant"):
            name = text(saved.constant.operation, self.path, "a constant")
        else:
            name = text(saved.variable.name, self.path, "a variable") or f"object_{number}"
        if number not in self._captured_names:
            name = self._names.new(name)
            self._captured_names[number], self._captured[name] = name, number
        return self._captured_names[number]

    def _stored(self, name: str) -> Stored:
        number = self._captured.get(name)
        if number is None:
            return self._values.stored(name)
        saved = self._objects[number]
        if saved.HasField("constant"):
            return self._saved_constant(saved.constant.operation)
        key = self._keys.get(number)
        if key is None:
            raise CheckpointError(self.path, name, "the checkpoint has no value of this variable")
        self._check(saved.variable, key, name)
        return Stored(
            lambda: self.checkpoint[key],
            text(saved.variable.name, self.path, "a variable") or name,
            key,
            saved.variable.trainable,
        )

    def _check(self, variable: Any, key: str, name: str) -> None:
        info = self.checkpoint.info(key)
        told = data_type(variable.dtype), open_shape(variable.shape)
        if told[0] != info.dtype or not fits(told[1], info.shape):
            reason = f"a variable of type {told[0]} and shape {told[1]}, but its value is {info}"
            raise CheckpointError(self.path, name, reason)

    def _saved_constant(self, operation: bytes) -> Stored:
        node = self._library.main.nodes.get(text(operation, self.path, "a constant"))
        if node is None or node.op != "Const":
            raise CheckpointError(self.path, "a constant", f"{operation[:200]!r} is no constant")
        return stored_constant(node, self.path)

    @cached_property
    def _keys(self) -> dict[int, str]:
        return self._find_keys()

    @cached_property
    def _values(self) -> VariableValues:
        """The variables that have handles in the graph."""
        restore = text(self.meta.saver_def.restore_op_name, self.path, "saver_def")
        return VariableValues(
            self.checkpoint, self._library, restore, self._trained, self._own_names
        )

    @cached_property
    def _trained(self) -> frozenset[str] | None:
        """Names in the graph of variables that the file says are trained."""
        if not self._objects:
            return trained_variables(self.meta, self.path)
        return frozenset(
            handle
            for handle, number in self._handles.items()
            if self._objects[number].variable.trainable
        )

    @cached_property
    def _own_names(self) -> dict[str, str]:
        """From handles in the graph to variables' own names."""
        return {
            handle: text(self._objects[number].variable.name, self.path, "a variable") or handle
            for handle, number in self._handles.items()
        }

    @cached_property
    def _handles(self) -> dict[str, int]:
        """Which saved variable each handle in the graph is.

        A function's last arguments are the objects that it is bound to, wherever it is called.
        """
        found: dict[str, int] = {}
        inliner = Inliner(self._library, self.path)
        for node in self._library.main.nodes.values():
            function = node.attribute("f") if node.op in CALLS else node.op
            bound = self._bound.get(str(function).encode(errors="replace"))
            if bound is None:
                continue
            names = node.inputs[max(0, len(node.inputs) - len(bound.bound_inputs)) :]
            for name, number in zip(names, bound.bound_inputs, strict=False):
                place = inliner.resolve(inliner.place(MAIN, name))
                if place.scope == VARIABLES and self._is_variable(number):
                    found.setdefault(place.node, number)
        return found

    def _is_variable(self, number: int) -> bool:
        return 0 <= number < len(self._objects) and self._objects[number].HasField("variable")


def _concrete(saved: Any) -> list[bytes]:
    """The functions that an object is."""
    if saved.HasField("bare_concrete_function"):
        return [saved.bare_concrete_function.concrete_function_name]
    return list(saved.function.concrete_functions)


def _entry(body: Body, number: int, argument: str, names: Names) -> Entry:
    """An argument of a function as an input; named as the caller of the function names it."""
    shapes = body.argument_attribute(number, "_output_shapes")
    shape = shapes[0] if isinstance(shapes, list) and shapes else None
    given = body.argument_attribute(number, "_user_specified_name")
    name = names.new(given if isinstance(given, str) and given else argument)
    dtype = data_type(body.signature.input_arg[number].type)
    return Entry(name, argument, shape if isinstance(shape, tuple) else None, dtype)


def _output_names(structure: Any, results: Sequence[str]) -> list[str]:
    """The keys of a dictionary of tensors, which TensorFlow sorts; else the results' names."""
    keys = sorted(entry.key.decode(errors="replace") for entry in structure.dict_value.fields)
    is_flat = len(keys) == len(results) == len(set(keys))
    return keys if is_flat and keys else list(results)
