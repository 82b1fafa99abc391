"""The convolution and its gradients as their definitions read: plain loops, in float64.

Nothing here is shared with the package but the definition.  Everything is NHWC with explicit pads
(top, bottom, left, right); only the channels are vectors.  ``positions`` says which padded position
an output's tap reads, so the plain and the space-to-batch convolution differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Axis(NamedTuple):
    """One dimension of a convolution."""

    outputs: int
    position: Callable[[int, int], int]
    """Of the input, from output and tap; outside of the input it is padding."""


def plain(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> Axis:
    """The ordinary strided, dilated convolution."""
    # One step at a time, so as not to repeat the formula under test.
    outputs = 0
    while outputs * stride + (kernel - 1) * dilation < before + size + after:
        outputs += 1
    return Axis(outputs, lambda o, tap: o * stride + tap * dilation - before)


def same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after): the least padding that gives ``ceil(size / stride)`` outputs."""
    outputs = len(range(0, size, stride))
    total = 0
    while total + size < (outputs - 1) * stride + (kernel - 1) * dilation + 1:
        total += 1
    return total // 2, total - total // 2


def space_to_batch(
    size: int, kernel: int, stride: int, dilation: int, before: int, after: int
) -> Axis:
    """What tf.nn.depthwise_conv2d 2.21 does: the stride is taken within each dilation phase.

    Literally: pad, fill up to a multiple of the dilation, deal the positions out to the phases,
    convolve each phase with stride and VALID, deal the outputs back, crop what was filled up.
    """
    length = before + size + after
    crop = 0
    while (length + crop) % dilation:
        crop += 1
    in_phase = plain((length + crop) // dilation, kernel, stride, 1, 0, 0)
    phases = [list(range(length + crop))[phase::dilation] for phase in range(dilation)]

    def position(o: int, tap: int) -> int:
        phase, o_in_phase = o % dilation, o // dilation
        return phases[phase][in_phase.position(o_in_phase, tap)] - before

    return Axis(max(0, in_phase.outputs * dilation - crop), position)


def terms(
    rows: Axis, columns: Axis, size: tuple[int, int], kernel: tuple[int, int]
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """(output row, column, tap row, column, input row, column) of every product."""
    for oh in range(rows.outputs):
        for ow in range(columns.outputs):
            for kh in range(kernel[0]):
                for kw in range(kernel[1]):
                    ih, iw = rows.position(oh, kh), columns.position(ow, kw)
                    if 0 <= ih < size[0] and 0 <= iw < size[1]:
                        yield oh, ow, kh, kw, ih, iw


def forward(image: Array, filter: Array, rows: Axis, columns: Axis) -> Array:
    """Output [n, oh, ow, c*m]."""
    batch, height, width, channels = image.shape
    kernel_rows, kernel_columns, _, multiplier = filter.shape
    out = np.zeros((batch, rows.outputs, columns.outputs, channels, multiplier))
    kernel = (kernel_rows, kernel_columns)
    for n in range(batch):
        for oh, ow, kh, kw, ih, iw in terms(rows, columns, (height, width), kernel):
            out[n, oh, ow] += image[n, ih, iw][:, None] * filter[kh, kw]
    return out.reshape(batch, rows.outputs, columns.outputs, channels * multiplier)


def backward_input(
    size: tuple[int, ...], filter: Array, grad: Array, rows: Axis, columns: Axis
) -> Array:
    """Gradient of the input, [n, h, w, c]."""
    batch, height, width, channels = size
    kernel_rows, kernel_columns, _, multiplier = filter.shape
    grad = grad.reshape(*grad.shape[:3], channels, multiplier)
    out = np.zeros(size)
    kernel = (kernel_rows, kernel_columns)
    for n in range(batch):
        for oh, ow, kh, kw, ih, iw in terms(rows, columns, (height, width), kernel):
            out[n, ih, iw] += (grad[n, oh, ow] * filter[kh, kw]).sum(-1)
    return out


def backward_filter(
    image: Array, size: tuple[int, ...], grad: Array, rows: Axis, columns: Axis
) -> Array:
    """Gradient of the filter, [kh, kw, c, m]."""
    batch, height, width, channels = image.shape
    kernel_rows, kernel_columns, _, multiplier = size
    grad = grad.reshape(*grad.shape[:3], channels, multiplier)
    out = np.zeros(size)
    kernel = (kernel_rows, kernel_columns)
    for n in range(batch):
        for oh, ow, kh, kw, ih, iw in terms(rows, columns, (height, width), kernel):
            out[kh, kw] += image[n, ih, iw][:, None] * grad[n, oh, ow]
    return out


class Case(NamedTuple):
    """A convolution whose exact results, in float64, are known."""

    image: Array
    filter: Array
    grad: Array
    rows: Axis
    columns: Axis

    def forward(self) -> Array:
        return forward(self.image, self.filter, self.rows, self.columns)

    def backward_input(self) -> Array:
        return backward_input(self.image.shape, self.filter, self.grad, self.rows, self.columns)

    def backward_filter(self) -> Array:
        return backward_filter(self.image, self.filter.shape, self.grad, self.rows, self.columns)

    def magnitudes(self) -> Case:
        """The case whose results are the sums of the absolute values of the terms."""
        return Case(abs(self.image), abs(self.filter), abs(self.grad), self.rows, self.columns)

    def check(
        self,
        result: torch.Tensor | None = None,
        input_grad: torch.Tensor | None = None,
        filter_grad: torch.Tensor | None = None,
    ) -> None:
        """The given results, NHWC, are these to within the rounding that the contract allows."""
        sizes = self.magnitudes()
        kernel_rows, kernel_columns, _, multiplier = self.filter.shape
        taps = kernel_rows * kernel_columns
        if result is not None:
            _check(result, self.forward(), sizes.forward(), taps)
        if input_grad is not None:
            _check(input_grad, self.backward_input(), sizes.backward_input(), taps * multiplier)
        if filter_grad is not None:
            pixels = self.image.shape[0] * self.rows.outputs * self.columns.outputs
            _check(filter_grad, self.backward_filter(), sizes.backward_filter(), pixels)


def _check(actual: torch.Tensor, exact: Array, magnitude: Array, terms: int) -> None:
    """``actual`` is ``exact`` but for its summation and one rounding.

    A sum of n products in any order, fused or not, is off by at most g = n*u / (1 - n*u) times the
    sum of their absolute values, where u is the unit roundoff of the sum's dtype (Higham, Accuracy
    and Stability of Numerical Algorithms, section 3.1).  ``exact`` has the same error in float64.
    Rounding to 16 bits adds half a unit in the last place, relative or, below the normal numbers,
    absolute.
    """
    assert tuple(actual.shape) == exact.shape
    unit = 2.0**-53 if actual.dtype == torch.float64 else 2.0**-24
    gamma = sum(terms * u / (1 - terms * u) for u in (unit, 2.0**-53))
    bound = gamma * magnitude
    if actual.dtype in (torch.float16, torch.bfloat16):
        info = torch.finfo(actual.dtype)
        bound = bound + info.eps / 2 * np.maximum(abs(exact) + bound, info.tiny)
    error = abs(actual.to(torch.float64).numpy() - exact)
    assert (error <= bound).all(), f"off by {(error / bound).max():.3g} times the bound"
