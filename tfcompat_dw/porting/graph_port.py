"""From a graph of TensorFlow's operations to a :class:`PortedModel`.

In one pass over the graph everything that is computed from constants is computed; in a second one
nodes that make a layer together are found (:mod:`.nodes.patterns`); in a third one each layer and
each other node becomes a module, and arithmetic on sizes becomes formulas (:mod:`.sizes`).  Tensors
without memory run along (:mod:`.probe`), so that shapes are known and misfits are found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tfcompat_dw.checkpoint.graph import HAND_ON, Graph, GraphNode, Output
from tfcompat_dw.names import Names
from tfcompat_dw.porting.config import Constant, TensorRef, map_references, shown
from tfcompat_dw.porting.freed_batch import mixes_examples
from tfcompat_dw.porting.layer import (
    Builder,
    LayerSpec,
    PortError,
    UnsupportedLayerError,
    listed,
)
from tfcompat_dw.porting.layers import BUILDERS
from tfcompat_dw.porting.map_fn import MapFn
from tfcompat_dw.porting.model import (
    ModelInput,
    PortedModel,
    Slot,
    Step,
    attribute_names,
    with_spent,
)
from tfcompat_dw.porting.nodes import HANDLERS
from tfcompat_dw.porting.nodes.arguments import Taking
from tfcompat_dw.porting.nodes.call import Bound, NodeCall
from tfcompat_dw.porting.nodes.fused import MAP, unfused
from tfcompat_dw.porting.nodes.known import folded
from tfcompat_dw.porting.nodes.patterns import (
    Activation,
    Chain,
    Normalization,
    Pattern,
    Structure,
    patterns,
)
from tfcompat_dw.porting.nodes.size_types import tensor_of_sizes, type_of_sizes
from tfcompat_dw.porting.nodes.weights import (
    RECURRENT,
    NotALayerError,
    Weighted,
    fused_normalization,
    one_prelu,
    prelu,
    recurrent,
    shapes_of,
    small_list,
    stored,
    weighted_layer,
    written_out_normalization,
)
from tfcompat_dw.porting.operations import Operation
from tfcompat_dw.porting.options import Options
from tfcompat_dw.porting.probe import (
    BATCHES,
    IMAGE_SIZES,
    LENGTHS,
    Probe,
    Shape,
    ShapesUnknownError,
    probe_of,
    result,
    results,
)
from tfcompat_dw.porting.sizes import Size, SizeOf
from tfcompat_dw.porting.tflite import lowered

CONSTANTS = ("Const", "Variable")
RANDOM = ("RandomUniform", "RandomStandardNormal", "TruncatedNormal", "Multinomial")
OF_SHAPES = ("Shape", "Size", "Rank")
LAYERS_OF_NODES: dict[str, Callable[[GraphNode, Mapping[Output, Tensor]], Weighted]] = {
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"),
                    fused_normalization),
    "Prelu": one_prelu,
    RECURRENT: recurrent,
}  # fmt: skip
"""Nodes that are layers by themselves, as a rule: descriptions of these."""
_OWN = frozenset({*CONSTANTS, *HAND_ON, *OF_SHAPES, MAP, RECURRENT, "Placeholder"})
"""What is treated here."""
INLINE = 16
"""Numbers of a constant that stand among a function's arguments; larger ones are stored."""
MOST_FOLDED = 2**27
"""Numbers in what is computed from constants."""
MOST_MADE, MADE_OF_EACH = 2**30, 4
"""Bytes of all that is computed from constants, and those more for each byte that the file has."""
NO_MORE_THAN_GIVEN = ("Where",)
"""How much they make depends on values, but it is a small multiple of what they take."""
FILTERS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul",
           "BatchMatMulV2", "BatchMatMulV3", "Einsum")  # fmt: skip
"""Their constants are weights, which are trained."""
TABLES = ("GatherV2", "Gather")
"""So is what these take rows of."""
PER_CHANNEL = ("Mul", "Add", "AddV2", "BiasAdd")
"""So is one number for each channel here: scales and biases."""
PICTURE_CHANNELS = 4
"""But not for those of a picture, whose preprocessing it is."""


@dataclass(frozen=True)
class Live:
    """A tensor that is computed when the network runs."""

    ref: TensorRef
    probe: Probe | None = None

    @property
    def shape(self) -> Shape | None:
        """As far as it is known."""
        return None if self.probe is None else self.probe.shape


Value = Live | Tensor | np.ndarray[Any, Any]


def port_graph(graph: Graph, options: Options) -> PortedModel:
    """The graph as modules.

    A batch that the file fixes to 1 is freed where the network allows it.

    Raises:
        PortError: operations that cannot be carried over, all of them in one message.
    """
    try:
        if graph.is_tflite:
            graph = lowered(graph, options.simulate_quantization, options.layers)
        graph = unfused(graph, options.layers)
    except UnsupportedLayerError as error:
        raise PortError(str(error)) from error
    _check_operations(graph, options.layers)
    _check_counts(graph)
    room = _Room()
    known, problems = _known(graph, options.layers, room)
    attempts: list[tuple[_GraphPort, PortError]] = []
    for frees_batch, sizes in _attempts(graph, options):
        port = _GraphPort(graph, options, known, sizes, frees_batch, list(problems), room)
        try:
            return port.model()
        except PortError as error:
            attempts.append((port, error))
    raise max(attempts, key=_how_far)[1]


def _how_far(attempt: tuple[_GraphPort, PortError]) -> tuple[int, int]:
    """One that came further than another comes after it."""
    port, error = attempt
    return port.whole_outputs, -str(error).count("\n")


def _attempts(graph: Graph, options: Options) -> Iterator[tuple[bool, tuple[int, int]]]:
    """Whether a batch of one is freed, and what open sizes are filled with."""
    shapes = [options.input_shapes.get(one.name, one.shape) for one in graph.inputs]
    is_open = any(size is None for shape in shapes for size in (shape or ())[1:])
    is_open |= any(shape is not None and len(shape) == 1 and None in shape for shape in shapes)
    is_image = any(shape is not None and len(shape) > 2 for shape in shapes)
    batches = {shape[0] if shape is not None and len(shape) > 1 else 0 for shape in shapes}
    choices = IMAGE_SIZES if is_image else LENGTHS
    for sizes in choices if is_open else choices[:1]:
        if batches == {1}:
            yield True, sizes
        yield False, sizes
        if batches in ({None}, {1, None}):  # open, but constants in the graph say that it is one
            yield True, sizes


def _check_operations(graph: Graph, layers: Mapping[str, Builder]) -> None:
    """Lists every kind of node that is not there, before anything is built."""
    missing: dict[str, list[str]] = defaultdict(list)
    for node in _all_nodes(graph):
        if not _is_supported(node.op, layers):
            reason = graph.refused.get(node.name)
            missing[node.op].append(shown(node.name) + (f" ({reason})" if reason else ""))
    if missing:
        raise PortError(_unsupported(missing))


def _all_nodes(graph: Graph) -> Iterator[GraphNode]:
    """Those that are run for each element of a map, too."""
    graphs = [graph]
    for one in graphs:  # which grows meanwhile
        yield from one.nodes.values()
        graphs += [node.attributes["body"] for node in one.nodes.values() if node.op == MAP]


def _is_supported(op: str, layers: Mapping[str, Builder]) -> bool:
    return op in HANDLERS or op in layers or op in _OWN


def _check_counts(graph: Graph) -> None:
    """Every node takes as many inputs as its operation does: what looks at several relies on it."""
    problems = []
    for node in _all_nodes(graph):
        handler = HANDLERS.get(node.op)
        try:
            if isinstance(handler, Taking):
                handler.check_count(len(node.inputs))
        except UnsupportedLayerError as error:
            problems.append(f"{_place(node)}: {error}")
    if problems:
        raise PortError(listed(problems))


def _unsupported(missing: Mapping[str, Sequence[str]]) -> str:
    lines = ["the graph has operations that cannot be carried over:"]
    for op, names in missing.items():
        places = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        lines.append(f"  - {shown(op)[1:-1]}, {len(names)} times: {places}")
    lines.append(
        "give a module for each (layers={'" + next(iter(missing)) + "': lambda spec: MyModule()}), "
        "or take the part of the network before them: outputs=['name of a node', ...]"
    )
    return "\n".join(lines)


# ---- what is known before the network runs ----------------------------------------------------


class _Room:
    """How much may be made of constants, in all: a few nodes can repeat one number without end."""

    def __init__(self) -> None:
        self._left = MOST_MADE

    def add(self, constant: Tensor) -> None:
        """What a file has may be made into other types and orders."""
        self._left += MADE_OF_EACH * constant.nbytes

    def take(self, made: Sequence[Tensor], given: Sequence[Tensor]) -> None:
        """Room for what is made; other views of what is given take none.

        Raises:
            UnsupportedLayerError: there is not enough.
        """
        there = {one.untyped_storage()._cdata for one in given}
        size = sum(one.nbytes for one in made if one.untyped_storage()._cdata not in there)
        if size > self._left:
            raise UnsupportedLayerError("what the graph makes of constants alone is too large")
        self._left -= size


def _known(
    graph: Graph, kept: Collection[str], room: _Room
) -> tuple[dict[Output, Tensor], list[str]]:
    """Results of nodes that take nothing but constants, and what is wrong with some.

    Nodes of the kinds ``kept`` are left to the caller's modules.
    """
    known: dict[Output, Tensor] = {}
    problems: list[str] = []
    for node in graph.nodes.values():
        if node.op in CONSTANTS:
            known[Output(node.name)] = graph.constants[node.name]
            room.add(known[Output(node.name)])
        elif node.op not in kept and _is_constant(node, known):
            try:
                found = _computed(node, [known[one] for one in node.inputs], room)
            except UnsupportedLayerError as error:
                problems.append(f"{_place(node)}: {error}")
                continue
            known.update((Output(node.name, i), value) for i, value in enumerate(found))
    return known, problems


def _is_constant(node: GraphNode, known: Mapping[Output, Tensor]) -> bool:
    """Whether a node takes nothing but constants, and is computed like others of such."""
    if not node.inputs or node.op in RANDOM or node.op == RECURRENT:
        return False
    return all(one in known for one in node.inputs)


def _computed(node: GraphNode, inputs: Sequence[Tensor], room: _Room) -> list[Tensor]:
    """A node of constants."""
    if node.op in HAND_ON:
        return [inputs[0]]
    if node.op == "Shape":
        return [torch.tensor(inputs[0].shape, dtype=_integer(node))]
    shapes = tuple(tuple(one.shape) for one in inputs)
    refs = [TensorRef(str(number)) for number in range(len(inputs))]
    module, order = _foldable(node, inputs, refs, shapes)
    tensors = [inputs[int(ref.layer)] for ref in order]
    is_checked = node.op not in NO_MORE_THAN_GIVEN
    if is_checked:
        _check_folded(module, tensors, room)
    found = result(module, tensors)
    several = list(found) if isinstance(found, (list, tuple)) else [found]
    if not is_checked:
        room.take(several, tensors)
    return several


def _check_folded(module: Operation, tensors: Sequence[Tensor], room: _Room) -> None:
    """Whether what is computed of constants is small enough."""
    given = [one.to("meta") for one in tensors]
    try:
        probed = results(module, [Probe((one, one)) for one in given], {})[0]
    except ShapesUnknownError as error:
        raise UnsupportedLayerError("of constants alone, how much it makes is unknown") from error
    made = list(probed) if isinstance(probed, (list, tuple)) else [probed]
    for one in made:
        if one.numel() > MOST_FOLDED:
            raise UnsupportedLayerError(f"it makes a constant of shape {tuple(one.shape)}")
    room.take(made, given)


def _foldable(
    node: GraphNode,
    inputs: Sequence[Tensor],
    refs: Sequence[TensorRef],
    shapes: tuple[tuple[int, ...], ...],
) -> tuple[Operation, list[TensorRef]]:
    """Large tensors are given to the operation, small ones may be its arguments."""
    values = tuple(
        ref if tensor.numel() > INLINE or tensor.is_floating_point() else tensor
        for ref, tensor in zip(refs, inputs, strict=True)
    )
    try:
        module = _operation(NodeCall(node.name, node.op, values, node.attributes, shapes))
    except UnsupportedLayerError:  # sizes or axes of another type
        module = _operation(NodeCall(node.name, node.op, tuple(inputs), node.attributes, shapes))
    return module, module.refs


def _operation(call: NodeCall) -> Operation:
    bound = HANDLERS[call.op](call)
    return Operation(bound.function, bound.args, bound.kwargs or {})


def _integer(node: GraphNode) -> torch.dtype:
    return torch.int64 if node.attributes.get("out_type") == "int64" else torch.int32


def _place(node: GraphNode) -> str:
    return f"{node.op} {shown(node.name)}"


# ---- the port -----------------------------------------------------------------------------------


class _GraphPort:
    """Builds the modules of one graph, for one choice of open sizes."""

    def __init__(
        self,
        graph: Graph,
        options: Options,
        known: Mapping[Output, Tensor],
        sizes: tuple[int, int],
        frees_batch: bool,
        problems: list[str],
        room: _Room,
    ) -> None:
        self.graph, self.options, self.known = graph, options, dict(known)
        self.sizes, self.frees_batch, self.problems = sizes, frees_batch, problems
        self.room = room
        self.values: dict[str, list[Value]] = {}
        self.made: dict[Output, TensorRef] = {}
        """Tensors of the running network that are made of constants, or of sizes."""
        self.node_names = Names(name for name in graph.nodes if Output(name) not in known)
        """For their steps: none that a node's own step has."""
        self.types: dict[str, str] = {}
        """TensorFlow's names, of nodes whose values are sizes."""
        self.lost: set[str] = set()
        """Nodes that have no value because of a problem before."""
        self.modules: dict[str, nn.Module] = {}
        self.names = Names()
        self.steps: list[tuple[str, str, list[Any]]] = []
        """Module, name of the node, and arguments with references in them."""
        self.shared: dict[Any, list[str]] = {}
        """Names of modules by what they are made of: weights that are shared stay so."""
        self.pinned: set[str] = set()
        """Names of normalizations whose statistics stay in training."""
        self.tells_training = any(node.op == "Variable" for node in graph.nodes.values())
        """Whether the file has variables, and so tells which of them are trained."""
        self.trained = set(graph.trainable)
        """Nodes with a trained variable before them."""
        for node in graph.nodes.values():
            if any(one.node in self.trained for one in node.inputs):
                self.trained.add(node.name)
        self.structure = Structure(graph, self.known)
        self.given: dict[str, Probe] = {}
        """Inputs of a graph within another, by their names."""
        self.whole_outputs = 0
        """How many outputs need nothing that cannot be carried over."""

    def model(self) -> PortedModel:
        """The whole network.

        Raises:
            PortError: all that stands in its way.
        """
        inputs = [self._input(number) for number in range(len(self.graph.inputs))]
        found, absorbed = patterns(self.structure, self.options.layers)
        for node in self.graph.nodes.values():
            if node.op in (*CONSTANTS, "Placeholder") or node.name in absorbed:
                continue
            if not self._is_known(node):
                self._visit(node, found.get(node.name))
        outputs = self._outputs()
        if self.problems:
            self.whole_outputs = len(outputs)
            raise PortError(f"{listed(self.problems)}\n{_remedy(self.graph, outputs)}")
        self._check_batch(outputs)
        model = self._finished(inputs, outputs)
        if self.frees_batch and mixes_examples(model, self._first_run()):
            raise PortError("its batch is one: it mixes examples, or is too large for a trial")
        return model

    # -- ends

    def _input(self, number: int) -> ModelInput:
        given = self.graph.inputs[number]
        if given.name in self.given:
            probe = self.given[given.name]
            self.values[given.output.node] = [Live(TensorRef(given.output.node), probe)]
            return ModelInput(given.name, probe.shape, given.dtype)
        shape = self.options.input_shapes.get(given.name, given.shape)
        if shape is None:
            raise PortError(
                f"the file has no shape for the input {shown(given.name)}; say what it is, with "
                f"None for sizes that may vary: input_shapes={{{shown(given.name)}: (None, 224, "
                f"224, 3)}}"
            )
        dtype, live = getattr(torch, given.dtype, None), Live(TensorRef(given.output.node))
        if isinstance(dtype, torch.dtype):  # text may be there, as long as nothing takes it
            live = replace(live, probe=probe_of(dtype, shape, self.sizes, self.frees_batch))
        self.values[given.output.node] = [live]
        kept = (None, *shape[1:]) if self.frees_batch else tuple(shape)
        return ModelInput(given.name, kept, given.dtype)

    def _outputs(self) -> dict[str, Live]:
        found: dict[str, Live] = {}
        for name, output in self.graph.outputs.items():
            if output.node in self.lost:
                continue
            try:
                value = self._value(output)
            except UnsupportedLayerError as error:
                self.problems.append(f"output {shown(name)}: {error}")
                continue
            found[name] = value if isinstance(value, Live) else self._as_live(output, value)
        return found

    def _check_batch(self, outputs: Mapping[str, Live]) -> None:
        """A freed batch has to come out again."""
        for name, value in outputs.items() if self.frees_batch else ():
            shapes = [] if value.probe is None else [run.shape for run in value.probe.runs]
            if [tuple(shape[:1]) for shape in shapes] != [(BATCHES[0],), (BATCHES[1],)]:
                raise PortError(f"output {shown(name)} has no batch of its own")

    def _first_run(self) -> list[Tensor]:
        """The inputs, two examples in each."""
        probes = [self.values[one.output.node][0] for one in self.graph.inputs]
        return [one.probe.runs[0] for one in probes if isinstance(one, Live) and one.probe]

    def _finished(self, inputs: Sequence[ModelInput], outputs: Mapping[str, Live]) -> PortedModel:
        attributes = attribute_names_in_scope(self.modules)
        slots = {one.output.node: number for number, one in enumerate(self.graph.inputs)}
        steps = []
        for name, node, args in self.steps:
            filled = map_references(args, lambda ref: Slot(slots[ref.layer], ref.index))
            slots[node] = len(slots)
            steps.append(Step(attributes[name], node, tuple(filled), {}, slots[node]))
        refs = {name: value.ref for name, value in outputs.items()}
        ends = {name: Slot(slots[ref.layer], ref.index) for name, ref in refs.items()}
        structure = next(iter(ends.values())) if len(ends) == 1 else ends
        model = PortedModel(
            self.graph.name,
            inputs,
            {attributes[name]: module for name, module in self.modules.items()},
            {attribute: name for name, attribute in attributes.items()},
            with_spent(steps, structure, len(inputs)),
            structure,
            pinned={attributes[name]: False for name in self.pinned},
            data_format=self.options.data_format,
        )
        model.source = "graph"
        return model.eval()

    # -- values

    def _value(self, output: Output) -> Value:
        if output in self.known:
            return self.known[output]
        values = self.values.get(output.node, [])
        if output.index < len(values):
            return values[output.index]
        first = values[0] if values else None
        if isinstance(first, Live) and first.probe is None and first.ref.layer == output.node:
            return Live(replace(first.ref, index=output.index))  # how many there are is not known
        raise UnsupportedLayerError(f"{shown(str(output))} is a result that is not there")

    def _is_known(self, node: GraphNode) -> bool:
        return Output(node.name) in self.known

    # -- one node

    def _visit(self, node: GraphNode, pattern: Pattern | None) -> None:
        if pattern is None:
            self._visit_alone(node)
            return
        try:
            self._visit_pattern(pattern)
        except NotALayerError:
            for member in pattern.members:
                self._visit_alone(member)
        except UnsupportedLayerError as error:
            self._lose(node, error)

    def _visit_alone(self, node: GraphNode) -> None:
        if any(one.node in self.lost for one in node.inputs):
            self.lost.add(node.name)
            return
        try:
            self._place_node(node)
        except UnsupportedLayerError as error:
            self._lose(node, error)

    def _lose(self, node: GraphNode, error: UnsupportedLayerError) -> None:
        self.problems.append(f"{_place(node)}: {error}")
        self.lost.add(node.name)

    def _place_node(self, node: GraphNode) -> None:
        if node.op in self.options.layers:
            self._hook(node)
        elif _is_constant(node, self.known):  # since sizes that it takes are
            found = _computed(node, [self.known[one] for one in node.inputs], self.room)
            self.known.update((Output(node.name, i), value) for i, value in enumerate(found))
        elif node.op == MAP:
            self._map(node)
        elif node.op in HAND_ON:
            self.values[node.name] = [self._value(node.inputs[0])]
        elif node.op in OF_SHAPES:
            sizes = self._sizes_of(node)
            self._keep(node, [sizes if node.op == "Shape" else _number(node, sizes)])
        elif not self._fold(node):
            self._layer_or_operation(node)

    def _map(self, node: GraphNode) -> None:
        """A network for each element of a batch."""
        body = node.attributes["body"]
        mapped = node.attributes["mapped"]
        known, problems = _known(body, self.options.layers, self.room)
        options = replace(self.options, data_format="channels_last")
        port = _GraphPort(body, options, known, self.sizes, False, problems, self.room)
        inputs = [self._as_live(one, self._value(one)) for one in node.inputs]
        for place, (given, value) in enumerate(zip(body.inputs, inputs, strict=True)):
            if value.probe is None:
                raise UnsupportedLayerError("it maps over what has no shape before it runs")
            runs = value.probe.runs
            if place < mapped and min(run.dim() for run in runs) < 1:
                raise UnsupportedLayerError("it maps over a single number")
            port.given[given.name] = (
                Probe((runs[0][0], runs[1][0])) if place < mapped else value.probe
            )
        try:
            element = port.model()
        except PortError as error:
            raise UnsupportedLayerError("; ".join(port.problems) or str(error)) from error
        self._add(node.name, node, MapFn(element, mapped), inputs)

    def _sizes_of(self, node: GraphNode) -> np.ndarray[Any, Any]:
        value = self._value(node.inputs[0])
        if not isinstance(value, Live):
            return np.array(value.shape, dtype=object)
        if value.shape is None:
            raise UnsupportedLayerError("it takes the shape of what has none before it runs")
        sizes = [SizeOf(value.ref, a) if n is None else n for a, n in enumerate(value.shape)]
        found = np.empty(len(sizes), dtype=object)
        found[:] = sizes
        return found

    def _fold(self, node: GraphNode) -> bool:
        """Arithmetic on sizes."""
        inputs = [self._value(one) for one in node.inputs]
        if not any(isinstance(one, np.ndarray) for one in inputs):
            return False
        if any(isinstance(one, Live) for one in inputs):
            return False
        found = folded(self._call(node, inputs))
        if found is None:
            return False
        self._keep(node, list(found) if isinstance(found, tuple) else [found])
        return True

    def _keep(self, node: GraphNode, found: Sequence[np.ndarray[Any, Any]]) -> None:
        """Sizes that are numbers already are constants."""
        self.values[node.name] = list(found)
        before = [self.types[one.node] for one in node.inputs if one.node in self.types]
        for index, sizes in enumerate(found):
            kind = type_of_sizes(node, sizes, next(iter(before), None))
            self.types[node.name] = kind
            if not any(isinstance(one, Size) for one in sizes.flat):
                self.known[Output(node.name, index)] = tensor_of_sizes(sizes, kind)

    def _call(self, node: GraphNode, inputs: Sequence[Value]) -> NodeCall:
        shapes = tuple(one.shape if isinstance(one, Live) else tuple(one.shape) for one in inputs)
        values = tuple(one.ref if isinstance(one, Live) else one for one in inputs)
        return NodeCall(node.name, node.op, values, node.attributes, shapes)

    # -- layers

    def _layer_or_operation(self, node: GraphNode) -> None:
        describe = LAYERS_OF_NODES.get(node.op)
        if describe is not None:
            try:
                layer = describe(node, self.known)
            except NotALayerError:
                pass
            else:
                self._add_layer(node.name, node, layer, [self._value(node.inputs[0])])
                return
        self._operation(node)

    def _visit_pattern(self, pattern: Pattern) -> None:
        inputs = [one for node in pattern.members for one in node.inputs]
        if any(one.node in self.lost for one in inputs):
            self.lost.add(pattern.last.name)
            return
        if isinstance(pattern, Normalization):
            value = self._value(pattern.input)
            layer = written_out_normalization(pattern, self.known, _rank(value))
            self._add_layer(pattern.last.name, pattern.last, layer, [value])
        elif isinstance(pattern, Activation):
            self._activation(pattern)
        else:
            self._chain(pattern)

    def _chain(self, chain: Chain) -> None:
        is_transposed = chain.weighted.op == "Conv2DBackpropInput"
        source = chain.before.inputs[0] if chain.before else None
        source = source or chain.weighted.inputs[2 if is_transposed else 0]
        value = self._value(source)
        if not isinstance(value, Live):
            raise NotALayerError
        sizes = {name: found[0] for name, found in self.values.items() if len(found) == 1}
        layer = weighted_layer(chain, self.known, sizes, value.shape)
        if is_transposed:
            self._check_transposed(chain.weighted, layer, value)
        self._add_layer(chain.weighted.name, chain.last, layer, [value])

    def _check_transposed(self, node: GraphNode, layer: Weighted, value: Live) -> None:
        """Rows and columns that the node asks for have to be those that the layer gives."""
        asked = self._value(node.inputs[0])
        if isinstance(asked, Live) or value.shape is None:
            raise NotALayerError
        config, sizes = layer.config, asked.tolist()
        first = 1 if config["data_format"] == "channels_last" else 2
        rows = sizes[first : first + 2] if len(sizes) == 4 else sizes
        kernel = layer.values["kernel"].shape
        for place, (wanted, stride) in enumerate(zip(rows, config["strides"], strict=True)):
            known = value.shape[first + place]
            size: Any = SizeOf(value.ref, first + place) if known is None else known
            more = max(kernel[place] - stride, 0) if config["padding"] == "valid" else 0
            if wanted not in (size * stride + more, stride * size + more):
                raise NotALayerError

    def _activation(self, found: Activation) -> None:
        value = self._value(found.input)
        if not isinstance(value, Live):
            raise NotALayerError
        if found.alpha is None:
            module = Operation(found.function, [value.ref], {})
            self._add(found.last.name, found.last, module, [value])
        else:
            layer = prelu(self.known[found.alpha], found.alpha, found.negated)
            self._add_layer(found.last.name, found.last, layer, [value])

    def _add_layer(
        self, name: str, last: GraphNode, layer: Weighted, inputs: Sequence[Value]
    ) -> None:
        """A layer with weights; one that is used again is one module."""
        key = (layer.class_name, repr(sorted(layer.config.items())), *layer.sources.items())
        names = self.shared.setdefault(key, [])
        again = next((one for one in names if _holds(self.modules[one], layer)), None)
        if again is not None:
            self._record(again, last, self.modules[again], inputs)
            return
        module = _built(layer)
        for weight in module.tf_weights():  # type: ignore[operator]
            weight.assign(layer.values[weight.name])
            if isinstance(weight.tensor, nn.Parameter):
                told = self._told(layer.sources[weight.name])
                weight.tensor.requires_grad_(told is not False)
        names.append(self._add(_layer_name(name), last, module, inputs))
        parameters = list(module.parameters())
        is_fixed = parameters and not any(one.requires_grad for one in parameters)
        if layer.class_name == "BatchNormalization" and is_fixed:
            self.pinned.add(names[-1])

    def _told(self, source: Output) -> bool | None:
        """Whether the file says that a value is trained; None where it tells of none."""
        if not self.tells_training:
            return None
        return source.node in self.trained

    # -- operations

    def _operation(self, node: GraphNode) -> None:
        inputs = [self._value(one) for one in node.inputs]
        bound = self._bound(node, inputs)
        args = self._with_stored(node, list(bound.args))
        kwargs = self._with_stored(node, dict(bound.kwargs or {}))
        module = Operation(bound.function, args, kwargs)
        self._add(node.name, node, module, [self._live(ref) for ref in module.refs])

    def _bound(self, node: GraphNode, inputs: Sequence[Value]) -> Bound:
        if self.frees_batch and (bound := self._with_freed_batch(node, inputs)) is not None:
            return bound
        return HANDLERS[node.op](self._call(node, inputs))

    def _live(self, ref: TensorRef) -> Value:
        """A stored constant, too, has a name in ``values``."""
        values = self.values.get(ref.layer, [])
        if ref.index < len(values):
            return values[ref.index]
        return self._value(Output(ref.layer, ref.index))

    def _with_stored(self, node: GraphNode, structure: Any) -> Any:
        """Large constants become tensors of their own, small ones lists of numbers."""
        if isinstance(structure, Tensor):
            source = next((one for one in node.inputs if self.known.get(one) is structure), None)
            return self._constant(node, structure, source)
        if isinstance(structure, np.ndarray):
            return structure.tolist()
        if isinstance(structure, (list, tuple)):
            return type(structure)(self._with_stored(node, one) for one in structure)
        if isinstance(structure, dict):
            return {key: self._with_stored(node, value) for key, value in structure.items()}
        return structure

    def _constant(self, node: GraphNode, value: Tensor, source: Output | None) -> Any:
        told = self._told(source or Output(""))
        is_trained = _is_weight(node, value, source) if told is None else told
        is_trained &= value.is_floating_point()
        if value.numel() <= INLINE and not is_trained:
            return Constant(small_list(value), str(value.dtype).removeprefix("torch."))
        name = f"{node.name}/constant" if source is None else str(source)
        return self._stored(source, name, value, is_trained)

    def _stored(
        self, source: Output | None, name: str, value: Tensor, is_trained: bool
    ) -> TensorRef:
        """A module that has a constant, once for each result of a node."""
        if source is None or source not in self.made:
            own = self.node_names.new(name)
            layer = stored(value, source or Output(own), is_trained)
            self._add_layer(name, GraphNode(own, "StoredTensor"), layer, [])
            source = source or Output(own)
            self.made[source] = TensorRef(own)
        return self.made[source]

    def _as_live(self, output: Output, value: Value) -> Live:
        """A constant, or sizes, where a tensor is wanted."""
        if isinstance(value, Live):
            return value
        if isinstance(value, Tensor):
            ref = self._stored(output, str(output), value, self._told(output) is True)
        else:
            ref = self._made_of_sizes(output, value)
        found = self._live(ref)
        assert isinstance(found, Live)
        return found

    def _made_of_sizes(self, output: Output, sizes: np.ndarray[Any, Any]) -> TensorRef:
        if output not in self.made:
            kind = self.types.get(output.node)
            module = Operation("tensor_of", [sizes.tolist()], {"dtype": kind} if kind else {})
            given = [self._live(ref) for ref in module.refs]
            own = self.node_names.new(f"{output}/tensor")
            self._add(own, GraphNode(own, "tensor_of"), module, given)
            self.made[output] = TensorRef(own)
        return self.made[output]

    def _hook(self, node: GraphNode) -> None:
        """A module of the caller's, which gets every input as a tensor, None where none is."""
        inputs = [self._as_live(one, self._value(one)) if one.node else None for one in node.inputs]
        shapes = {f"input_{i}": one.shape or () for i, one in enumerate(inputs) if one is not None}
        spec = LayerSpec(node.op, node.name, node.attributes, shapes)  # type: ignore[arg-type]
        self._add(node.name, node, self.options.layers[node.op](spec), inputs)

    # -- a batch that the file fixes to 1

    def _with_freed_batch(self, node: GraphNode, inputs: Sequence[Value]) -> Bound | None:
        """``Reshape`` to ``[1, ...]`` means the whole batch; a batch of 1 may be squeezed, too."""
        if not inputs or not isinstance(inputs[0], Live) or inputs[0].probe is None:
            return None
        runs = inputs[0].probe.runs
        has_batch = [tuple(run.shape[:1]) for run in runs] == [(count,) for count in BATCHES]
        axes = node.attributes.get("squeeze_dims") or node.attributes.get("axis")
        if node.op == "Squeeze" and not axes and has_batch:
            raise UnsupportedLayerError("it squeezes all axes of size 1, the batch, too")
        if node.op != "Reshape" or not isinstance(inputs[1], Tensor) or inputs[1].dim() != 1:
            return None
        first, *rest = inputs[1].tolist() or [0]
        asked = int(np.prod([size for size in rest if size > 0]))
        examples = [divmod(run.numel(), count) for run, count in zip(runs, BATCHES, strict=True)]
        if first != 1 or 0 in rest:
            return None
        if -1 not in rest and examples == [(asked, 0)] * 2:
            return HANDLERS[node.op](self._call(node, [inputs[0], torch.tensor([-1, *rest])]))
        if -1 in rest and has_batch and examples[0][0] % asked == 0:
            freed = np.empty(len(rest) + 1, dtype=object)
            freed[:] = [SizeOf(inputs[0].ref, 0), *rest]
            return HANDLERS[node.op](self._call(node, [inputs[0], freed]))
        return None

    # -- steps

    def _add(
        self, name: str, node: GraphNode, module: nn.Module, inputs: Sequence[Value | None]
    ) -> str:
        """A new module and its first call; the name that it got."""
        unique = self.names.new(name)
        self.modules[unique] = module.eval()
        self._record(unique, node, module, inputs)
        return unique

    def _record(
        self, name: str, node: GraphNode, module: nn.Module, inputs: Sequence[Value | None]
    ) -> None:
        refs: list[TensorRef | None] = []
        probes: list[Probe | None] = []
        are_known = True
        for number, value in enumerate(inputs):
            if value is not None and not isinstance(value, Live):
                unnamed = Output(self.node_names.new(f"{node.name}/input_{number}"))
                value = self._as_live(unnamed, value)
            refs.append(None if value is None else value.ref)
            probes.append(None if value is None else value.probe)
            are_known &= value is None or value.probe is not None
        self.steps.append((name, node.name, refs))
        ref = TensorRef(node.name)
        self.values[node.name] = self._results(ref, module, probes) if are_known else [Live(ref)]

    def _results(
        self, ref: TensorRef, module: nn.Module, probes: Sequence[Probe | None]
    ) -> list[Value]:
        try:
            first, second = results(module, probes, {})
        except ShapesUnknownError:
            return [Live(ref)]
        if isinstance(first, Tensor):
            return [Live(ref, Probe((first, second)))]
        if len(first) != len(second):
            raise UnsupportedLayerError("how many results it has depends on the size of its input")
        pairs = zip(first, second, strict=True)
        return [Live(replace(ref, index=i), Probe(pair)) for i, pair in enumerate(pairs)]


def _remedy(graph: Graph, others: Collection[str]) -> str:
    """What can be done where a part of a graph cannot be carried over."""
    if others:
        names = [str(graph.outputs[name]) for name in others]
        return f"outputs that need none of these: outputs={shown(names)}"
    return "or take the part of the network before them: outputs=['name of a node', ...]"


def _number(node: GraphNode, sizes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``Size`` and ``Rank``, of a shape."""
    found = np.empty((), dtype=object)
    found[()] = len(sizes) if node.op == "Rank" else np.prod(sizes) if len(sizes) else 1
    return found


def _built(layer: Weighted) -> nn.Module:
    """A layer, untrained."""
    spec = LayerSpec(layer.class_name, "", layer.config, shapes_of(layer.values), layer.keras)
    module = BUILDERS[layer.class_name](spec)
    module.tf_spec = spec  # type: ignore[assignment]
    return module.eval()


def attribute_names_in_scope(names: Collection[str]) -> dict[str, str]:
    """Attributes for modules, without the scope that all of their names begin with."""
    scope = next(iter(names), "").partition("/")[0] + "/"
    if not all(name.startswith(scope) for name in names):
        return attribute_names(names)
    short = {name.removeprefix(scope): name for name in names}
    return {short[name]: attribute for name, attribute in attribute_names(short).items()}


def _holds(module: nn.Module, layer: Weighted) -> bool:
    """Whether a layer's weights are those of a module: the same sources may have been scaled."""
    weights = module.tf_weights()  # type: ignore[operator]
    return all(torch.equal(one.to_tf(), layer.values[one.name].to(one.tensor)) for one in weights)


def _is_weight(node: GraphNode, value: Tensor, source: Output | None) -> bool:
    """Whether a constant, of which no file tells it, is what a network learns."""
    if node.op in TABLES:
        return source == node.inputs[0]
    is_per_channel = bool(value.dim()) and value.shape[-1] == value.numel() > PICTURE_CHANNELS
    return node.op in FILTERS or (node.op in PER_CHANNEL and is_per_channel)


def _rank(value: Value) -> int:
    """How many axes; -1 where that is not known."""
    return -1 if value.shape is None else len(value.shape)


def _layer_name(name: str) -> str:
    """Of the layer that a node is in: ``conv1`` of ``conv1/Conv2D``."""
    scope, _, last = name.rpartition("/")
    while scope and last.rstrip("0123456789_").lower() in _LAST_PARTS:
        name, (scope, _, last) = scope, scope.rpartition("/")
    return name


_LAST_PARTS = frozenset(
    {"conv2d", "depthwise", "depthwiseconv2dnative", "matmul", "biasadd", "fusedbatchnormv", "add",
     "separable_conv2d", "conv2d_transpose", "batchnorm", "convolution"}
)  # fmt: skip
"""Of nodes' names, which say no more than what the layer is."""
