"""Products and convolutions of operands none of which has to be a constant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tfcompat_dw.functional import depthwise_conv2d
from tfcompat_dw.porting.functions.arrays import Array, as_tensor
from tfcompat_dw.porting.functions.image import Padding, padded, pads_of
from tfcompat_dw.porting.layers.arguments import from_first, to_first


def _matmul(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    a = as_tensor(a, b)
    b = as_tensor(b, a)
    return (a.mT if transpose_a else a) @ (b.mT if transpose_b else b)


def _einsum(xs: Sequence[Array], equation: str) -> Tensor:
    like = next((x for x in xs if isinstance(x, Tensor)), None)
    return torch.einsum(equation, [as_tensor(x, like) for x in xs])


def _bias_add(x: Tensor, bias: Array, channels_last: bool = True) -> Tensor:
    bias = as_tensor(bias, x)
    if channels_last or x.dim() < 3:
        return x + bias
    return x + bias.reshape(-1, *[1] * (x.dim() - 2))


_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _convolution(
    x: Array,
    filter: Array,
    strides: Sequence[int],
    padding: Padding,
    dilations: Sequence[int],
    channels_last: bool = True,
) -> Tensor:
    """``Conv2D`` and ``Conv3D``: a filter of ``[*kernel, in, out]``."""
    x = as_tensor(x, filter)
    image = to_first(x, channels_last)
    weight = _weight(as_tensor(filter, x))
    pads = pads_of(image.shape[2:], weight.shape[2:], strides, dilations, padding)
    groups = image.shape[1] // weight.shape[1]
    convolve = _CONVOLUTIONS[len(strides)]
    y = convolve(padded(image, pads), weight, None, list(strides), 0, list(dilations), groups)
    return from_first(y, channels_last)


def _weight(filter: Tensor) -> Tensor:
    """``[out, in, *kernel]``."""
    return filter.permute(filter.dim() - 1, filter.dim() - 2, *range(filter.dim() - 2))


def _transposed_convolution(
    sizes: Sequence[int],
    filter: Array,
    x: Array,
    strides: Sequence[int],
    padding: Padding,
    dilations: Sequence[int],
    channels_last: bool = True,
) -> Tensor:
    """``Conv2DBackpropInput``: an image of ``sizes``, in the axes' order of the data format."""
    x = as_tensor(x, filter)
    image = to_first(x, channels_last)
    weight = _weight(as_tensor(filter, x))
    wanted = list(sizes[1:-1] if channels_last else sizes[2:])
    kernel = weight.shape[2:]
    pads = pads_of(wanted, kernel, strides, dilations, padding)
    channels = sizes[-1] if channels_last else sizes[1]
    groups = channels // weight.shape[1]
    _check_fits(image.shape[2:], wanted, kernel, strides, dilations, pads)
    y = _TRANSPOSED[len(strides)](image, weight, None, list(strides), 0, 0, groups, list(dilations))
    ends = [
        end
        for size, full, (before, _) in reversed(list(zip(wanted, y.shape[2:], pads, strict=True)))
        for end in (-before, size + before - full)
    ]
    return from_first(F.pad(y, ends), channels_last)


def _check_fits(
    given: Sequence[int],
    wanted: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> None:
    """Whether the convolution of an image of the wanted size gives one of the given size."""
    for n, size, k, s, d, pair in zip(given, wanted, kernel, strides, dilations, pads, strict=True):
        out = (size + sum(pair) - (k - 1) * d - 1) // s + 1
        if isinstance(out, int) and isinstance(n, int) and out != n:
            raise ValueError(f"an image of {size} would be convolved to {out}, but {n} are given")


def _depthwise_convolution(
    x: Array,
    filter: Array,
    strides: Sequence[int],
    padding: Any,
    dilations: Sequence[int],
    data_format: Literal["NHWC", "NCHW"] = "NHWC",
) -> Tensor:
    """A filter of ``[h, w, in, multiplier]``; strides and dilations may both be above 1."""
    x = as_tensor(x, filter)
    return depthwise_conv2d(
        x,
        as_tensor(filter, x),
        list(strides),
        padding,
        data_format,
        list(dilations),
        strided_dilation="plain",
    )


def _fused_batch_norm(
    x: Tensor,
    scale: Array,
    offset: Array,
    mean: Array,
    variance: Array,
    epsilon: float,
    is_training: bool,
    channels_last: bool = True,
) -> list[Tensor]:
    """The image, and statistics; those of the batch if ``is_training``."""
    kind = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    scale, offset, mean, variance = (
        as_tensor(one, x).to(kind) for one in (scale, offset, mean, variance)
    )
    shape = [1] * x.dim()
    shape[-1 if channels_last else 1] = -1
    values, unbiased = x.to(kind), variance
    if is_training:
        over = [axis for axis in range(x.dim()) if shape[axis] == 1]
        variance, mean = torch.var_mean(values, over, correction=0)
        count = values.numel() // mean.numel() if mean.numel() else 1
        unbiased = variance * (count / torch.sym_max(count - 1, 1))
    factor = torch.rsqrt(variance + epsilon) * scale
    y = (values - mean.reshape(shape)) * factor.reshape(shape) + offset.reshape(shape)
    return [y.to(x.dtype), mean, unbiased, mean, variance, mean.new_empty(0)]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "matmul": _matmul,
    "einsum": _einsum,
    "bias_add": _bias_add,
    "convolution": _convolution,
    "transposed_convolution": _transposed_convolution,
    "depthwise_convolution": _depthwise_convolution,
    "fused_batch_norm": _fused_batch_norm,
}
