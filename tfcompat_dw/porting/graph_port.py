"""From a graph of TensorFlow's operations to a :class:`PortedModel`.

In one pass over the graph everything that is computed from constants is computed; in a second one
nodes that make a layer together are found (:mod:`.nodes.patterns`); in a third one each layer and
each other node becomes a module, and arithmetic on sizes becomes formulas (:mod:`.sizes`).  Tensors
without memory run along (:mod:`.probe`), so that shapes are known and misfits are found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tfcompat_dw.checkpoint.graph import Graph, GraphNode, Output
from tfcompat_dw.porting.config import Constant, TensorRef, map_references, shown
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
from tfcompat_dw.porting.nodes.call import Bound, NodeCall
from tfcompat_dw.porting.nodes.fused import unfused
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
    NotALayerError,
    Weighted,
    fused_normalization,
    prelu,
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
from tfcompat_dw.porting.sizes import Size, SizeOf, evaluated
from tfcompat_dw.porting.tflite import lowered

CONSTANTS = ("Const", "Variable")
RANDOM = ("RandomUniform", "RandomStandardNormal", "TruncatedNormal", "Multinomial")
ALIASES = ("Identity", "Snapshot", "PreventGradient", "CheckNumerics", "PlaceholderWithDefault")
"""Nodes that hand on what they get."""
OF_SHAPES = ("Shape", "Size", "Rank")
MAP = "MapFn"
_OWN = frozenset({*CONSTANTS, *ALIASES, *OF_SHAPES, MAP, "Placeholder"})
"""What is treated here."""
INLINE = 16
"""Numbers of a constant that stand among a function's arguments; larger ones are stored."""
MOST_FOLDED = 2**27
"""Numbers in what is computed from constants."""
NO_MORE_THAN_GIVEN = ("Where",)
"""How much they make depends on values, but it is a small multiple of what they take."""
FILTERS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul",
           "BatchMatMulV2", "BatchMatMulV3", "Einsum")  # fmt: skip
"""Their constants are weights, which are trained."""


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
    known, problems = _known(graph, options.layers)
    attempts: list[tuple[_GraphPort, PortError]] = []
    for frees_batch, sizes in _attempts(graph, options):
        port = _GraphPort(graph, options, known, sizes, frees_batch, list(problems))
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
    """Whether the batch is freed, and what open sizes are filled with."""
    shapes = [options.input_shapes.get(one.name, one.shape) for one in graph.inputs]
    is_open = any(size is None for shape in shapes for size in (shape or ())[1:])
    is_open |= any(shape is not None and len(shape) == 1 and None in shape for shape in shapes)
    is_image = any(shape is not None and len(shape) > 2 for shape in shapes)
    fixed = all(shape is not None and len(shape) > 1 and shape[0] == 1 for shape in shapes)
    choices = IMAGE_SIZES if is_image else LENGTHS
    for sizes in choices if is_open else choices[:1]:
        if fixed:
            yield True, sizes
        yield False, sizes


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


def _known(graph: Graph, kept: Collection[str]) -> tuple[dict[Output, Tensor], list[str]]:
    """Results of nodes that take nothing but constants, and what is wrong with some.

    Nodes of the kinds ``kept`` are left to the caller's modules.
    """
    known: dict[Output, Tensor] = {}
    problems: list[str] = []
    for node in graph.nodes.values():
        if node.op in CONSTANTS:
            known[Output(node.name)] = graph.constants[node.name]
        elif node.op not in kept and _is_constant(node, known):
            try:
                found = _computed(node, [known[one] for one in node.inputs])
            except UnsupportedLayerError as error:
                problems.append(f"{_place(node)}: {error}")
                continue
            known.update((Output(node.name, i), value) for i, value in enumerate(found))
    return known, problems


def _is_constant(node: GraphNode, known: Mapping[Output, Tensor]) -> bool:
    """Whether a node takes nothing but constants."""
    return bool(node.inputs) and node.op not in RANDOM and all(one in known for one in node.inputs)


def _computed(node: GraphNode, inputs: Sequence[Tensor]) -> list[Tensor]:
    """A node of constants."""
    if node.op in ALIASES:
        return [inputs[0]]
    if node.op == "Shape":
        return [torch.tensor(inputs[0].shape, dtype=_integer(node))]
    shapes = tuple(tuple(one.shape) for one in inputs)
    refs = [TensorRef(str(number)) for number in range(len(inputs))]
    module, order = _foldable(node, inputs, refs, shapes)
    tensors = [inputs[int(ref.layer)] for ref in order]
    if node.op not in NO_MORE_THAN_GIVEN:
        _check_folded(module, tensors)
    found = result(module, tensors)
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _check_folded(module: Operation, tensors: Sequence[Tensor]) -> None:
    """Whether what is computed of constants is small enough."""
    probes = [Probe((one.to("meta"), one.to("meta"))) for one in tensors]
    try:
        probed = results(module, probes, {})[0]
    except ShapesUnknownError as error:
        raise UnsupportedLayerError("of constants alone, how much it makes is unknown") from error
    for one in probed if isinstance(probed, (list, tuple)) else [probed]:
        if one.numel() > MOST_FOLDED:
            raise UnsupportedLayerError(f"it makes a constant of shape {tuple(one.shape)}")


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
    ) -> None:
        self.graph, self.options, self.known = graph, options, dict(known)
        self.sizes, self.frees_batch, self.problems = sizes, frees_batch, problems
        self.values: dict[str, list[Value]] = {}
        self.types: dict[str, str] = {}
        """TensorFlow's names, of nodes whose values are sizes."""
        self.lost: set[str] = set()
        """Nodes that have no value because of a problem before."""
        self.modules: dict[str, nn.Module] = {}
        self.steps: list[tuple[str, str, list[Any]]] = []
        """Module, name of the node, and arguments with references in them."""
        self.shared: dict[Any, str] = {}
        """Names of modules by what they are made of: weights that are shared stay so."""
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
        return self._finished(inputs, outputs)

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
        probe = probe_of(given, tuple(shape), self.sizes, self.frees_batch)
        self.values[given.output.node] = [Live(TensorRef(given.output.node), probe)]
        kept = (None, *shape[1:]) if self.frees_batch else tuple(shape)
        return ModelInput(given.name, kept, given.dtype)

    def _outputs(self) -> dict[str, Live]:
        found: dict[str, Live] = {}
        for name, output in self.graph.outputs.items():
            if output.node in self.lost:
                continue
            value = self._value(output)
            found[name] = value if isinstance(value, Live) else self._as_live(output, value)
        return found

    def _check_batch(self, outputs: Mapping[str, Live]) -> None:
        """A freed batch has to come out again."""
        for name, value in outputs.items() if self.frees_batch else ():
            shapes = [] if value.probe is None else [run.shape for run in value.probe.runs]
            if [tuple(shape[:1]) for shape in shapes] != [(BATCHES[0],), (BATCHES[1],)]:
                raise PortError(f"output {shown(name)} has no batch of its own")

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
            data_format=self.options.data_format,
        )
        model.source = "graph"
        return model.eval()

    # -- values

    def _value(self, output: Output) -> Value:
        if output in self.known:
            return self.known[output]
        values = self.values[output.node]
        if output.index < len(values):
            return values[output.index]
        first = values[0]  # how many there are was not known
        assert isinstance(first, Live)
        return Live(replace(first.ref, index=output.index))

    def _is_known(self, node: GraphNode) -> bool:
        return Output(node.name) in self.known

    def _shape(self, output: Output) -> Shape | None:
        value = self._value(output)
        return value.shape if isinstance(value, Live) else tuple(value.shape)

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
            found = _computed(node, [self.known[one] for one in node.inputs])
            self.known.update((Output(node.name, i), value) for i, value in enumerate(found))
        elif node.op == MAP:
            self._map(node)
        elif node.op in ALIASES:
            self.values[node.name] = [self._value(node.inputs[0])]
        elif node.op in OF_SHAPES:
            sizes = self._sizes_of(node)
            self._keep(node, [sizes if node.op == "Shape" else _number(node, sizes)])
        elif not self._fold(node):
            self._layer_or_operation(node)

    def _map(self, node: GraphNode) -> None:
        """A network for each element of a batch."""
        body = unfused(node.attributes["body"], self.options.layers)
        mapped = node.attributes["mapped"]
        known, problems = _known(body, self.options.layers)
        options = replace(self.options, data_format="channels_last")
        port = _GraphPort(body, options, known, self.sizes, False, problems)
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
        try:
            found = folded(self._call(node, inputs))
        except ValueError as error:
            raise UnsupportedLayerError(str(error)) from error
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
        if node.op.startswith("FusedBatchNorm"):
            try:
                layer = fused_normalization(node, self.known)
            except NotALayerError:
                pass
            else:
                self._add_layer(node.name, node, layer, [self._value(node.inputs[0])])
                return
        if node.op == "Prelu" and node.inputs[1] in self.known:
            layer = prelu(self.known[node.inputs[1]], node.inputs[1], negated=False)
            self._add_layer(node.name, node, layer, [self._value(node.inputs[0])])
            return
        self._operation(node)

    def _visit_pattern(self, pattern: Pattern) -> None:
        inputs = [one for node in pattern.members for one in node.inputs]
        if any(one.node in self.lost for one in inputs):
            self.lost.add(pattern.last.name)
            return
        if isinstance(pattern, Normalization):
            layer = written_out_normalization(pattern, self.known)
            self._add_layer(pattern.last.name, pattern.last, layer, [self._value(pattern.input)])
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
        """The size that the node asks for has to be the one that the layer gives."""
        asked = self._value(node.inputs[0])
        if isinstance(asked, Live) or value.probe is None:
            raise NotALayerError
        module = _built(layer)
        for run, given in enumerate(results(module, [value.probe], {})):
            sizes = [self._size_in_run(one, run) for one in asked.tolist()]
            if len(sizes) == 4 and sizes[1:] != list(given.shape)[1:]:
                raise NotALayerError

    def _size_in_run(self, size: Any, run: int) -> Any:
        def size_of(ref: TensorRef, axis: int) -> int:
            value = self.values[ref.layer][ref.index]
            assert isinstance(value, Live)
            assert value.probe is not None
            return value.probe.runs[run].shape[axis]

        return evaluated(size, size_of)

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
        again = self.shared.get(key)
        if again is not None:
            self._record(again, last, self.modules[again], inputs)
            return
        module = _built(layer)
        for weight in module.tf_weights():  # type: ignore[operator]
            weight.assign(layer.values[weight.name])
        self.shared[key] = self._add(_layer_name(name), last, module, inputs)

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
        is_variable = source is not None and source.node in self.graph.trainable
        is_trained = is_variable or (node.op in FILTERS and value.is_floating_point())
        if value.numel() <= INLINE and not is_trained:
            return Constant(small_list(value), str(value.dtype).removeprefix("torch."))
        return self._stored(source or Output(f"{node.name}/constant"), value, is_trained)

    def _stored(self, source: Output, value: Tensor, is_trained: bool) -> TensorRef:
        name = str(source)
        if isinstance(self.values.get(name, [None])[0], np.ndarray):
            name += "/tensor"  # sizes have the name already
        if name not in self.values:
            node = GraphNode(name, "StoredTensor")
            self._add_layer(name, node, stored(value, source, is_trained), [])
        first = self.values[name][0]
        assert isinstance(first, Live)
        return first.ref

    def _as_live(self, output: Output, value: Value) -> Live:
        """A constant, or sizes, where a tensor is wanted."""
        if isinstance(value, Live):
            return value
        if isinstance(value, Tensor):
            ref = self._stored(output, value, output.node in self.graph.trainable)
        else:
            name = f"{output}/tensor"
            if name not in self.values:
                kind = self.types.get(output.node)
                module = Operation("tensor_of", [value.tolist()], {"dtype": kind} if kind else {})
                given = [self._live(ref) for ref in module.refs]
                self._add(name, GraphNode(name, "tensor_of"), module, given)
            ref = TensorRef(name)
        found = self._live(ref)
        assert isinstance(found, Live)
        return found

    def _hook(self, node: GraphNode) -> None:
        """A module of the caller's, which gets every input as a tensor, None where none is."""
        inputs = [self._as_live(one, self._value(one)) if one.node else None for one in node.inputs]
        shapes = {f"input_{i}": one.shape or () for i, one in enumerate(inputs) if one is not None}
        spec = LayerSpec(node.op, node.name, node.attributes, shapes)  # type: ignore[arg-type]
        self._add(node.name, node, self.options.layers[node.op](spec), inputs)

    # -- a batch that the file fixes to 1

    def _with_freed_batch(self, node: GraphNode, inputs: Sequence[Value]) -> Bound | None:
        """``Reshape`` to ``[1, ...]`` means the whole batch; a batch of 1 may be squeezed, too."""
        if not inputs or not isinstance(inputs[0], Live) or not self._has_batch(inputs[0]):
            return None
        axes = node.attributes.get("squeeze_dims") or node.attributes.get("axis")
        if node.op == "Squeeze" and not axes:
            raise UnsupportedLayerError("it squeezes all axes of size 1, the batch, too")
        size: Size = SizeOf(inputs[0].ref, 0)
        if node.op == "Reshape" and isinstance(inputs[1], Tensor):
            shape = inputs[1].tolist()
            if shape[:1] != [1] or not self._divides(inputs[0], shape[1:]):
                return None
            freed = np.empty(len(shape), dtype=object)
            freed[:] = [size, *shape[1:]]
            return HANDLERS[node.op](self._call(node, [inputs[0], freed]))
        return None

    def _has_batch(self, value: Live) -> bool:
        if value.probe is None:
            return False
        return [tuple(run.shape[:1]) for run in value.probe.runs] == [(n,) for n in BATCHES]

    def _divides(self, value: Live, rest: Sequence[int]) -> bool:
        """Whether the numbers of one example have this shape."""
        assert value.probe is not None
        run = value.probe.runs[0]
        count, asked = run.numel() // max(1, run.shape[0]), int(np.prod([n for n in rest if n > 0]))
        return count == asked if -1 not in rest else asked > 0 and count % asked == 0

    # -- steps

    def _add(
        self, name: str, node: GraphNode, module: nn.Module, inputs: Sequence[Value | None]
    ) -> str:
        """A new module and its first call; the name that it got."""
        unique, number = name, 1
        while unique in self.modules:
            unique, number = f"{name}_{number}", number + 1
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
                value = self._as_live(Output(f"{node.name}/input_{number}"), value)
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
    """A layer, untrained.

    Normalizations are those of TensorFlow's fused kernel, as in Keras 2; strides and dilations
    may both be above 1, as in Keras 3.
    """
    keras = 2 if layer.class_name == "BatchNormalization" else 3
    spec = LayerSpec(layer.class_name, "", layer.config, shapes_of(layer.values), keras)
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
