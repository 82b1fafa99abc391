"""TensorFlow's window arithmetic, one dimension at a time, and ``Window``, what it comes to.

Every size may be a ``torch.SymInt`` where the annotations say ``int``, and nothing here branches
on one: tracing a SAME convolution at one image size records the formula, not the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch

Padding = Literal["SAME", "VALID"] | tuple[int, int, int, int]
"""A padding rule: TensorFlow's two names, or explicit (top, bottom, left, right)."""


class Window(NamedTuple):
    """How the window slides: the tail of every operator schema, in its order.

    ``torch.ops.tfcompat_dw.depthwise_conv2d(input, filter, bias, *window)``
    """

    stride: tuple[int, int]
    """Rows, columns."""
    padding: tuple[int, int, int, int]
    """Top, bottom, left, right."""
    dilation: tuple[int, int]
    """Rows, columns."""
    channels_last: bool
    """Whether the axes are [n, h, w, c] (True) or [n, c, h, w]."""

    @staticmethod
    def resolve(
        padding: Padding,
        size: tuple[int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        channels_last: bool,
    ) -> Window:
        """The window of a call on an image of ``size`` (rows, columns)."""
        if padding == "SAME":
            padding = (
                *same_padding(size[0], kernel[0], stride[0], dilation[0]),
                *same_padding(size[1], kernel[1], stride[1], dilation[1]),
            )
        elif padding == "VALID":
            padding = (0, 0, 0, 0)
        return Window(stride, padding, dilation, channels_last)

    def rows_and_columns(self, shape: Sequence[int]) -> tuple[int, int]:
        """The spatial two of an image's four sizes."""
        return (shape[1], shape[2]) if self.channels_last else (shape[2], shape[3])

    def output_size(self, size: tuple[int, int], kernel: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the result on an image of ``size`` (rows, columns)."""
        (top, bottom, left, right), stride, dilation = self.padding, self.stride, self.dilation
        return (
            output_size(size[0], kernel[0], stride[0], dilation[0], top, bottom),
            output_size(size[1], kernel[1], stride[1], dilation[1], left, right),
        )


def dilated_kernel(kernel: int, dilation: int) -> int:
    """How far ``kernel`` taps reach when they lie ``dilation`` apart."""
    return (kernel - 1) * dilation + 1


def at_least_zero(size: int) -> int:
    """``max(0, size)`` without a branch on a SymInt, and without sym_max's time for an int."""
    if isinstance(size, torch.SymInt):
        return cast(int, torch.sym_max(0, size))
    # int() is for torch.jit.trace, where sizes are tensors; it warns that the trace is for one size
    return max(0, size if isinstance(size, int) else int(size))


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after) of TensorFlow's SAME: ``ceil(size / stride)`` outputs, the odd one after.

    The formula of the "Padding" notes of ``tf.nn``; it depends on the input's size, which is why a
    SAME convolution with a stride has no fixed padding.
    """
    outputs = (size + stride - 1) // stride
    missing = (outputs - 1) * stride + dilated_kernel(kernel, dilation) - size
    total = at_least_zero(missing)  # negative where the stride steps over the last inputs
    before = total // 2
    return before, total - before


def output_size(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """Number of window positions on ``before + size + after`` elements, for a kernel that fits."""
    return (before + size + after - dilated_kernel(kernel, dilation)) // stride + 1
