"""Products and convolutions, for operands that are not constant; those of constants are layers."""

from __future__ import annotations

import re
from typing import Any

from tfcompat_dw.porting.config import shown
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes.arguments import (
    Table,
    channels_last,
    flag,
    operand,
    operands,
    padding,
    real,
    shape,
    spatial,
    takes,
    text,
)
from tfcompat_dw.porting.nodes.call import Bound, NodeCall

_EQUATION = re.compile(r"[A-Za-z.,\s]{1,200}(->[A-Za-z.\s]{0,50})?")


def _matmul(call: NodeCall) -> Bound:
    names = ("adj_x", "adj_y") if call.op.startswith("Batch") else ("transpose_a", "transpose_b")
    turned = zip(("transpose_a", "transpose_b"), names, strict=True)
    kwargs = {argument: True for argument, key in turned if flag(call, key)}
    if kwargs and str(call.attributes.get("T")).startswith("complex"):
        raise UnsupportedLayerError("it turns a matrix of complex numbers")
    return Bound("matmul", operands(call, 2), kwargs)


def _einsum(call: NodeCall) -> Bound:
    equation = call.attributes.get("equation")
    if not isinstance(equation, str) or not _EQUATION.fullmatch(equation):
        raise UnsupportedLayerError(f"its equation is {shown(equation)}")
    return Bound("einsum", (list(operands(call)), equation.replace(" ", "")))


def _last(call: NodeCall) -> dict[str, Any]:
    return {} if channels_last(call) else {"channels_last": False}


def _bias_add(call: NodeCall) -> Bound:
    return Bound("bias_add", operands(call, 2), _last(call))


def _windows(call: NodeCall, rank: int) -> tuple[Any, ...]:
    return (
        spatial(call, "strides", rank),
        padding(call, rank, explicit=rank == 2),
        spatial(call, "dilations", rank, 1),
    )


def _convolution(rank: int, call: NodeCall) -> Bound:
    return Bound("convolution", (*operands(call, 2), *_windows(call, rank)), _last(call))


def _transposed_convolution(rank: int, call: NodeCall) -> Bound:
    sizes = shape(call, 0, "input_sizes")
    if len(sizes) != rank + 2:
        raise UnsupportedLayerError(f"its input_sizes are {shown(sizes)}")
    args = (sizes, operand(call, 1), operand(call, 2), *_windows(call, rank))
    return Bound("transposed_convolution", args, _last(call))


def _depthwise_convolution(call: NodeCall) -> Bound:
    return Bound("depthwise_convolution", (*operands(call, 2), *_depthwise_windows(call)))


def _depthwise_windows(call: NodeCall) -> tuple[Any, ...]:
    strides, pads, dilations = _windows(call, 2)
    is_last = channels_last(call)
    if not isinstance(pads, str):
        pads = [[0, 0], *pads, [0, 0]] if is_last else [[0, 0], [0, 0], *pads]
    return strides, pads, dilations, "NHWC" if is_last else "NCHW"


def _fused_batch_norm(call: NodeCall) -> Bound:
    kwargs = {
        "epsilon": real(call, "epsilon", 1e-4),
        "is_training": flag(call, "is_training", True),
        **_last(call),
    }
    return Bound("fused_batch_norm", operands(call, 5), kwargs)


def _fused_batch_norm_with_activation(call: NodeCall) -> Bound:
    """Grappler's ``_FusedBatchNormEx``: one result that anything takes."""
    if flag(call, "is_training", True):
        raise UnsupportedLayerError("it takes the statistics of its batch")
    args = [*operands(call, 5), real(call, "epsilon", 1e-4), False, channels_last(call)]
    kind = text(call, "activation_mode", "Identity", "Identity", "Relu")
    steps: list[list[Any]] = [["Add", one] for one in operands(call, None, 5)]
    return Bound("fused", ("normalized", args, [*steps, *([["Relu"]] if kind == "Relu" else [])]))


# ---- several functions in one node ---------------------------------------------------------------

_ACTIVATIONS = ("Relu", "Relu6", "Elu", "Sigmoid", "Tanh", "GeluExact", "GeluApproximate")


def _fused(call: NodeCall) -> Bound:
    """``fused_ops`` follow the product; their operands follow its own."""
    if "MatMul" in call.op:
        turned = [flag(call, "transpose_a"), flag(call, "transpose_b")]
        base, args = "matmul", [*operands(call, 2), *turned]
    elif "Depthwise" in call.op:
        base, args = "depthwise_convolution", [*operands(call, 2), *_depthwise_windows(call)]
    else:
        base = "convolution"
        args = [*operands(call, 2), *_windows(call, 2), channels_last(call)]
    return Bound("fused", (base, args, _steps(call)))


def _steps(call: NodeCall) -> list[list[Any]]:
    names = call.attributes.get("fused_ops") or []
    if not isinstance(names, (list, tuple)):
        raise UnsupportedLayerError(f"its fused_ops are {shown(names)}")
    rest = list(operands(call, None, 2))
    is_last = "MatMul" in call.op or channels_last(call)
    steps: list[list[Any]] = []
    for name in names:
        count = {"BiasAdd": 1, "Add": 1, "Prelu": 1, "FusedBatchNorm": 4}.get(name, 0)
        taken, rest = rest[:count], rest[count:]
        if len(taken) < count:
            raise UnsupportedLayerError(f"its {name} has no operand")
        if name == "BiasAdd":
            taken.append(is_last)
        elif name == "FusedBatchNorm":
            taken += [real(call, "epsilon", 1e-4), False, is_last]
        elif name == "LeakyRelu":
            taken.append(real(call, "leakyrelu_alpha", 0.2))
        elif not count and name not in _ACTIVATIONS:
            raise UnsupportedLayerError(f"its fused_ops contain {shown(name)}")
        steps.append([name, *taken])
    return steps


HANDLERS: Table = {
    "MatMul": takes(2, 2, _matmul),
    "BatchMatMul": takes(2, 2, _matmul),
    "BatchMatMulV2": takes(2, 2, _matmul),
    "BatchMatMulV3": takes(2, 2, _matmul),
    "Einsum": takes(1, 8, _einsum),
    "BiasAdd": takes(2, 2, _bias_add),
    "BiasAddV1": takes(2, 2, _bias_add),
    "Conv2D": takes(2, 2, lambda call: _convolution(2, call)),
    "Conv3D": takes(2, 2, lambda call: _convolution(3, call)),
    "Conv2DBackpropInput": takes(3, 3, lambda call: _transposed_convolution(2, call)),
    "Conv3DBackpropInputV2": takes(3, 3, lambda call: _transposed_convolution(3, call)),
    "DepthwiseConv2dNative": takes(2, 2, _depthwise_convolution),
    "FusedBatchNorm": takes(5, 5, _fused_batch_norm),
    "FusedBatchNormV2": takes(5, 5, _fused_batch_norm),
    "FusedBatchNormV3": takes(5, 5, _fused_batch_norm),
    "_FusedBatchNormEx": takes(5, 6, _fused_batch_norm_with_activation),
    **{
        op: takes(2, None, _fused)
        for op in ("_FusedConv2D", "_FusedMatMul", "FusedDepthwiseConv2dNative",
                   "_FusedDepthwiseConv2dNative", "FusedConv2D", "FusedMatMul")
    },
}  # fmt: skip
