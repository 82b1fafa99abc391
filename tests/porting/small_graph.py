"""Graphs of a few nodes, put together by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tfcompat_dw.checkpoint.graph import Graph, GraphInput, GraphNode, Output
from tfcompat_dw.porting.graph_port import port_graph
from tfcompat_dw.porting.model import PortedModel
from tfcompat_dw.porting.options import Options


class SmallGraph:
    """Nodes in the order of computation; methods give the names of what they add."""

    def __init__(self) -> None:
        self.nodes: dict[str, GraphNode] = {}
        self.inputs: list[GraphInput] = []
        self.constants: dict[str, torch.Tensor] = {}
        self.trainable: set[str] = set()

    def input(self, name: str, shape: Sequence[int | None] | None, dtype: str = "float32") -> str:
        given = None if shape is None else tuple(shape)
        self.nodes[name] = GraphNode(name, "Placeholder", (), {"dtype": dtype, "shape": given})
        self.inputs.append(GraphInput(name, Output(name), given, dtype))
        return name

    def constant(self, value: Any, dtype: str = "float32", name: str | None = None) -> str:
        return self._stored("Const", value, dtype, name)

    def variable(self, value: Any, trained: bool = True, name: str | None = None) -> str:
        name = self._stored("Variable", value, "float32", name)
        if trained:
            self.trainable.add(name)
        return name

    def _stored(self, op: str, value: Any, dtype: str, name: str | None) -> str:
        name = name or f"stored_{len(self.nodes)}"
        self.nodes[name] = GraphNode(name, op, (), {"dtype": dtype})
        self.constants[name] = torch.from_numpy(np.array(value, dtype))
        return name

    def node(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Inputs are names, ``name:1`` for a further result."""
        name = name or f"{op}_{len(self.nodes)}"
        parts = [one.partition(":") for one in inputs]
        outputs = tuple(Output(node, int(index or 0)) for node, _, index in parts)
        self.nodes[name] = GraphNode(name, op, outputs, {"T": "float32", **attributes})
        return name

    def conv(self, x: str, kernel: str, **attributes: Any) -> str:
        given = {"strides": [1, 1, 1, 1], "padding": "SAME", "data_format": "NHWC"}
        return self.node("Conv2D", x, kernel, **{**given, **attributes})

    def graph(self, *outputs: str) -> Graph:
        return Graph(
            "small",
            self.nodes,
            tuple(self.inputs),
            {name: Output(name) for name in outputs},
            self.constants,
            frozenset(self.trainable),
        )

    def port(self, *outputs: str, layers: Mapping[str, Any] | None = None) -> PortedModel:
        return port_graph(self.graph(*outputs), Options("channels_last", layers or {}, {}, False))


def numbers(seed: int, *shape: int) -> np.ndarray:
    """From -1 to 1."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("f4")
