"""Nodes that TensorFlow's optimizer and TensorFlow.js made of several: taken apart again.

``_FusedConv2D`` and the like (``tensorflow/core/ops/nn_ops.cc``) have a list ``fused_ops``; what
those take beside the result follows the filter.  TensorFlow.js writes some without the underscore.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from tfcompat_dw.checkpoint.graph import Graph, GraphNode, Output
from tfcompat_dw.porting.layer import UnsupportedLayerError

WHOLE = {
    "_FusedConv2D": "Conv2D",
    "FusedConv2D": "Conv2D",
    "_FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "_FusedMatMul": "MatMul",
    "FusedMatMul": "MatMul",
}
"""What they begin with."""
WITH_OPERAND = {"BiasAdd": 1, "Prelu": 1, "FusedBatchNorm": 4}
"""How many inputs a part takes beside the result before it."""
WITHOUT = ("Relu", "Relu6", "Elu", "LeakyRelu", "Tanh", "Sigmoid")


def unfused(graph: Graph, kept: Collection[str] = ()) -> Graph:
    """The graph without such nodes; the last part keeps the node's name.

    Args:
        graph: what may have some.
        kept: kinds of nodes that stay in any case.

    Raises:
        UnsupportedLayerError: a part is none that is known, or its inputs are not there.
    """
    nodes: dict[str, GraphNode] = {}
    for node in graph.nodes.values():
        is_taken_apart = node.op in WHOLE and node.op not in kept
        for part in _parts(node, graph.nodes) if is_taken_apart else [node]:
            nodes[part.name] = part
    return replace(graph, nodes=nodes)


def _parts(node: GraphNode, nodes: Mapping[str, GraphNode]) -> Iterator[GraphNode]:
    fused = node.attributes.get("fused_ops")
    kinds = [str(kind) for kind in fused] if isinstance(fused, (list, tuple)) else []
    operands = list(node.inputs[2:])
    names = _names(node.name, kinds, nodes)
    yield GraphNode(names[0], WHOLE[node.op], node.inputs[:2], node.attributes)
    for number, kind in enumerate(kinds):
        taken = WITH_OPERAND.get(kind, 0)
        if kind not in (*WITH_OPERAND, *WITHOUT) or taken > len(operands):
            raise UnsupportedLayerError(f"its parts are {kinds!r}, with {len(node.inputs)} inputs")
        inputs = (Output(names[number]), *operands[:taken])
        del operands[:taken]
        yield GraphNode(names[number + 1], kind, inputs, _attributes(kind, node))


def _attributes(kind: str, node: GraphNode) -> dict[str, object]:
    """Of a part, under the names that it has on its own."""
    found: dict[str, object] = {"data_format": node.attributes.get("data_format")}
    if kind == "LeakyRelu":
        found["alpha"] = node.attributes.get("leakyrelu_alpha", 0.2)
    if kind == "FusedBatchNorm":
        found |= {"epsilon": node.attributes.get("epsilon", 1e-4), "is_training": False}
    return found


def _names(name: str, kinds: list[str], nodes: Mapping[str, GraphNode]) -> list[str]:
    """Of the parts: none that another node has."""
    found = []
    for kind in ["conv", *kinds][: len(kinds)]:
        candidate = f"{name}/{kind}"
        while candidate in nodes or candidate in found:
            candidate += "_"
        found.append(candidate)
    return [*found, name]
