"""A graph of operations out of a file, whatever the file's format: nodes, constants, ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

HAND_ON = (
    "Identity", "Snapshot", "PreventGradient", "CheckNumerics", "CheckNumericsV2", "DebugIdentity",
    "PlaceholderWithDefault", "EnsureShape", "ReadVariableOp",
)  # fmt: skip
"""Operations whose result is their first input."""


@dataclass(frozen=True)
class Output:
    """One result of a node."""

    node: str
    index: int = 0

    def __str__(self) -> str:
        return f"{self.node}:{self.index}" if self.index else self.node


@dataclass(frozen=True)
class GraphNode:
    """One operation of a graph."""

    name: str
    op: str
    """As TensorFlow registers it: ``DepthwiseConv2dNative``; ``Const`` has its value in
    :attr:`Graph.constants`, so has ``Variable``, whatever the file calls variables."""
    inputs: tuple[Output, ...] = ()
    """Of data: edges that only order nodes are left out."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Numbers, flags and text (bytes that are UTF-8); types by TensorFlow's names (``float32``);
    shapes as tuples with None where a size is open, None where the rank is; lists as lists."""


@dataclass(frozen=True)
class GraphInput:
    """What a caller gives."""

    name: str
    """The signature's name of it, the node's where there is no signature."""
    output: Output
    """Where its value enters: that of a node of the kind ``Placeholder``."""
    shape: tuple[int | None, ...] | None
    """None where a size is open; None itself where the rank is."""
    dtype: str
    """TensorFlow's name."""


@dataclass(frozen=True)
class Quantization:
    """``real = scale * (stored - zero_point)``."""

    scale: tuple[float, ...]
    """One number, or one for each index of ``axis``."""
    zero_point: tuple[int, ...]
    axis: int
    dtype: str
    """Of what is stored: ``int8``, ..."""


@dataclass(frozen=True)
class Graph:
    """What a network computes, from its inputs to its outputs and nothing beside them."""

    name: str
    nodes: Mapping[str, GraphNode]
    """By name, each after those whose results it takes."""
    inputs: tuple[GraphInput, ...]
    outputs: Mapping[str, Output]
    """By the signature's names, in its order; by the nodes' where there is no signature."""
    constants: Mapping[str, Tensor]
    """Values of ``Const`` and ``Variable`` nodes by the nodes' names, each read when asked for;
    quantized weights come as the numbers that they stand for."""
    trainable: frozenset[str] = frozenset()
    """``Variable`` nodes that the file says are trained."""
    variable_names: Mapping[str, str] = field(default_factory=dict)
    """From a ``Variable`` node to the variable's own name, ``conv1/kernel``."""
    quantization: Mapping[Output, Quantization] = field(default_factory=dict)
    """Of what the original holds in integers: results, and constants."""
    is_tflite: bool = False
    """Whether operations are TFLite's (``CONV_2D``), not TensorFlow's."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """By the names of nodes whose operation is known otherwise: why these cannot be said."""


def needed(nodes: Mapping[str, GraphNode], ends: Iterable[Output]) -> dict[str, GraphNode]:
    """The nodes that the ends take results of, and those before them, in the same order."""
    wanted = {output.node for output in ends}
    kept = []
    for node in reversed(list(nodes.values())):
        if node.name in wanted:
            kept.append(node)
            wanted |= {output.node for output in node.inputs}
    return {node.name: node for node in reversed(kept)}
