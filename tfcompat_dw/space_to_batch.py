"""What ``tf.nn.depthwise_conv2d`` returns for a stride and a dilation together.

TensorFlow 2.21 dilates by moving the ``d`` phases of a dimension (phase ``r`` has the positions
``r``, ``r + d``, ...) into the batch, and the stride is then taken within a phase.  Its output
``o`` is ::

    sum_j filter[j] * padded[o % d + d * (stride * (o // d) + j)]

where the plain convolution has ``padded[o * stride + d * j]``.  SAME padding is that of stride 1;
``padded`` is rounded up to a multiple of ``d``, and what this adds is cropped from the output.

Here each phase is a strided view of the real input, its share of the padding goes to the operator,
and the phases' outputs are interleaved: no padded image is made.  An output or gradient that would
be cropped is not computed at all, so it cannot carry an Inf of the filter to where it does not
belong.  16-bit phases run in float32, because the filter's gradient is summed over them and is to
be rounded once.

How an image falls into phases is worked out for its size, so a traced call holds for that height
and width (and every batch).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import index
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from tfcompat_dw.layout import channels_last_in_memory
from tfcompat_dw.padding import Window, dilated_kernel

_ops = torch.ops.tfcompat_dw

Pair = tuple[int, int]


class _Phase(NamedTuple):
    """One phase of one dimension: ``outputs`` are a convolution of ``inputs``."""

    outputs: slice
    inputs: slice
    input_size: int
    before: int
    after: int
    stride: int
    dilation: int


class _Dimension(NamedTuple):
    """Rows or columns of a call."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def outputs(self) -> int:
        """Size of the result."""
        length = self.before + self.size + self.after
        crop = -length % self.dilation
        per_phase = ((length + crop) // self.dilation - self.kernel) // self.stride + 1
        return per_phase * self.dilation - crop

    def phases(self) -> list[_Phase]:
        """The phases in the order of their outputs."""
        if self.outputs <= self.dilation:
            # None has two outputs, so none takes a step: together they are one convolution.  This
            # also bounds the number of phases, whatever the dilation.
            return [self._phase(0, 1, stride=1, dilation=self.dilation)]
        return [
            self._phase(first, self.dilation, stride=self.stride, dilation=1)
            for first in range(self.dilation)
        ]

    def _phase(self, first: int, gap: int, *, stride: int, dilation: int) -> _Phase:
        """The phase of the padded positions ``first``, ``first + gap``, ..."""
        # Some are padding, then come those of the input, from start on.
        padding = _ceil_div(self.before - first, gap)
        start = first + padding * gap - self.before
        inputs = _ceil_div(self.size - start, gap)
        # Both are taken as far as the last window reaches; for no output, so far that none fits.
        outputs = _ceil_div(self.outputs - first, gap)
        reach = max(0, (outputs - 1) * stride + dilated_kernel(self.kernel, dilation))
        before = min(padding, reach)
        inputs = min(inputs, reach - before) if outputs else 0
        return _Phase(
            outputs=slice(first, None, gap),
            inputs=slice(start, start + inputs * gap, gap),
            input_size=inputs,
            before=before,
            after=reach - before - inputs,
            stride=stride,
            dilation=dilation,
        )


class _Phases(NamedTuple):
    """A phase of the rows with a phase of the columns."""

    rows: _Phase
    columns: _Phase
    window: Window

    def of_input(self, image: Tensor) -> Tensor:
        """This phase's view of an input."""
        return _slice(image, self.rows.inputs, self.columns.inputs, self.window)

    def of_output(self, image: Tensor) -> Tensor:
        """This phase's view of an output."""
        return _slice(image, self.rows.outputs, self.columns.outputs, self.window)


def output_size(window: Window, size: Pair, kernel: Pair) -> Pair:
    """Rows and columns of the result on an image of ``size`` (rows, columns)."""
    rows, columns = _dimensions(window, size, kernel)
    return rows.outputs, columns.outputs


def depthwise_conv2d(input: Tensor, filter: Tensor, bias: Tensor | None, window: Window) -> Tensor:
    """The convolution.  SAME pads in ``window`` are those of stride 1, here and below."""
    input, window, restore = _name_axes_as_stored(input, window)
    size, kernel = window.rows_and_columns(input.shape), (filter.shape[0], filter.shape[1])
    wide_filter, wide_bias = _widen(filter), None if bias is None else _widen(bias)

    def convolve(phase: _Phases) -> Tensor:
        image = _widen(phase.of_input(input))
        return _round(
            _ops.depthwise_conv2d(image, wide_filter, wide_bias, *phase.window), input.dtype
        )

    outputs = [[convolve(phase) for phase in row] for row in _grid(window, size, kernel)]
    return restore(_interleave(outputs, output_size(window, size, kernel), window))


def depthwise_conv2d_backward_input(
    input_size: tuple[int, int, int, int], filter: Tensor, grad: Tensor, window: Window
) -> Tensor:
    """The adjoint in the input: every input position belongs to one phase, so nothing is summed."""
    size = window.rows_and_columns(input_size)
    batch, channels = input_size[0], filter.shape[2]
    grad, window, restore = _name_axes_as_stored(grad, window)
    wide_filter = _widen(filter)

    def backward(phase: _Phases) -> Tensor:
        rows, columns = phase.rows.input_size, phase.columns.input_size
        phase_size = (
            (batch, rows, columns, channels)
            if window.channels_last
            else (batch, channels, rows, columns)
        )
        return _round(
            _ops.depthwise_conv2d_backward_input(
                phase_size, wide_filter, _widen(phase.of_output(grad)), *phase.window
            ),
            grad.dtype,
        )

    # In the order of the inputs they start at, which padding rotates against that of the outputs.
    grid = _grid(window, size, (filter.shape[0], filter.shape[1]))
    grid.sort(key=lambda row: row[0].rows.inputs.start)
    for row in grid:
        row.sort(key=lambda phase: phase.columns.inputs.start)
    return restore(_interleave([[backward(phase) for phase in row] for row in grid], size, window))


def depthwise_conv2d_backward_filter(
    input: Tensor, filter_size: tuple[int, int, int, int], grad: Tensor, window: Window
) -> Tensor:
    """The adjoint in the filter: the sum over the phases, in their order."""
    size, kernel = window.rows_and_columns(input.shape), (filter_size[0], filter_size[1])
    parts = (
        _ops.depthwise_conv2d_backward_filter(
            _widen(phase.of_input(input)), filter_size, _widen(phase.of_output(grad)), *phase.window
        )
        for row in _grid(window, size, kernel)
        for phase in row
    )
    return _round(reduce(torch.add, parts), input.dtype)


def _dimensions(window: Window, size: Pair, kernel: Pair) -> tuple[_Dimension, _Dimension]:
    """Rows and columns, in numbers: index() makes a traced size one, which int() does not."""
    (top, bottom, left, right), stride, dilation = window.padding, window.stride, window.dilation
    rows = (size[0], kernel[0], stride[0], dilation[0], top, bottom)
    columns = (size[1], kernel[1], stride[1], dilation[1], left, right)
    return _Dimension(*map(index, rows)), _Dimension(*map(index, columns))


def _grid(window: Window, size: Pair, kernel: Pair) -> list[list[_Phases]]:
    """All phases of an image, by phase of the rows and phase of the columns."""
    rows, columns = (dimension.phases() for dimension in _dimensions(window, size, kernel))

    def phases(row: _Phase, column: _Phase) -> _Phases:
        own_window = Window(
            (row.stride, column.stride),
            (row.before, row.after, column.before, column.after),
            (row.dilation, column.dilation),
            window.channels_last,
        )
        return _Phases(row, column, own_window)

    return [[phases(row, column) for column in columns] for row in rows]


def _interleave(grid: list[list[Tensor]], size: Pair, window: Window) -> Tensor:
    """The image of ``size`` of which ``grid[r][c]`` is ``[r::len(grid), c::len(grid[0])]``.

    Where a phase ends early, the image is zero.
    """
    row_axis = 1 if window.channels_last else 2

    def along(axis: int, phases: list[Tensor], length: int) -> Tensor:
        longest = _ceil_div(length, len(phases))
        front = (0, 0) * (3 - axis)  # pad() counts axes from the last.
        padded = [pad(phase, (*front, 0, longest - phase.shape[axis])) for phase in phases]
        return torch.stack(padded, axis + 1).flatten(axis, axis + 1).narrow(axis, 0, length)

    rows = [along(row_axis + 1, row, size[1]) for row in grid]
    return along(row_axis, rows, size[0]).contiguous()


def _name_axes_as_stored(
    image: Tensor, window: Window
) -> tuple[Tensor, Window, Callable[[Tensor], Tensor]]:
    """``image`` and ``window`` with the axes in memory order, and the way back for a result."""
    channels_last = window.channels_last
    stored = channels_last_in_memory(image, channels_last)
    if stored == channels_last:
        return image, window, lambda result: result
    to_nhwc, to_nchw = (0, 2, 3, 1), (0, 3, 1, 2)
    there, back = (to_nhwc, to_nchw) if stored else (to_nchw, to_nhwc)
    return (
        image.permute(there),
        window._replace(channels_last=stored),
        lambda result: result.permute(back),
    )


def _slice(image: Tensor, rows: slice, columns: slice, window: Window) -> Tensor:
    return image[:, rows, columns] if window.channels_last else image[:, :, rows, columns]


def _widen(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _round(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Undo ``_widen`` on a result, except where autocast has chosen the result's dtype."""
    return tensor.to(dtype) if tensor.dtype is torch.float32 else tensor


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
