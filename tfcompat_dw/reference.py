"""The operators in plain PyTorch: the oracle of the tests and the fallback on other devices.

Written to be right at a glance rather than fast: a loop over the taps, each of which meets a
rectangle of outputs and a strided rectangle of inputs.  A tap's positions in the padding are not in
its rectangle, so they add nothing, not even where the filter or gradient is Inf or NaN.

16-bit tensors are summed in float32 and rounded once; signatures are those of the operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tfcompat_dw.layout import channels_last_in_memory, empty_in_order
from tfcompat_dw.padding import Window, at_least_zero


def depthwise_conv2d(
    input: Tensor,
    filter: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    channels_last: bool,
) -> Tensor:
    """The convolution, in the input's memory order."""
    window = _window(stride, padding, dilation, channels_last)
    image = _nhwc(input, channels_last)
    batch, rows, columns, channels = image.shape
    kernel_rows, kernel_columns, _, multiplier = filter.shape
    sizes = window.output_size((rows, columns), (kernel_rows, kernel_columns))
    out_rows, out_columns = map(at_least_zero, sizes)  # below zero: an empty image without padding
    dtype = _sum_dtype(input)
    sums = image.new_zeros((batch, out_rows, out_columns, channels, multiplier), dtype=dtype)
    for row, column, outputs, inputs in _taps(window, (rows, columns), filter.shape):
        taps = filter[row, column].to(dtype)
        sums[outputs].addcmul_(image[inputs].to(dtype).unsqueeze(-1), taps)
    result = sums.flatten(3)
    if bias is not None:
        result += bias.to(dtype)
    return _store(result, input, channels_last)


def depthwise_conv2d_backward_input(
    input_size: Sequence[int],
    filter: Tensor,
    grad: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    channels_last: bool,
) -> Tensor:
    """The gradient of the input, in the memory order of ``grad``."""
    window = _window(stride, padding, dilation, channels_last)
    size = window.rows_and_columns(input_size)
    _, _, channels, multiplier = filter.shape
    dtype = _sum_dtype(grad)
    gradients = _split(_nhwc(grad, channels_last), channels, multiplier)
    sums = grad.new_zeros((input_size[0], *size, channels), dtype=dtype)
    for row, column, outputs, inputs in _taps(window, size, filter.shape):
        taps = filter[row, column].to(dtype)
        sums[inputs] += (gradients[outputs].to(dtype) * taps).sum(-1)
    return _store(sums, grad, channels_last)


def depthwise_conv2d_backward_filter(
    input: Tensor,
    filter_size: Sequence[int],
    grad: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    channels_last: bool,
) -> Tensor:
    """The gradient of the filter, contiguous ``[h, w, in, mult]``."""
    window = _window(stride, padding, dilation, channels_last)
    image = _nhwc(input, channels_last)
    size = window.rows_and_columns(input.shape)
    _, _, channels, multiplier = filter_size
    dtype = _sum_dtype(grad)
    gradients = _split(_nhwc(grad, channels_last), channels, multiplier)
    sums = grad.new_zeros(tuple(filter_size), dtype=dtype)
    for row, column, outputs, inputs in _taps(window, size, filter_size):
        products = image[inputs].to(dtype).unsqueeze(-1) * gradients[outputs].to(dtype)
        sums[row, column] = products.sum((0, 1, 2))
    return sums.to(grad.dtype)


_Rectangle = tuple[slice, slice, slice]
"""Indices of an NHWC image: all of the batch, some rows, some columns."""


def _taps(
    window: Window, size: tuple[int, int], filter_size: Sequence[int]
) -> Iterator[tuple[int, int, _Rectangle, _Rectangle]]:
    """(row, column, outputs, inputs) of every tap that meets the input."""
    kernel = (filter_size[0], filter_size[1])
    out_rows, out_columns = window.output_size(size, kernel)
    top, _, left, _ = window.padding
    everything = slice(None)
    for row in range(kernel[0]):
        rows = _valid(size[0], out_rows, window.stride[0], row * window.dilation[0] - top)
        for column in range(kernel[1]):
            columns = _valid(
                size[1], out_columns, window.stride[1], column * window.dilation[1] - left
            )
            if rows and columns:
                outputs = (everything, rows[0], columns[0])
                inputs = (everything, rows[1], columns[1])
                yield row, column, outputs, inputs


def _valid(size: int, outputs: int, stride: int, offset: int) -> tuple[slice, slice] | None:
    """The outputs ``o`` whose ``o * stride + offset`` is inside the input, and those inputs."""
    first = max(0, -(offset // stride))  # ceil(-offset / stride)
    end = min(outputs, (size - 1 - offset) // stride + 1)
    if first >= end:
        return None
    start = first * stride + offset
    return slice(first, end), slice(start, start + (end - first - 1) * stride + 1, stride)


def _window(
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], channels_last: bool
) -> Window:
    (row, column), (top, bottom, left, right), (row_gap, column_gap) = stride, padding, dilation
    return Window((row, column), (top, bottom, left, right), (row_gap, column_gap), channels_last)


def _sum_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype is torch.float64 else torch.float32


def _nhwc(image: Tensor, channels_last: bool) -> Tensor:
    return image if channels_last else image.permute(0, 2, 3, 1)


def _split(image: Tensor, channels: int, multiplier: int) -> Tensor:
    """The channels of an NHWC output by input channel and filter: a view in any memory order."""
    return image.view(*image.shape[:3], channels, multiplier)


def _store(sums: Tensor, like: Tensor, channels_last: bool) -> Tensor:
    """Round the NHWC ``sums`` to the dtype and into the axes and memory order of ``like``."""
    result = sums if channels_last else sums.permute(0, 3, 1, 2)
    in_memory = channels_last_in_memory(like, channels_last)
    stored = empty_in_order(like, result.shape, channels_last, in_memory)
    return stored.copy_(result)
