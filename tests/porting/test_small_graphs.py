"""Graphs of a few nodes, made by hand: each computes what it says, or is refused with a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tfcompat_dw.checkpoint.graph import Graph, GraphInput, GraphNode, Output
from tfcompat_dw.porting import PortError
from tfcompat_dw.porting.graph_port import port_graph
from tfcompat_dw.porting.model import PortedModel
from tfcompat_dw.porting.options import Options

Spec = tuple[str, str, Sequence[str], Mapping[str, Any]]
"""Of a node: its name, operation, inputs (``name`` or ``name:1``) and attributes."""
Shape = tuple[int | None, ...]


def output(text: str) -> Output:
    name, _, index = text.partition(":")
    return Output(name, int(index or 0))


def graph_of(
    nodes: Sequence[Spec],
    constants: Mapping[str, Tensor],
    shape: Shape = (None, None),
    ends: Sequence[str] = ("z",),
) -> Graph:
    """A graph with one input, ``x``, of float32."""
    found = {name: GraphNode(name, "Const") for name in constants}
    found["x"] = GraphNode("x", "Placeholder")
    for name, op, inputs, attributes in nodes:
        found[name] = GraphNode(name, op, tuple(map(output, inputs)), attributes)
    given = (GraphInput("x", Output("x"), shape, "float32"),)
    return Graph("graph", found, given, {one: output(one) for one in ends}, dict(constants))


def ported(
    nodes: Sequence[Spec],
    constants: Mapping[str, Tensor],
    shape: Shape = (None, None),
    ends: Sequence[str] = ("z",),
) -> PortedModel:
    return port_graph(graph_of(nodes, constants, shape, ends), Options())


def i32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def scalar(value: float, dtype: torch.dtype = torch.int32) -> Tensor:
    return torch.tensor(value, dtype=dtype)


WIDTH: list[Spec] = [
    ("shape", "Shape", ["x"], {"out_type": "int32"}),
    ("w", "StridedSlice", ["shape", "from", "to", "step"], {"shrink_axis_mask": 1, "T": "int32"}),
]
"""``w`` is the second axis of x."""
ENDS = {"from": i32(1), "to": i32(2), "step": i32(1), "one": i32(1)}


# ---- arithmetic on sizes -------------------------------------------------------------------------


def cast(name: str, given: str, source: str, kind: str) -> Spec:
    return (name, "Cast", [given], {"SrcT": source, "DstT": kind})


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_fractions_of_open_sizes_are_rounded_as_the_graph_rounds_them(kind: str) -> None:
    """65 * 0.2 is 13 in float32, and a little more in float64 with the factor of float32."""
    nodes = [
        *WIDTH,
        cast("wide", "w", "int32", kind),
        ("part", "Mul", ["wide", "factor"], {"T": kind}),
        ("whole", "Ceil", ["part"], {"T": kind}),
        cast("count", "whole", kind, "int32"),
        ("dims", "Pack", ["count"], {"axis": 0}),
        ("z", "Fill", ["dims", "value"], {}),
    ]
    factor = np.float32(0.2).astype(kind)
    constants = {**ENDS, "factor": torch.tensor(factor), "value": scalar(1.0, torch.float32)}
    model = ported(nodes, constants)
    differs = 0
    for width in range(1, 100):
        expected = int(np.ceil(np.asarray(width).astype(kind) * factor))
        assert model(torch.zeros(2, width)).shape == (expected,)
        differs += expected != int(np.ceil(np.float64(width) * np.float64(np.float32(0.2))))
    assert (differs > 0) == (kind == "float32")


@pytest.mark.parametrize("op", ["TruncateDiv", "Div"])
@pytest.mark.parametrize("divisor", [3, -3])
def test_whole_quotients_of_formulas_are_cut_towards_zero(op: str, divisor: int) -> None:
    nodes = [
        *WIDTH,
        ("less", "Sub", ["w", "eight"], {"T": "int32"}),
        ("quotient", op, ["less", "divisor"], {"T": "int32"}),
        cast("real", "quotient", "int32", "float32"),
        ("z", "Add", ["x", "real"], {}),
    ]
    model = ported(nodes, {**ENDS, "eight": scalar(8), "divisor": scalar(divisor)})
    for width in range(1, 17):
        assert model(torch.zeros(1, width))[0, 0] == math.trunc((width - 8) / divisor)


def test_whole_quotients_of_formulas_stay_open_in_an_exported_program() -> None:
    """A branch on the sign of ``w - 1`` would fix the size."""
    nodes = [
        *WIDTH,
        ("less", "Sub", ["w", "unit"], {"T": "int32"}),
        ("half", "TruncateDiv", ["less", "two"], {"T": "int32"}),
        ("dims", "Pack", ["half"], {"axis": 0}),
        ("z", "Fill", ["dims", "value"], {}),
    ]
    constants = {**ENDS, "unit": scalar(1), "two": scalar(2), "value": scalar(1.0, torch.float32)}
    model = ported(nodes, constants)
    width = torch.export.Dim("w", min=5, max=99)
    example = (torch.zeros(2, 9),)
    program = torch.export.export(model, example, dynamic_shapes=(({1: width},),)).module()
    for size in (6, 9, 14):
        assert program(torch.zeros(2, size)).shape == ((size - 1) // 2,)


def doubled(count: int) -> list[Spec]:
    """The second axis of x, doubled so often, as the size of an axis."""
    names = ["w", *(f"twice_{number}" for number in range(count))]
    sums: list[Spec] = [
        (name, "AddV2", [before, before], {"T": "int32"}) for before, name in pairwise(names)
    ]
    return [
        *WIDTH,
        *sums,
        ("dims", "Pack", [names[-1]], {"axis": 0}),
        ("z", "Fill", ["dims", "value"], {}),
    ]


def test_formulas_that_double_at_every_node_are_refused_before_they_grow() -> None:
    """60 nodes would make a formula of 2**60 sizes."""
    constants = {**ENDS, "value": scalar(1.0, torch.float32)}
    assert ported(doubled(5), constants)(torch.zeros(1, 3)).shape == (3 * 2**5,)
    with pytest.raises(PortError, match=r"AddV2 'twice_8': a formula .* more than 256 numbers"):
        ported(doubled(60), constants)
