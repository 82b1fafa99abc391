"""Nodes that TensorFlow's optimizer and TensorFlow.js made of several: taken apart again.

``_FusedConv2D`` and the like (``tensorflow/core/ops/nn_ops.cc``) have a list ``fused_ops``; what
those take beside the result follows the filter.  TensorFlow.js writes some without the underscore.
``_FusedBatchNormEx`` adds its sixth input, if it has one, and has an ``activation_mode``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tfcompat_dw.checkpoint.graph import Graph, GraphNode, Output
from tfcompat_dw.names import Names
from tfcompat_dw.porting.config import shown
from tfcompat_dw.porting.layer import UnsupportedLayerError

MAP = "MapFn"
"""A node with a graph of its own, ``body``."""
MOST_PARTS = 8


@dataclass(frozen=True)
class Part:
    """A node without a name: what it takes beside the result of the one before it."""

    op: str
    operands: Sequence[Output] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


def unfused(graph: Graph, kept: Collection[str] = ()) -> Graph:
    """The graph, and those in it, without such nodes; the last part keeps the node's name.

    Those that cannot be taken apart remain, and :attr:`Graph.refused` says why.

    Args:
        graph: what may have some.
        kept: kinds of nodes that stay in any case.
    """
    nodes: dict[str, GraphNode] = {}
    names = Names(graph.nodes)
    refused = dict(graph.refused)
    for node in graph.nodes.values():
        parts = [node]
        if node.op == MAP:
            body = unfused(node.attributes["body"], kept)
            refused |= body.refused
            parts = [replace(node, attributes={**node.attributes, "body": body})]
        elif node.op in TAKEN_APART and node.op not in kept:
            try:
                parts = _named(TAKEN_APART[node.op](node), node.name, names)
            except UnsupportedLayerError as error:
                refused[node.name] = str(error)
        nodes |= {part.name: part for part in parts}
    return replace(graph, nodes=nodes, refused=refused)


def _named(parts: Sequence[Part], name: str, names: Names) -> list[GraphNode]:
    """One after the other, under names that no other node has."""
    found: list[GraphNode] = []
    for number, part in enumerate(parts):
        own = name if number == len(parts) - 1 else names.new(f"{name}/{part.op}")
        before = [Output(found[-1].name)] if found else []
        found.append(GraphNode(own, part.op, (*before, *part.operands), part.attributes))
    return found


# ---- products ------------------------------------------------------------------------------------

Fuse = Callable[[GraphNode], list[Part]]


def _none(node: GraphNode) -> dict[str, Any]:
    return {}


def _format(node: GraphNode) -> dict[str, Any]:
    return {"data_format": node.attributes.get("data_format")}


def _slope(node: GraphNode) -> dict[str, Any]:
    return {"alpha": node.attributes.get("leakyrelu_alpha", 0.2)}


def _normalization(node: GraphNode) -> dict[str, Any]:
    epsilon = node.attributes.get("epsilon", 1e-4)
    return {**_format(node), "epsilon": epsilon, "is_training": False}


KINDS: Mapping[str, tuple[str, int, Callable[[GraphNode], dict[str, Any]]]] = {
    "BiasAdd": ("BiasAdd", 1, _format),
    "Add": ("AddV2", 1, _none),
    "Prelu": ("Prelu", 1, _none),
    "FusedBatchNorm": ("FusedBatchNorm", 4, _normalization),
    "LeakyRelu": ("LeakyRelu", 0, _slope),
    "GeluExact": ("Gelu", 0, lambda _: {"approximate": False}),
    "GeluApproximate": ("Gelu", 0, lambda _: {"approximate": True}),
    **{op: (op, 0, _none) for op in ("Relu", "Relu6", "Elu", "Tanh", "Sigmoid")},
}
"""What ``fused_ops`` may hold: the operation, how many operands it takes, its attributes."""


def _product(op: str) -> Fuse:
    def parts(node: GraphNode) -> list[Part]:
        fused = node.attributes.get("fused_ops")
        kinds = list(fused) if isinstance(fused, (list, tuple)) else []
        if len(kinds) > MOST_PARTS or not all(isinstance(kind, str) for kind in kinds):
            raise UnsupportedLayerError(f"its fused_ops are {shown(kinds)}")
        found, operands = [Part(op, node.inputs[:2], node.attributes)], list(node.inputs[2:])
        for kind in kinds:
            if kind not in KINDS:
                raise UnsupportedLayerError(f"its fused_ops contain {shown(kind)}")
            name, count, attributes = KINDS[kind]
            if len(operands) < count:
                raise UnsupportedLayerError(f"its {kind} has no operand")
            found.append(Part(name, operands[:count], attributes(node)))
            del operands[:count]
        if operands:
            raise UnsupportedLayerError(f"its fused_ops {shown(kinds)} leave an input over")
        return found

    return parts


def _normalized(node: GraphNode) -> list[Part]:
    """One result, which anything takes: without the batch's statistics."""
    mode = node.attributes.get("activation_mode", "Identity")
    if len(node.inputs) not in (5, 6):
        raise UnsupportedLayerError(f"it has {len(node.inputs)} inputs")
    if node.attributes.get("is_training", True):
        raise UnsupportedLayerError("it takes the statistics of its batch")
    if mode not in ("Identity", "Relu"):
        raise UnsupportedLayerError(f"its activation_mode is {shown(mode)}")
    return [
        Part("FusedBatchNormV3", node.inputs[:5], node.attributes),
        *(Part("AddV2", [one]) for one in node.inputs[5:]),
        *([Part("Relu")] if mode == "Relu" else []),
    ]


TAKEN_APART: Mapping[str, Fuse] = {
    "_FusedConv2D": _product("Conv2D"),
    "FusedConv2D": _product("Conv2D"),
    "_FusedDepthwiseConv2dNative": _product("DepthwiseConv2dNative"),
    "FusedDepthwiseConv2dNative": _product("DepthwiseConv2dNative"),
    "_FusedMatMul": _product("MatMul"),
    "FusedMatMul": _product("MatMul"),
    "_FusedBatchNormEx": _normalized,
}
