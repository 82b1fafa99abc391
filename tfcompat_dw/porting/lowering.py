"""What TFLite's operators become: nodes of TensorFlow's, activations and roundings behind them."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.checkpoint.graph import (
    Graph,
    GraphInput,
    GraphNode,
    Output,
    needed,
)
from tfcompat_dw.checkpoint.tflite import MISSING
from tfcompat_dw.names import Names
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.tflite_rounding import Step, rounding_of, with_rounding

ACTIVATIONS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "RELU": ("Relu", ()),
    "RELU6": ("Relu6", ()),
    "RELU_N1_TO_1": ("ClipByValue", (-1.0, 1.0)),
}
"""TFLite's kernels leave ``TANH`` and ``SIGN_BIT`` out without a word, delegates do not."""


class Lowering:
    """Collects the new nodes."""

    def __init__(self, graph: Graph, simulates: bool, kept: Collection[str]) -> None:
        self.graph, self.simulates, self.kept = graph, simulates, kept
        self.nodes: dict[str, GraphNode] = {}
        self._names = Names(graph.nodes)
        self.exact: dict[str, str] = {}
        """Inputs of the network before their rounding, by their nodes."""
        self.constants: dict[str, Tensor] = {}
        self.refused: dict[str, str] = {}
        """By the names of nodes that keep TFLite's names: the reason."""
        self.arranged: dict[tuple[str, Output, tuple[int, ...]], Output] = {}
        """Filters by what is done with them."""
        self.counts: Counter[str] = Counter()
        """How many results of a node are taken: up to the last one."""
        for taken in (graph.outputs.values(), *(one.inputs for one in graph.nodes.values())):
            for output in taken:
                self.counts[output.node] = max(self.counts[output.node], output.index + 1)

    def result(self) -> Graph:
        """The graph of the new nodes, without those that nothing takes."""
        inputs = tuple(self._input(one) for one in self.graph.inputs)
        ends = [*self.graph.outputs.values(), *(one.output for one in inputs)]
        nodes = needed(self.nodes, ends)
        constants = ChainMap(self.constants, self.graph.constants)  # type: ignore[arg-type]
        return replace(
            self.graph,
            nodes=nodes,
            constants=constants,
            inputs=inputs,
            is_tflite=False,
            refused=self.refused,
        )

    def _input(self, given: GraphInput) -> GraphInput:
        """Where a quantized input is simulated, its value enters before the rounding."""
        name = self.exact.get(given.output.node)
        return given if name is None else replace(given, output=Output(name))

    def keep(self, node: GraphNode) -> None:
        """As it is: there is a module of the caller's for it, or the port lists it."""
        self._results(node, [(node.op, node.inputs, dict(node.attributes))])

    # -- nodes

    def constant(self, near: GraphNode, values: Any, dtype: torch.dtype = torch.int32) -> Output:
        """A constant of one's own."""
        name = self._names.new(f"{near.name}/constant")
        self.constants[name] = torch.tensor(values, dtype=dtype)
        self.nodes[name] = GraphNode(name, "Const")
        return Output(name)

    def emit(
        self, near: GraphNode, op: str, inputs: Sequence[Output], attributes: Any = None
    ) -> Output:
        """A node on the way to another's result."""
        name = self._names.new(f"{near.name}/{op}")
        self.nodes[name] = GraphNode(name, op, tuple(inputs), attributes or {})
        return Output(name)

    def finish(
        self, node: GraphNode, op: str, inputs: Sequence[Output], attributes: Any = None
    ) -> None:
        """The node with the result, or the one before its activation and its rounding."""
        activation = node.attributes.get("fused_activation_function", "NONE")
        given = tuple(one for one in inputs if one != MISSING)
        steps: list[Step] = [(op, given, dict(attributes or {}))]
        if activation != "NONE":
            if activation not in ACTIVATIONS:
                raise UnsupportedLayerError(f"its activation is {activation}")
            kind, limits = ACTIVATIONS[activation]
            ends = tuple(self.constant(node, limit, torch.float32) for limit in limits)
            steps.append((kind, ends, {}))
        self._results(node, steps)

    def _results(self, node: GraphNode, steps: list[Step]) -> None:
        """Each of the results is rounded where the original holds integers."""
        outputs = [Output(node.name, place) for place in range(self.counts[node.name])]
        stored = {
            output.index: rounding_of(self.graph, node, found, self.shape)
            for output in outputs
            if self.simulates and (found := self.graph.quantization.get(output)) is not None
        }
        if not stored or self.counts[node.name] < 2:
            self._chain(node, with_rounding(steps, stored[0]) if 0 in stored else steps)
            return
        name = self._names.new(f"{node.name}/{steps[-1][0]}")
        self._chain(replace(node, name=name), steps)
        results = [Output(name, place) for place in range(self.counts[node.name])]
        for place in set(stored) & set(range(len(results))):
            op, others, attributes = stored[place]
            results[place] = self.emit(node, op, (results[place], *others), attributes)
        self.nodes[node.name] = GraphNode(node.name, "IdentityN", tuple(results))

    def _chain(self, node: GraphNode, steps: list[Step]) -> None:
        """Nodes one after another; the last has the name."""
        before: tuple[Output, ...] = ()
        for place, (op, others, attributes) in enumerate(steps):
            is_last = place == len(steps) - 1
            part = "exact" if op == "Placeholder" else op
            name = node.name if is_last else self._names.new(f"{node.name}/{part}")
            if op == "Placeholder":
                self.exact[node.name] = name
            self.nodes[name] = GraphNode(name, op, (*before, *others), attributes)
            before = (Output(name),)

    def shape(self, output: Output) -> tuple[int, ...]:
        """Of a constant, or of one that is only unpacked on its way."""
        node = self.graph.nodes[output.node]
        while node.op in ("DEQUANTIZE", "DENSIFY", "QUANTIZE") and node.inputs:
            node = self.graph.nodes[node.inputs[0].node]
        if node.op != "Const":
            raise UnsupportedLayerError("its filter is computed")
        return tuple(self.graph.constants[node.name].shape)

    def turned(self, node: GraphNode, filter: Output, axes: Sequence[int]) -> Output:
        """A filter with its axes in another order."""
        return self._arranged(node, "Transpose", filter, axes)

    def reshaped(self, node: GraphNode, filter: Output, sizes: Sequence[int]) -> Output:
        """A filter of another shape."""
        return self._arranged(node, "Reshape", filter, sizes)

    def _arranged(self, near: GraphNode, op: str, filter: Output, how: Sequence[int]) -> Output:
        """One node for all operators that take it so: a filter that is shared stays one."""
        key = (op, filter, tuple(how))
        if key not in self.arranged:
            inputs = (filter, self.constant(near, list(how)))
            self.arranged[key] = self.emit(near, op, inputs)
        return self.arranged[key]

    def element(self, node: GraphNode, sizes: Output, place: int) -> Output:
        """One number out of a shape."""
        ends = [self.constant(node, [number]) for number in (place, place + 1, 1)]
        return self.emit(node, "StridedSlice", (sizes, *ends), {"shrink_axis_mask": 1})

    def with_bias(
        self, node: GraphNode, op: str, inputs: Sequence[Output], bias: Sequence[Output], given: Any
    ) -> None:
        """A node, and its bias if there is one."""
        if bias and bias[0] != MISSING:
            result = self.emit(node, op, inputs, given)
            self.finish(node, "BiasAdd", (result, bias[0]), {"data_format": "NHWC"})
        else:
            self.finish(node, op, inputs, given)


Lower = Callable[[Lowering, GraphNode], None]
"""Adds the nodes that an operator becomes.

Raises :class:`~tfcompat_dw.porting.layer.UnsupportedLayerError` with the reason.
"""
