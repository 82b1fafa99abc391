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
}
