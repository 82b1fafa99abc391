"""Exporting models that use the operator to ONNX; needs ``pip install tfcompat_dw[onnx]``.

::

    torch.onnx.export(
        model, (x,), "model.onnx", dynamo=True,
        custom_translation_table=tfcompat_dw.onnx.onnx_translation_table(),
    )

The forward operator becomes ONNX's ``Conv`` with one group per channel.  ONNX knows NCHW only, so
an operator with NHWC axes stands between two ``Transpose`` nodes; padding that depends on a
dynamic size (SAME with a stride) becomes a ``Pad`` node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = ["onnx_translation_table"]

_TO_NCHW = (0, 3, 1, 2)
_TO_NHWC = (0, 2, 3, 1)


def onnx_translation_table() -> dict[Any, Callable[..., Any]]:
    """For ``custom_translation_table`` of ``torch.onnx.export(dynamo=True)``.

    Raises:
        ImportError: without onnxscript.
    """
    try:
        import onnxscript
    except ImportError as error:
        raise ImportError(
            "tfcompat_dw.onnx needs onnxscript; install it with pip install 'tfcompat_dw[onnx]'"
        ) from error
    op: Any = onnxscript.opset18

    def depthwise_conv2d(
        input: Any,
        filter: Any,
        bias: Any,
        stride: Sequence[int],
        padding: Sequence[Any],
        dilation: Sequence[int],
        channels_last: bool,
    ) -> Any:
        height, width, channels, multiplier = _static(filter)
        image = op.Transpose(input, perm=_TO_NCHW) if channels_last else input
        weight = op.Reshape(
            op.Transpose(filter, perm=(2, 3, 0, 1)),
            op.Constant(value_ints=[channels * multiplier, 1, height, width]),
        )
        top, bottom, left, right = padding
        pads = [top, left, bottom, right]
        if not all(isinstance(pad, int) for pad in pads):
            image = op.Pad(image, _concatenated(op, [0, 0, *pads[:2], 0, 0, *pads[2:]]))
            pads = [0, 0, 0, 0]
        operands = (image, weight) if bias is None else (image, weight, bias)
        result = op.Conv(*operands, strides=stride, pads=pads, dilations=dilation, group=channels)
        return op.Transpose(result, perm=_TO_NHWC) if channels_last else result

    return {torch.ops.tfcompat_dw.depthwise_conv2d.default: depthwise_conv2d}


def _static(filter: Any) -> list[int]:
    sizes = list(filter.shape)
    if not all(isinstance(size, int) for size in sizes):
        raise ValueError(
            f"tfcompat_dw: ONNX's Conv has a fixed number of groups, so a filter must have fixed "
            f"sizes to be exported, got {sizes}; leave its dimensions out of dynamic_shapes"
        )
    return sizes


def _concatenated(opset: Any, sizes: Sequence[Any]) -> Any:
    """One int64 vector of numbers, some of which are known at run time only."""
    one_each = opset.Constant(value_ints=[1])
    parts = [
        opset.Constant(value_ints=[size])
        if isinstance(size, int)
        else opset.Reshape(opset.Cast(size, to=_INT64), one_each)
        for size in sizes
    ]
    return opset.Concat(*parts, axis=0)


_INT64 = 7
"""``onnx.TensorProto.INT64``."""
