"""Graphs of a few nodes, made by hand: each computes what it says, or is refused with a reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tfcompat_dw.checkpoint.graph import HAND_ON, Graph, GraphInput, GraphNode, Output, Quantization
from tfcompat_dw.checkpoint.tflite import _unique as unique_names
from tfcompat_dw.porting import PortError, graph_port
from tfcompat_dw.porting.describe import _of_graph, described
from tfcompat_dw.porting.graph_port import port_graph
from tfcompat_dw.porting.model import PortedModel, attribute_names
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


# ---- files that lie ------------------------------------------------------------------------------

CONVOLUTION = {"strides": [1, 1, 1, 1], "padding": "VALID", "data_format": "NHWC"}
FILTER = {"filter": torch.ones(1, 1, 3, 3)}
LACKING: list[tuple[str, list[Spec]]] = [
    ("Identity 'n': it has 0 inputs", [("n", "Identity", [], {})]),
    ("Shape 'n': it has 0 inputs", [("n", "Shape", [], {"out_type": "int32"})]),
    ("Sigmoid 'n': it has 0 inputs", [("n", "Sigmoid", [], {}), ("m", "Mul", ["x", "n"], {})]),
    ("Add 'n': it has 1 inputs", [("n", "Add", ["x"], {})]),
    ("Mul 'n': it has 3 inputs",
     [("n", "Mul", ["x", "x", "x"], {}), ("m", "Add", ["n", "filter"], {})]),
    ("Pad 'n': it has 1 inputs",
     [("n", "Pad", ["x"], {}), ("m", "Conv2D", ["n", "filter"], CONVOLUTION)]),
    ("Prelu 'n': it has 1 inputs", [("n", "Prelu", ["x"], {})]),
    ("Conv2DBackpropInput 'n': it has 2 inputs",
     [("n", "Conv2DBackpropInput", ["x", "filter"], CONVOLUTION)]),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "nodes"), LACKING, ids=[one[0].split()[0] for one in LACKING])
def test_nodes_with_too_few_or_too_many_inputs_are_refused_by_name(
    reason: str, nodes: list[Spec]
) -> None:
    """Before layers are looked for, which takes the inputs of several nodes."""
    nodes = [*nodes, ("z", "Relu", [nodes[-1][0]], {})]
    with pytest.raises(PortError, match=reason):
        ported(nodes, FILTER, (None, 4, 4, 3))


@pytest.mark.parametrize("end", ["relu:3", "constant:1", "shape:1", "same:1", "sum:1"])
def test_results_that_no_node_has_are_refused_as_inputs_and_as_outputs(end: str) -> None:
    nodes: list[Spec] = [
        ("relu", "Relu", ["x"], {}),
        ("shape", "Shape", ["x"], {"out_type": "int32"}),
        ("places", "Where", ["x"], {}),
        ("same", "Identity", ["places"], {}),
        ("sum", "Add", ["constant", "constant"], {}),
    ]
    constants = {"constant": torch.ones(3)}
    reason = f"'{end}' is a result that is not there"
    with pytest.raises(PortError, match=f"output '{end}': {reason}"):
        ported(nodes, constants, (None, 3), [end])
    with pytest.raises(PortError, match=f"Neg 'z': {reason}"):
        ported([*nodes, ("z", "Neg", [end], {})], constants, (None, 3))


def test_nodes_that_repeat_one_number_share_the_room_for_what_is_made_of_constants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each makes 4 MB of nothing, and all together have 10; 4 for each byte of the file's."""
    nodes: list[Spec] = [
        ("sum", "AddN", [f"tile_{number}" for number in range(4)], {}),
        ("z", "Add", ["x", "sum"], {}),
    ]
    tiles: list[Spec] = [
        (f"tile_{number}", "Tile", ["constant", "count"], {}) for number in range(4)
    ]
    monkeypatch.setattr(graph_port, "MOST_MADE", 10 * 2**20)
    repeated = {"constant": torch.ones(1), "count": i32(2**20)}
    with pytest.raises(PortError, match="Tile 'tile_2': what the graph makes of constants alone"):
        ported([*tiles, *nodes], repeated, (None, 2**20))
    whole = {"constant": torch.ones(2**20), "count": i32(1)}
    assert ported([*tiles, *nodes], whole, (1, 2**20))(torch.zeros(1, 2**20))[0, 5] == 4


def test_other_views_of_constants_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter is read as the file has it, then its axes are permuted."""
    monkeypatch.setattr(graph_port, "MOST_MADE", 0)
    monkeypatch.setattr(graph_port, "MADE_OF_EACH", 0)
    nodes: list[Spec] = [
        ("turned", "Transpose", ["weights", "axes"], {}),
        ("z", "MatMul", ["x", "turned"], {}),
    ]
    weights = torch.arange(12.0).reshape(4, 3)
    model = ported(nodes, {"weights": weights, "axes": i32(1, 0)}, (None, 3))
    assert torch.equal(model(torch.eye(3)), weights.T)


def test_filters_of_a_dilation_are_no_larger_than_their_places_can_be_taken_one_by_one() -> None:
    attributes = {"strides": [1, 1, 1, 1], "rates": [1, 1, 1, 1], "padding": "SAME"}
    nodes: list[Spec] = [
        ("filter", "Fill", ["dims", "zero"], {}),
        ("z", "Dilation2D", ["x", "filter"], attributes),
    ]
    zero = scalar(0.0, torch.float32)
    model = ported(nodes, {"dims": i32(7, 7, 1), "zero": zero}, (None, 4, 4, 1))
    x = torch.arange(16.0).reshape(1, 4, 4, 1)
    assert torch.equal(model(x), torch.full_like(x, 15))
    for dims in (i32(32, 33, 1), i32(2**12, 2**12, 1)):
        with pytest.raises(PortError, match=r"Dilation2D 'z': .*its filter has shape"):
            ported(nodes, {"dims": dims, "zero": zero}, (None, 4, 4, 1))


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((None, 4097), "it has 4097 results"), ((None, None), "depends on the size of its input")],
)
def test_a_tensor_is_taken_apart_into_so_many_as_a_split_makes_and_no_more(
    shape: Shape, reason: str
) -> None:
    nodes: list[Spec] = [
        ("parts", "Unpack", ["x"], {"axis": 1, "num": 4097}),
        ("z", "Relu", ["parts:1"], {}),
    ]
    with pytest.raises(PortError, match=f"Unpack 'parts': .*{reason}"):
        ported(nodes, {}, shape)
    assert ported(nodes, {}, (None, 4096))(torch.ones(2, 4096)).shape == (2,)


def test_constants_that_repeat_one_number_are_not_taken_apart_without_end() -> None:
    nodes: list[Spec] = [
        ("many", "Fill", ["dims", "zero"], {}),
        ("parts", "Unpack", ["many"], {"axis": 0, "num": 2**26}),
        ("z", "Add", ["x", "parts"], {}),
    ]
    constants = {"dims": i32(2**26), "zero": scalar(0.0, torch.float32)}
    with pytest.raises(PortError, match=f"it has {2**26} results"):
        ported(nodes, constants)


# ---- names ---------------------------------------------------------------------------------------


def test_names_that_become_the_same_attribute_are_numbered_each_in_one_step() -> None:
    names = ["".join(one) for one in product("-./+", repeat=7)]
    attributes = attribute_names(names)
    assert list(attributes) == names
    assert list(attributes.values()) == ["__", *(f"___{number}" for number in range(1, len(names)))]


def test_layers_of_one_scope_get_numbers() -> None:
    names = ["a/Conv2D", "a/Conv2D_1", "a/Conv2D_2", "a_1/Conv2D"]
    nodes: list[Spec] = [
        (name, "Conv2D", [before, f"{name}/filter"], CONVOLUTION)
        for before, name in pairwise(["x", *names])
    ]
    filters = {f"{name}/filter": torch.full((1, 1, 1, 1), value)
               for name, value in zip(names, (2.0, 3.0, 5.0, 7.0), strict=True)}  # fmt: skip
    model = ported(nodes, filters, (None, 4, 4, 1), [names[-1]])
    assert [name for name, _ in model.named_children()] == ["a", "a_1", "a_2", "a_1_1"]
    assert model(torch.ones(1, 4, 4, 1))[0, 0, 0, 0] == 2 * 3 * 5 * 7


class Counted(dict[str, Tensor]):
    """Constants, and how often they were read."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__(values)
        self.reads = Counter[str]()

    def __getitem__(self, name: str) -> Tensor:
        self.reads[name] += 1
        return super().__getitem__(name)


def test_inspect_builds_a_graph_once_and_reads_a_constant_once_however_many_take_it() -> None:
    sums: list[Spec] = [(f"z_{number}", "Add", ["x", "table"], {}) for number in range(5)]
    table = Counted({"table": torch.ones(2, 3)})
    graph = replace(graph_of(sums, table, ends=[one[0] for one in sums]), constants=table)

    class File:
        graphs = 0

        def model_config(self) -> None:
            """None."""

        def signatures(self) -> list[str]:
            return ["serve"]

        def graph(self) -> Graph:
            self.graphs += 1
            return graph

    file = File()
    found = described(file)  # type: ignore[arg-type]
    assert found["signatures"] == ["serve"]
    assert [one["name"] for one in found["inputs"]] == ["x"]
    assert [one["weights"] for one in found["layers"]] == [{"table": [2, 3]}] * 5
    assert (file.graphs, table.reads["table"]) == (1, 1)


def test_sizes_as_a_tensor_are_not_taken_for_a_node_that_has_the_name() -> None:
    """TensorFlow's own nodes are called ``Reshape/tensor``."""
    nodes: list[Spec] = [
        ("shape", "Shape", ["x"], {"out_type": "int32"}),
        ("shape/tensor", "Relu", ["x"], {}),
    ]
    model = ported(nodes, {}, ends=["shape", "shape/tensor"])
    x = torch.arange(6.0).reshape(2, 3)
    found = model(x)
    assert found["shape"].tolist() == [2, 3]
    assert torch.equal(found["shape/tensor"], x)


@pytest.mark.parametrize("order", [1, -1])
def test_a_constant_of_a_nodes_attributes_is_not_taken_for_a_node_that_has_the_name(
    order: int,
) -> None:
    """Whichever of them comes first."""
    boundaries = [float(number) for number in range(0, 40, 2)]
    nodes: list[Spec] = [
        ("places", "Bucketize", ["x"], {"boundaries": boundaries}),
        ("places/constant", "Neg", ["x"], {}),
    ]
    model = ported(nodes[::order], {}, ends=["places", "places/constant"])
    x = torch.tensor([[-1.0, 3.0, 100.0]])
    found = model(x)
    assert found["places"].tolist() == [[0, 2, 20]]
    assert torch.equal(found["places/constant"], -x)


def test_parts_of_nodes_get_names_that_no_node_of_the_file_has() -> None:
    """Of a fused node, of a TFLite node with an activation, and of an input that is rounded."""
    fused: list[Spec] = [
        ("z", "_FusedMatMul", ["x", "w", "b"], {"fused_ops": ["BiasAdd", "Relu"]}),
        ("z/MatMul", "Neg", ["x"], {}),
        ("end", "Add", ["z", "z/MatMul"], {}),
    ]
    constants = {"w": torch.eye(3), "b": torch.ones(3)}
    x = torch.tensor([[1.0, -4.0, 0.5]])
    expected = torch.relu(x + 1) - x
    assert torch.equal(ported(fused, constants, (None, 3), ["end"])(x), expected)
    lite: list[Spec] = [
        ("z", "ADD", ["x", "b"], {"fused_activation_function": "RELU"}),
        ("z/AddV2", "NEG", ["x"], {}),
        ("x/exact", "NEG", ["x"], {}),
        ("same", "ADD", ["z/AddV2", "x/exact"], {}),
        ("end", "ADD", ["z", "same"], {}),
    ]
    for scale in (None, 0.5):
        graph = replace(graph_of(lite, constants, (2, 3), ["end"]), is_tflite=True)
        if scale is not None:
            graph = replace(
                graph, quantization={Output("x"): Quantization((scale,), (0,), 0, "int8")}
            )
        model = port_graph(graph, Options(simulate_quantization=scale is not None))
        assert torch.equal(model(x), torch.relu(x + 1) - 2 * x)


def test_tensors_of_a_tflite_file_keep_the_names_that_come_first() -> None:
    names = ["a", "", "a", "a_1", "tensor", "", "a"]
    assert unique_names(names) == ["a", "tensor_1", "a_2", "a_1", "tensor", "tensor_2", "a_3"]


# ---- nodes that hand on what they get ------------------------------------------------------------


@pytest.mark.parametrize("op", HAND_ON)
def test_sizes_weights_and_tensors_go_through_nodes_that_hand_on_their_input(op: str) -> None:
    nodes: list[Spec] = [
        ("filter", op, ["weights"], {}),
        ("seen", op, ["x"], {}),
        ("z", "Conv2D", ["seen", "filter"], CONVOLUTION),
        ("shape", "Shape", ["z"], {"out_type": "int32"}),
        ("sizes", op, ["shape"], {}),
        ("end", "Fill", ["sizes", "value"], {}),
    ]
    weights = torch.arange(6.0).reshape(1, 1, 3, 2)
    constants = {"weights": weights, "value": scalar(1.0, torch.float32)}
    graph = graph_of(nodes, constants, (None, None, None, 3), ["z", "end"])
    model = port_graph(graph, Options())
    x = torch.ones(2, 4, 5, 3)
    assert torch.equal(model(x)["z"], torch.tensor([6.0, 9.0]).expand(2, 4, 5, 2))
    assert model(x)["end"].shape == (2, 4, 5, 2)
    assert [type(one).__name__ for one in model.children()] == ["Conv2D", "Operation"]
    found = {one["name"]: one["weights"] for one in _of_graph(graph)}
    assert found["z"] == {"weights": [1, 1, 3, 2]}
