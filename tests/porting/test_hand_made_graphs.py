"""Small graphs made by hand: what a port of them computes, names and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.checkpoint.base import Checkpoint, TensorInfo
from tfcompat_dw.checkpoint.graph import Graph, GraphInput, GraphNode, Output
from tfcompat_dw.porting import PortedModel, PortError, port
from tfcompat_dw.porting.graph_port import port_graph
from tfcompat_dw.porting.options import Options
from tfcompat_dw.porting.write import write_port

SAME = {"strides": [1, 1, 1, 1], "padding": "SAME", "data_format": "NHWC"}
IMAGE = (None, 5, 4, 3)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def graph(
    nodes: Sequence[GraphNode],
    constants: Mapping[str, Tensor],
    *outputs: str,
    shape: tuple[int | None, ...] = IMAGE,
    trained: Sequence[str] = (),
    **more: Any,
) -> Graph:
    """One with an input ``x``; ``trained`` are the constants that are variables."""
    kinds = {name: "Variable" if name in trained else "Const" for name in constants}
    first = [GraphNode("x", "Placeholder"), *(GraphNode(*pair) for pair in kinds.items())]
    return Graph(
        "graph",
        {one.name: one for one in (*first, *nodes)},
        (GraphInput("x", Output("x"), shape, "float32"),),
        {name: Output(name) for name in outputs},
        constants,
        frozenset(trained),
        **more,
    )


def node(name: str, op: str, *inputs: str, **attributes: Any) -> GraphNode:
    return GraphNode(name, op, tuple(Output(one) for one in inputs), attributes)


def ported(made: Graph, **layers: nn.Module) -> PortedModel:
    """With modules for kinds of operations."""
    return port_graph(made, Options(layers={op: lambda _, m=m: m for op, m in layers.items()}))


# ---- what is written ----------------------------------------------------------------------------


def of_code(model: PortedModel, folder: Path) -> nn.Module:
    """What the code that is written for a port loads."""
    for kind in ("safetensors", "py"):
        write_port(model, folder / "network", kind)
    namespace: dict[str, Any] = {"__file__": str(folder / "network.py")}
    exec((folder / "network.py").read_text(), namespace)
    return namespace["load"]()


@pytest.mark.parametrize("is_trained", [True, False])
def test_code_of_a_graph_with_a_stored_tensor_loads_and_computes_the_same(
    tmp_path: Path, is_trained: bool
) -> None:
    numbers = {"kernel": drawn(3, 3, 3, 3), "map": drawn(5, 4, 3), "table": torch.arange(60) // 4}
    nodes = [
        node("conv", "Conv2D", "x", "kernel", **SAME),
        node("sum", "AddV2", "conv", "map"),
        node("flat", "Reshape", "sum", "row"),
        node("taken", "GatherV2", "flat", "table", "axis"),
    ]
    more = {"row": torch.tensor([-1, 60]), "axis": torch.tensor(1)}
    trained = ["kernel", "map"] if is_trained else []
    model = ported(graph(nodes, numbers | more, "taken", trained=trained))
    written = of_code(model, tmp_path)
    assert torch.equal(written(drawn(2, 5, 4, 3)), model(drawn(2, 5, 4, 3)))
    parameters = {name: one.requires_grad for name, one in model.named_parameters()}
    assert {name: one.requires_grad for name, one in written.named_parameters()} == parameters
    assert len(parameters) == 1 + is_trained  # the map is a buffer, where it is no variable
    assert {one.dtype for one in written.state_dict().values()} == {torch.float32, torch.int64}


# ---- modules of the caller's ---------------------------------------------------------------------


class Zero(nn.Module):
    """What its first input is, but zero."""

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return torch.zeros_like(x)


def vector(name: str, value: float) -> dict[str, Tensor]:
    return {name: torch.full((3,), value)}


SWISH = [node("gate", "Sigmoid", "x"), node("y", "Mul", "x", "gate")]
PRELU = [
    node("minus", "Neg", "x"),
    node("low", "Relu", "minus"),
    node("less", "Neg", "low"),
    node("scaled", "Mul", "vector", "less"),
    node("high", "Relu", "x"),
    node("y", "AddV2", "high", "scaled"),
]
BIASED = [node("conv", "Conv2D", "x", "kernel", **SAME), node("y", "BiasAdd", "conv", "vector")]
PADDED = [node("pad", "Pad", "x", "ends"),
          node("y", "Conv2D", "pad", "kernel", **{**SAME, "padding": "VALID"})]  # fmt: skip
NORMALIZED = [
    node("moved", "AddV2", "vector", "tiny"),
    node("root", "Rsqrt", "moved"),
    node("scaled", "Mul", "x", "root"),
    node("middle", "Mul", "vector", "root"),
    node("y", "Sub", "scaled", "middle"),
]
FUSED = {"fused_ops": ["BiasAdd", "Relu"], **SAME}
ONE_NODE = [node("y", "_FusedConv2D", "x", "kernel", "vector", **FUSED)]


@pytest.mark.parametrize(
    ("nodes", "op", "expected"),
    [
        (SWISH, "Sigmoid", lambda x: 0 * x),
        (SWISH, "Mul", lambda x: 0 * x),
        (PRELU, "Neg", torch.relu),
        (BIASED, "BiasAdd", lambda x: 0 * x),
        (BIASED, "Conv2D", lambda x: 0 * x + 2),
        (PADDED, "Pad", lambda x: 0 * x[:, :-2, :-2]),
        (NORMALIZED, "Sub", lambda x: 0 * x),
        (NORMALIZED, "Rsqrt", lambda x: 0 * x),
        (ONE_NODE, "_FusedConv2D", lambda x: 0 * x),
    ],
)
def test_modules_of_the_callers_stand_for_nodes_that_are_a_part_of_something(
    nodes: list[GraphNode], op: str, expected: Any
) -> None:
    ends = torch.tensor([[0, 0], [0, 0], [0, 0], [0, 0]])
    more = {"kernel": drawn(3, 3, 3, 3), "ends": ends, "tiny": torch.tensor(1e-3)}
    made = graph(nodes, more | vector("vector", 2.0), "y", shape=(None, 5, 4, 3))
    x = drawn(2, 5, 4, 3)
    assert torch.equal(ported(made, **{op: Zero()})(x), expected(x))


# ---- types ---------------------------------------------------------------------------------------


def sizes_of(dtype: str) -> list[GraphNode]:
    """Twice the rows of ``x``, in a type: known where the shape is, else a formula."""
    return [
        node("shape", "Shape", "x", T="float32", out_type=dtype),
        node("rows", "StridedSlice", "shape", "one", "two", "one", T=dtype, shrink_axis_mask=1),
        node("twice", "AddV2", "rows", "rows", T=dtype),
        node("real", "Cast", "twice", SrcT=dtype, DstT="float32"),
        node("half", "Mul", "real", "0.5", T="float32"),
        node("is_five", "Equal", "rows", "five", T=dtype),
    ]


@pytest.mark.parametrize("rows", [5, None])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_sizes_come_out_in_the_types_that_their_nodes_say(dtype: str, rows: int | None) -> None:
    kind = getattr(torch, dtype)
    ends = {name: torch.tensor([i], dtype=torch.int32) for i, name in enumerate(("one", "two"), 1)}
    five, half = torch.tensor(5, dtype=kind), torch.tensor(0.5)
    names = ["shape", "rows", "twice", "real", "half", "is_five"]
    constants = {**ends, "five": five, "0.5": half}
    model = ported(graph(sizes_of(dtype), constants, *names, shape=(None, rows, 4, 3)))
    expected = {
        "shape": torch.tensor([2, 5, 4, 3], dtype=kind),
        "rows": torch.tensor(5, dtype=kind),
        "twice": torch.tensor(10, dtype=kind),
        "real": torch.tensor(10.0),
        "half": torch.tensor(5.0),
        "is_five": torch.tensor(True),
    }
    torch.testing.assert_close(model(drawn(2, 5, 4, 3)), expected, rtol=0, atol=0)


@pytest.mark.parametrize("rows", [60_000, None])
def test_a_module_of_the_callers_gets_sizes_of_64_bits(rows: int | None) -> None:
    given: list[Tensor] = []

    class Look(nn.Module):
        def forward(self, sizes: Tensor) -> Tensor:
            given.append(sizes)
            return sizes + 1

    nodes = [
        node("shape", "Shape", "x", T="float32", out_type="int64"),
        node("square", "Mul", "shape", "shape", T="int64"),
        node("y", "Mine", "square", T="int64"),
    ]
    model = ported(graph(nodes, {}, "y", shape=(rows, 1)), Mine=Look())
    expected = torch.tensor([60_000**2, 1])  # more than 32 bits hold
    assert torch.equal(model(torch.zeros(60_000, 1)), expected + 1)
    assert torch.equal(given[-1], expected)
    assert given[-1].dtype == torch.int64


def test_a_port_of_a_graph_is_in_evaluation_mode() -> None:
    body = graph([node("y", "Relu", "x")], {}, "y", shape=(4, 3))
    nodes = [node("map", "MapFn", "x", body=body, mapped=1), node("end", "Neg", "map")]
    model = ported(graph(nodes, {}, "end", shape=(None, 4, 3)))
    assert [one for one in model.modules() if one.training] == []
    x = drawn(2, 4, 3)
    assert torch.equal(model(x), -torch.relu(x))


def test_results_of_a_map_are_numbered_in_the_order_of_its_body(tmp_path: Path) -> None:
    """Their names are numbers: as text, 10 comes before 9."""
    body = graph([node("9", "Relu", "x"), node("10", "Neg", "x")], {}, "9", "10", shape=(3,))
    results = [GraphNode(name, "Identity", (Output("map", n),)) for n, name in enumerate("ab")]
    nodes = [node("map", "MapFn", "x", body=body, mapped=1), *results]
    model = ported(graph(nodes, {}, "a", "b", shape=(None, 3)))
    x = drawn(2, 3)
    for network in (model, of_code(model, tmp_path)):
        found = network(x)
        assert torch.equal(found["a"], torch.relu(x))
        assert torch.equal(found["b"], -x)


# ---- weights that are shared ---------------------------------------------------------------------

OPTIONS = {
    "stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1,
    "padding": "SAME", "depth_multiplier": 1, "fused_activation_function": "NONE",
}  # fmt: skip


@pytest.mark.parametrize(
    ("op", "kernel"),
    [("CONV_2D", (3, 3, 3, 3)), ("DEPTHWISE_CONV_2D", (1, 3, 3, 3)), ("TRANSPOSE_CONV", (3,) * 4)],
)
def test_a_filter_of_two_tflite_operators_is_one_parameter(op: str, kernel: tuple[int]) -> None:
    first = ["size"] if op == "TRANSPOSE_CONV" else []
    order = (lambda x: [*first, "kernel", x]) if first else (lambda x: [x, "kernel"])
    nodes = [
        node("one", op, *order("x"), "bias", **OPTIONS),
        node("other", op, *order("one"), "bias", **OPTIONS),
    ]
    size = torch.tensor([1, 5, 4, 3], dtype=torch.int32)
    constants = {"kernel": drawn(*kernel), "bias": drawn(3), "size": size}
    model = ported(graph(nodes, constants, "one", "other", shape=(1, 5, 4, 3), is_tflite=True))
    assert sorted(one.dim() for one in model.parameters()) == [1, 4]
    x = drawn(1, 5, 4, 3)
    found = model(x)
    assert torch.equal(model(found["one"])["one"], found["other"])
    with torch.no_grad():
        for one in model.parameters():
            one.zero_()
    assert not model(x)["other"].any()


# ---- Keras' description and the graph ------------------------------------------------------------


class Described(Checkpoint):
    """A file with a description of a layer that is not there, and with a graph or none."""

    format = "SavedModel"

    def __init__(self, made: Graph | None) -> None:
        super().__init__(Path("described"))
        self.made = made

    def model_config(self) -> dict[str, Any]:
        layers = [{"class_name": "Strange", "config": {"name": "odd"}}]
        return {"class_name": "Sequential", "config": {"name": "net", "layers": layers}}

    def signatures(self) -> tuple[str, ...]:
        return () if self.made is None else ("serving_default",)

    def graph(
        self, signature: str | None = None, outputs: Sequence[str] | None = None
    ) -> Graph | None:
        return self.made

    def info(self, name: str) -> TensorInfo:
        raise KeyError(name)

    def __getitem__(self, name: str) -> Tensor:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_where_the_graph_stands_in_for_keras_description_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = graph([node("y", "Relu", "x")], {}, "y")
    monkeypatch.setattr(port, "open_checkpoint", lambda _: Described(made))
    with pytest.warns(UserWarning, match=r"(?s)described: .*'odd'.*ported instead") as caught:
        model = port.port_model("described")
    assert [one.filename for one in caught] == [__file__]  # the caller's line
    assert torch.equal(model(-drawn(1, 5, 4, 3)), torch.relu(-drawn(1, 5, 4, 3)))


@pytest.mark.parametrize("asked", [{"outputs": ["y"]}, {"signature": "other"}])
def test_what_is_asked_of_a_graph_that_is_not_there_is_refused_as_that(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    monkeypatch.setattr(port, "open_checkpoint", lambda _: Described(None))
    with pytest.raises(PortError, match="Keras description alone"):
        port.port_model("described", **asked)


# ---- several operations in one node --------------------------------------------------------------


def convolved(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), padding=1).permute(
        0, 2, 3, 1
    )


def convolved_by_channel(x: Tensor, kernel: Tensor) -> Tensor:
    weight = kernel.flatten(2).permute(2, 0, 1).unsqueeze(1)
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, padding=1, groups=3)
    return y.permute(0, 2, 3, 1)


def normalized(y: Tensor, scale: Tensor, offset: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return (y - mean) / torch.sqrt(variance + 1e-3) * scale + offset


PARTS: dict[str, Any] = {
    "BiasAdd": torch.add, "Add": torch.add, "Relu": torch.relu, "Relu6": F.relu6, "Elu": F.elu,
    "Tanh": torch.tanh, "Sigmoid": torch.sigmoid, "GeluExact": F.gelu,
    "GeluApproximate": lambda y: F.gelu(y, approximate="tanh"),
    "LeakyRelu": lambda y: F.leaky_relu(y, 0.3), "FusedBatchNorm": normalized,
    "Prelu": lambda y, alpha: torch.where(y > 0, y, alpha * y),
}  # fmt: skip
"""In PyTorch, of float64."""
OF_PARTS = {"BiasAdd": ["a"], "Prelu": ["b"], "FusedBatchNorm": ["a", "b", "a", "b"], "Add": ["x"]}
PRODUCTS: dict[str, tuple[tuple[int, ...], Any]] = {
    "_FusedConv2D": ((3, 3, 3, 3), convolved),
    "FusedDepthwiseConv2dNative": ((3, 3, 3, 1), convolved_by_channel),
    "_FusedMatMul": ((3, 3), lambda x, matrix: x @ matrix.T),
}
FUSED_CASES = [
    ("_FusedConv2D", ["BiasAdd", "Relu6"]),
    ("_FusedConv2D", ["BiasAdd", "Add", "Relu"]),
    ("_FusedConv2D", ["Add"]),
    ("_FusedConv2D", ["FusedBatchNorm", "LeakyRelu"]),
    ("_FusedConv2D", []),
    ("FusedDepthwiseConv2dNative", ["BiasAdd", "Prelu"]),
    ("_FusedMatMul", ["BiasAdd", "Tanh"]),
    ("_FusedMatMul", ["BiasAdd", "GeluExact"]),
    ("_FusedMatMul", ["BiasAdd", "GeluApproximate"]),
    ("_FusedMatMul", ["BiasAdd", "Elu"]),
    ("_FusedMatMul", ["BiasAdd", "Sigmoid"]),
]


@pytest.mark.parametrize("within_a_map", [False, True])
@pytest.mark.parametrize(("op", "parts"), FUSED_CASES)
def test_a_fused_node_is_its_parts_one_after_the_other(
    op: str, parts: list[str], within_a_map: bool
) -> None:
    kernel, product = PRODUCTS[op]
    shape = (3,) if len(kernel) == 2 else (5, 4, 3)
    numbers = {"k": drawn(*kernel), "a": drawn(3, seed=1), "b": drawn(3, seed=2) ** 2}
    operands = [one for part in parts for one in OF_PARTS.get(part, [])]
    given = {"fused_ops": parts, "epsilon": 1e-3, "leakyrelu_alpha": 0.3, "transpose_b": True}
    nodes = [node("y", op, "x", "k", *operands, **SAME, **given)]
    made = graph(nodes, numbers, "y", shape=(2, *shape))
    x = drawn(2, *shape, seed=3).double()
    if within_a_map:
        nodes = [node("map", "MapFn", "x", body=made, mapped=1)]
        made, x = graph(nodes, {}, "map", shape=(None, 2, *shape)), x[None]
    values = {name: one.double() for name, one in {**numbers, "x": x.reshape(2, *shape)}.items()}
    y = product(values["x"], values["k"])
    for part in parts:
        y = PARTS[part](y, *(values[name] for name in OF_PARTS.get(part, [])))
    found = ported(made).double()(x)
    torch.testing.assert_close(found.reshape(2, *shape), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["Identity", "Relu"])
@pytest.mark.parametrize("side", [[], ["x"]])
def test_a_normalization_with_an_addition_and_an_activation_is_taken_apart(
    mode: str, side: list[str]
) -> None:
    given = {"epsilon": 1e-3, "is_training": False, "data_format": "NHWC", "activation_mode": mode}
    nodes = [node("y", "_FusedBatchNormEx", "x", "a", "b", "a", "b", *side, **given)]
    numbers = {"a": drawn(3, seed=1), "b": drawn(3, seed=2) ** 2}
    x = drawn(2, 5, 4, 3).double()
    expected = normalized(x, *(numbers[name].double() for name in "abab")) + len(side) * x
    expected = torch.relu(expected) if mode == "Relu" else expected
    model = ported(graph(nodes, numbers, "y")).double()
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    assert "BatchNormalization" in str(model)


def test_fused_nodes_that_cannot_be_taken_apart_are_all_listed_with_the_reason() -> None:
    body = graph([node("y", "_FusedConv2D", "x", fused_ops=["Odd"])], {}, "y", shape=(5, 4, 3))
    nodes = [
        node("none", "_FusedConv2D", "x", "k", fused_ops=["BiasAdd"]),
        node("over", "_FusedMatMul", "x", "k", "k"),
        node("many", "FusedConv2D", "x", "k", fused_ops=["Relu"] * 1000),
        node("batch", "_FusedBatchNormEx", "x", "k", "k", "k", "k"),
        node("mode", "_FusedBatchNormEx", *"xkkkk", is_training=False, activation_mode="Odd"),
        node("map", "MapFn", "x", body=body, mapped=1),
    ]
    names = [one.name for one in nodes]
    with pytest.raises(PortError) as caught:
        ported(graph(nodes, {"k": drawn(3)}, *names))
    reasons = [
        "'none' (its BiasAdd has no operand)",
        "'over' (its fused_ops [] leave an input over)",
        "'many' (its fused_ops are [",
        "'batch' (it takes the statistics of its batch)",
        "'mode' (its activation_mode is 'Odd')",
        "'y' (its fused_ops contain 'Odd')",
    ]
    for reason in reasons:
        assert reason in str(caught.value)
    assert len(str(caught.value)) < 2000
